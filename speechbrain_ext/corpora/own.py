"""The corpus that is made of one's own speech."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from speechbrain_ext.corpora.maker import CorpusMaker, refuse_forgotten
from speechbrain_ext.corpora.mirror.make import MAX_FAILED_OPTION, mirror_source, print_outcome
from speechbrain_ext.errors import UserError


class OwnSpeech(CorpusMaker):
    """Your own speech, mirrored as mono files of 16 kHz.

    With labels it is a folder that holds a folder for each speaker, <speaker>/<session>/<utterance>
    or <speaker>/<utterance>, or it is a list of files. local/convert_audio.py says which lists.
    Without labels it is any folder.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--data", type=Path, help="the labelled speech to train on; it stays as it is"
        )
        parser.add_argument(
            "--trials_root", type=Path, help="the speech that trial lists name; it stays as it is"
        )
        parser.add_argument("--max_failed", **MAX_FAILED_OPTION)

    def prepare(self, out: Path, options: argparse.Namespace) -> dict[str, Any]:
        """Mirror the speech; the corpus is called as its folder is."""
        if options.data is None and options.unlabelled is None:
            raise UserError(
                "there is no speech to train on: give --data, --unlabelled or both.",
                code="bad-command",
            )
        refuse_forgotten(out / "dev", "--data", options.data)
        for source, part in ((options.data, "dev"), (options.trials_root, "test")):
            if source is not None:
                outcome = mirror_source(source, out / part, options.jobs, options.max_failed)
                print_outcome(outcome, out / part)
        name = os.path.basename(os.path.abspath(out))
        return {"name": name, "title": name, "synthetic": False}


CORPUS = OwnSpeech()
