#!/usr/bin/env python3
"""Stage 0: make a corpus.

    python local/prepare_corpus.py mini --out data/mini
    python local/prepare_corpus.py voxceleb --help

A corpus is a file of speechbrain_ext/corpora; its options are its own.
"""

from __future__ import annotations

import sys

from speechbrain_ext.corpora.maker import corpus_command, corpus_names

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        names = " | ".join(corpus_names())
        print(f"usage: prepare_corpus.py {{{names}}} --out DIR [options]\n\n{__doc__}")
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    corpus_command(sys.argv[1], sys.argv[2:], f"prepare_corpus.py {sys.argv[1]}")
