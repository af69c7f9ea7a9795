#!/usr/bin/env python3
"""Write a trained system as a folder that SpeechBrain's inference classes load.

    python export.py exp/mini/v2/seed_1 [--out DIR]

The folder is loaded once before it is put in place, and has a README of its own. It holds the
decision threshold of the speakers held out of training, where these have been scored.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.export.model_folder import count_words, write_model_folder


def main() -> None:
    """Write ``export/`` into the experiment folder, or the folder asked for."""
    parser = argparse.ArgumentParser(description="Write a folder that SpeechBrain loads.")
    parser.add_argument("experiment", type=Path, help="folder of a finished training")
    parser.add_argument("--out", type=Path, help="folder to write; EXPERIMENT/export by default")
    args = parser.parse_args()

    folder = args.out or args.experiment / "export"
    facts = write_model_folder(args.experiment, folder)
    print(
        f"{args.experiment} exported to {folder}: {count_words(facts['parameters'])}, "
        f"{facts['speakers']} speakers, embeddings within {facts['difference']:.1e} of the recipe's"
    )


if __name__ == "__main__":
    with friendly_exit():
        main()
