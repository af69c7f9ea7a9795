#!/usr/bin/env python3
"""Compare many systems over several seeds on one corpus.

    python compare.py hparams/comparisons/documents.yaml --seeds 3 --corpus_dir data/libri_mini

trains, embeds and scores what is missing, then writes ``RESULTS.md``, ``results.csv`` and plots,
all in ``exp/<corpus>/<comparison>``, a run in ``<system>/seed_<n>`` there. Stopped at any moment
and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechbrain_ext.compare.claims import read_claims
from speechbrain_ext.compare.commands import Workplace, check_runs
from speechbrain_ext.compare.plan import FOLDERS, read_plan
from speechbrain_ext.compare.results import write_results
from speechbrain_ext.compare.runner import Runner, gpus
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import claimed

RECIPE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, write the results; the exit status says whether every run is there."""
    options = parse(arguments)
    plan = read_plan(options.comparison, folders_of(options))
    claims = read_claims(plan)
    workplace = Workplace(plan, options.corpus_dir, RECIPE, options.exp_root)
    Corpus.read(workplace.manifests)  # says what is missing before anything is trained
    runs = plan.runs(options.seeds, options.only)
    if not options.report_only:
        check_runs(workplace, runs, options.comparison)
    for run in plan.runs(options.seeds) if options.only else ():
        if run not in runs:
            print(f"{run}: left out (--only)")
    for name, why in plan.left_out.items():
        print(f"{name}: left out, {why}")
    failed = 0
    with only_one(workplace.folder, options.report_only) as alone:
        if not options.report_only:
            failed = Runner(workplace, runs, options.jobs or max(1, len(gpus()))).run()
        given = sys.argv[1:] if arguments is None else arguments
        command = shlex.join(["python", "compare.py", *given])
        path = write_results(workplace, plan.runs(options.seeds), claims, command, alone)
        print(f"Results: {path}")
    if failed:
        print(f"{failed} of {len(runs)} runs are missing: see the table", file=sys.stderr)
    return int(failed > 0)


def folders_of(options: argparse.Namespace) -> dict[str, Path | None]:
    """The folders that systems may ask for: those of the command line, or else the corpus's own."""
    folders: dict[str, Path | None] = {}
    for key, name in FOLDERS.items():
        given, own = getattr(options, key), options.corpus_dir / name
        if given is not None and not given.is_dir():
            raise UserError(
                f"--{key} {given}: there is no such folder; give one with audio files",
                code="missing-folder",
            )
        folders[key] = given or (own if own.is_dir() else None)
    return folders


@contextlib.contextmanager
def only_one(folder: Path, report_only: bool) -> Iterator[bool]:
    """Refuse to train beside another compare.py; a report is told whether it is alone."""
    refusal = f"another compare.py is at work in {folder}: wait for its end"
    with contextlib.ExitStack() as held:
        alone = True
        try:
            held.enter_context(claimed(folder / "log", refusal))
        except UserError:
            if not report_only:
                raise
            alone = False
        yield alone


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("comparison", type=Path, help="a file of hparams/comparisons/")
    parser.add_argument("--seeds", type=_positive, default=1, help="seeds 1 to this number")
    parser.add_argument("--corpus_dir", type=Path, required=True, help="has manifests/")
    parser.add_argument(
        "--exp_root", type=Path, default=Path("exp"), help="folder that experiments are put into"
    )
    parser.add_argument(
        "--jobs", type=_positive, help="trainings side by side; default: the number of GPUs, or 1"
    )
    for key, name in FOLDERS.items():
        parser.add_argument(
            f"--{key}", type=Path, help=f"for systems that want one; default: {name} of the corpus"
        )
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="these and what they need")
    parser.add_argument("--report_only", action="store_true", help="train nothing")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    with friendly_exit():
        try:
            sys.exit(main())
        except KeyboardInterrupt:
            print("Stopped; the same command goes on from here.", file=sys.stderr)
            sys.exit(130)
