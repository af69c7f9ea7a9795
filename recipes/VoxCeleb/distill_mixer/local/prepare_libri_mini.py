#!/usr/bin/env python3
"""Make libri_mini, a small corpus of real read speech, of LibriSpeech's train-clean-100.

    python local/prepare_libri_mini.py --librispeech /data/LibriSpeech --out data/libri_mini

The same as `prepare_corpus.py libri_mini`; docs/libri_mini.md says what it makes.
"""

from speechbrain_ext.corpora.maker import corpus_command

if __name__ == "__main__":
    corpus_command("libri_mini")
