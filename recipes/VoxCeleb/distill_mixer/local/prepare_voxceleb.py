#!/usr/bin/env python3
"""Check VoxCeleb as it was downloaded and bring it into the recipe's shape.

    python local/prepare_voxceleb.py --voxceleb1 DIR --voxceleb2 DIR --out data/voxceleb

The same as `prepare_corpus.py voxceleb`; --help lists the options.
"""

from speechbrain_ext.corpora.maker import corpus_command

if __name__ == "__main__":
    corpus_command("voxceleb")
