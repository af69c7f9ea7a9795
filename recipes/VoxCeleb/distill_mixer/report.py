"""Write the report of an experiment: a table, and one page that holds everything.

    python report.py EXPERIMENT --teacher TEACHER_EXPERIMENT --manifests data/mini/manifests

It reads what the stages before wrote. Into the experiment it writes `RESULTS.md`, `results.json`
(the same numbers) and `report.html` (one file that needs no network). `--teacher` is left out where
the teacher is a self-supervised model, which has no experiment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.files import atomic_path
from speechbrain_ext.report.collect import collect_experiment
from speechbrain_ext.report.page import render, to_results_md
from speechbrain_ext.report.table import build_table, show_table, to_numbers


def main(arguments: Sequence[str] | None = None) -> None:
    """Write EXP/report.html, EXP/results.json and EXP/RESULTS.md, and print the table."""
    options = parse(arguments)
    with friendly_exit():
        experiment = collect_experiment(options.exp, options.teacher, options.manifests)
        table = build_table(experiment)
        files = {
            "report.html": render(experiment, table),
            "results.json": json.dumps(to_numbers(experiment), indent=2, ensure_ascii=False) + "\n",
            "RESULTS.md": to_results_md(experiment, table),
        }
        for name, text in files.items():
            with atomic_path(options.exp / name) as path:
                path.write_text(text, encoding="utf-8")
        show_table(table)
        # Not wrapped, so that a terminal makes a link of it.
        print(f"Report: {options.exp / 'report.html'}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write the report of an experiment.")
    parser.add_argument("exp", type=Path, help="the student's experiment folder")
    parser.add_argument(
        "--teacher", type=Path, help="the teacher's experiment folder, where it has one"
    )
    parser.add_argument(
        "--manifests", type=Path, required=True, help="the folder with the corpus's manifest.json"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
