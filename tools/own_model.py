#!/usr/bin/env python3
"""Make the model that comes with the package of a folder that export.py wrote.

    python -m tools.own_model EXPORT

writes its INT8 network, what it decides by, its cohort where it has one, and its card to
`speechbrain_ext/runtime/model`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.export.card import count_words, operating_points_table
from speechbrain_ext.files import replaced_folder, written_files
from speechbrain_ext.runtime.folder import COHORT, FACTS, ModelFolder
from speechbrain_ext.runtime.model import OWN_MODEL
from speechbrain_ext.verification.conditions import CARD as CONDITIONS

MOST_BYTES = 3_000_000

CARD = """\
# The model that comes with `spk`

{size}, embeddings of {dim} numbers, {megabytes:.1f} MB with weights and activations of 8 bits. It
reads waveforms of 16 kHz. `hparams/v5_fast.yaml` of the recipe is its network: an MLP-Mixer without
attention.

## What it learnt from

Its teacher is CAM++ of 3D-Speaker (Apache-2.0), trained on 200,000 speakers. It learnt the
teacher's embeddings, without labels, of one hour of read English in its own and in ten synthetic
voices. The teacher heard them clean. The student heard half of them in white, pink or brown noise,
among synthetic voices (0 to 15 dB) or in a simulated room, and some quieter, in a telephone's band
or through a codec. The speech is

- 30 minutes of LibriSpeech (train-clean-100; Vassil Panayotov and others, 2015; CC BY 4.0);
- 30 minutes of the training part of speechocean762 (Zhang and others, Interspeech 2021): Mandarin
  speakers, half of them children. Its authors allow any use, commercial too, and distribute it
  under Apache-2.0.

The weights are under Apache-2.0, as the package is.

## How good it is

| trials | EER % [95 %] by the INT8 network | to PyTorch, points |
| --- | --- | ---: |
{trials}

The lists are of read English, of one recording a speaker in short pieces: a speaker's trials are of
one sitting, and those of another day are harder.

{points}
{conditions}
## Whom it is not for

It is small, and learnt from one hour of two kinds of read English. It makes several times the
errors of its teacher. Do not let it open doors or move money, and do not decide by it about people.
It was not tried on other languages, far or noisy rooms beyond the table, conversation, emotion,
illness, voices years apart, or imitated, recorded or synthetic voices, which it does not tell from
live ones. Groups of speakers (age, sex, accent) were not compared. Train a student on speech like
yours, and fit its thresholds there: `spk calibrate`.
"""


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description="Make the model that comes with the package.")
    parser.add_argument("export", type=Path, help="a folder that export.py wrote")
    args = parser.parse_args()
    given = ModelFolder(args.export)
    network = given.file("int8")
    content = given.read(network)
    files = [file for file in given.facts.get("files", []) if file["file"] == network.name]
    if not files or given.facts.get("decisions") is None:
        raise UserError(
            f"{args.export} has no INT8 file that was measured, or nothing to decide by: export a "
            "system whose held-out speakers have been scored",
            code="not-a-model",
        )
    with replaced_folder(OWN_MODEL) as draft:
        (draft / network.name).write_bytes(content)
        if COHORT in given.facts["sha256"]:
            (draft / COHORT).write_bytes(given.read(args.export / COHORT))
        conditions = args.export / CONDITIONS
        if conditions.is_file():
            (draft / CONDITIONS).write_text(conditions.read_text("utf-8"), encoding="utf-8")
        facts = {**given.facts, "files": files, "sha256": written_files(draft)}
        (draft / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        card = _card(facts, files[0], conditions.is_file())
        (draft / "README.md").write_text(card, encoding="utf-8")
        size = sum(path.stat().st_size for path in draft.iterdir())
        if size > MOST_BYTES:
            raise UserError(
                f"{args.export} would make a model of {size / 1e6:.1f} MB: give one of "
                f"{MOST_BYTES / 1e6:.0f} MB at most",
                code="not-a-model",
            )
    print(f"{OWN_MODEL}: {size / 1e6:.1f} MB")


def _card(facts: dict[str, Any], file: dict[str, Any], conditions: bool) -> str:
    trials = "\n".join(
        f"| {each['title']} | {each['eer']:.2f}{_interval(each)} | {each['difference']:+.2f} |"
        for each in file["trials"]
    )
    told = (
        f"[{CONDITIONS}]({CONDITIONS}) says what noise, rooms, lines and codecs cost it. Look "
        "there how many\nstrangers its threshold lets pass where both recordings are noisy; loud "
        "hum of the mains and others\nwho speak as loudly were not in its training.\n"
    )
    return CARD.format(
        size=count_words(facts["parameters"]),
        dim=facts["embedding_size"],
        megabytes=file["bytes"] / 1e6,
        trials=trials,
        points=operating_points_table(facts["decisions"]),
        conditions=told if conditions else "",
    )


def _interval(trials: dict[str, Any]) -> str:
    between = trials.get("interval_95")
    return "" if between is None else " [{:.2f}, {:.2f}]".format(*between)


if __name__ == "__main__":
    with friendly_exit():
        main()
