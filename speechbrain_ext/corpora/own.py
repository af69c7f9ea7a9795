"""The corpus that is made of one's own speech."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from speechbrain_ext.corpora.maker import CorpusMaker, refuse_forgotten
from speechbrain_ext.corpora.mirror.make import check_source, mirror_source, print_outcome
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

    def prepare(self, out: Path, options: argparse.Namespace) -> dict[str, Any]:
        """Mirror the speech; the corpus is called as its folder is."""
        if options.data is None and options.unlabelled is None:
            raise UserError(
                "there is no speech to train on: give --data, --unlabelled or both.",
                code="bad-command",
            )
        refuse_forgotten(out / "dev", "--data", options.data)
        sources = {"dev": options.data, "test": options.trials_root}
        given = {out / part: source for part, source in sources.items() if source is not None}
        for mirror, source in given.items():
            check_source(source, mirror)  # all of them before the first takes its time
        for mirror, source in given.items():
            outcome = mirror_source(source, mirror, options.jobs, options.max_failed)
            print_outcome(outcome, mirror)
        name = os.path.basename(os.path.abspath(out))
        return {"name": name, "title": name, "synthetic": False}


CORPUS = OwnSpeech()
