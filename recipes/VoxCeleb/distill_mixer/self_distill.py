#!/usr/bin/env python3
"""Distil a system in rounds: from the second on, the teacher is the last round's best student.

python self_distill.py hparams/v2.yaml --rounds 3 --corpus_dir data/mini [--key value ...]

What follows --rounds and --ngpu goes to train_distill.py. The first round is the system as ever,
round k trains into exp/<corpus>/<system>_round<k>/seed_<seed>/. Run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import ruamel.yaml
from rich.console import Console
from rich.table import Table

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import atomic_path
from speechbrain_ext.systems.command_line import read_command_line
from speechbrain_ext.systems.train_log import best_epoch, read_train_log
from speechbrain_ext.systems.yaml import resolve_hparams

TRAIN = Path(__file__).with_name("train_distill.py")
LAUNCH = TRAIN.parent / "local" / "launch.py"


class Round(NamedTuple):
    """A training: its folder, its teacher's, and its part of the command line."""

    folder: str
    teacher: str
    arguments: list[str]


def main() -> None:
    """Train the rounds that are not finished, then write and print their figures."""
    parser = argparse.ArgumentParser(
        description="Distil a system in rounds. All other options go to train_distill.py.",
        usage="%(prog)s hparams/SYSTEM.yaml [--rounds N] [--ngpu N] [--key value ...]",
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=int, default=2, help="trainings, one after another")
    parser.add_argument(
        "--ngpu", type=int, default=0, help="processes, one a GPU; 0: no GPU is asked for"
    )
    args, argv = parser.parse_known_args()
    for name, least in (("rounds", 1), ("ngpu", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)} is too few: give {least} or more")
    if not argv or argv[0].startswith("--"):
        raise UserError("the first argument is a system's YAML, as hparams/v2.yaml: give one")

    rounds = plan(argv, args.rounds)
    launch = [sys.executable]
    if args.ngpu:
        launch += [str(LAUNCH), str(args.ngpu)]
    table = Table("round", "teacher", "folder", "epoch", "valid EER (%)")
    results = []
    for number, this in enumerate(rounds, start=1):
        # A finished training ends at once, and one made with other settings is refused.
        if subprocess.run([*launch, str(TRAIN), *argv, *this.arguments]).returncode:
            raise UserError(
                f"round {number} failed, for the reason above: mend it and run this again, which "
                "keeps the rounds that are finished"
            )
        best = best_epoch(
            read_train_log(Path(this.folder) / "train_log.jsonl", "stage 3 (the student)")
        )
        assert best is not None
        epoch, eer = best["epoch"], best["valid"]["eer"]
        results.append(
            {
                "round": number,
                "teacher": this.teacher,
                "folder": this.folder,
                "epoch": epoch,
                "valid_eer": eer,
            }
        )
        table.add_row(str(number), this.teacher, this.folder, str(epoch), f"{eer:.2f}")
        with atomic_path(Path(rounds[0].folder) / "rounds.json") as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    Console().print(table)


def plan(argv: list[str], count: int) -> list[Round]:
    """The rounds of a command line of train_distill.py.

    Raises
    ------
    UserError
        When the system does not learn from ``teacher_folder``, or the command line names the folder
        that each round has of its own.
    """
    first = _resolve(argv)
    rounds = [Round(first["output_folder"], first["teacher_folder"], [])]
    for number in range(2, count + 1):
        system = f"{first['system']}_round{number}"
        arguments = ["--system", system, "--teacher_folder", rounds[-1].folder]
        settings = _resolve([*argv, *arguments])
        if settings["output_folder"] == first["output_folder"]:
            raise UserError(
                f"--output_folder {first['output_folder']} names one folder, and each round has "
                "its own: leave it out, or put it in terms of the system in a YAML"
            )
        rounds.append(Round(settings["output_folder"], rounds[-1].folder, arguments))
    return rounds


def _resolve(argv: list[str]) -> dict[str, Any]:
    """The settings of a command line, none of their classes made."""
    line = read_command_line(argv)
    yaml = ruamel.yaml.YAML()
    yaml.width = 10**6  # no path is broken over lines
    settings = yaml.load(resolve_hparams(line.path, line.overrides, line.given))
    teacher = io.StringIO()
    yaml.dump({"teacher": settings.get("teacher")}, teacher)
    if str(settings.get("teacher_folder")) not in teacher.getvalue():
        raise UserError(
            f"{line.path} has no teacher that comes from teacher_folder, so a student cannot take "
            "its place: choose a system with one, as hparams/v2.yaml"
        )
    return settings


if __name__ == "__main__":
    with friendly_exit():
        main()
