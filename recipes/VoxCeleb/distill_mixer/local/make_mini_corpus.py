#!/usr/bin/env python3
"""Make the embedded corpus: synthetic speech of invented speakers, laid out like VoxCeleb.

    python local/make_mini_corpus.py --out data/mini

The same as `prepare_corpus.py mini`; --help lists the options.
"""

from speechbrain_ext.corpora.maker import corpus_command

if __name__ == "__main__":
    corpus_command("mini")
