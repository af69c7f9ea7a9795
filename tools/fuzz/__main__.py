"""Damaged audio, lists and settings through the commands: each ends well or in a sentence.

    python -m tools.fuzz --seed 1 --count 10000
    python -m tools.fuzz --seed 1 --kind settings --only 17     one input again, with what it says

Inputs follow from the seed and their number. All commands run in this process, as a user would type
them. An end other than success or a user's error, or a file that is neither used nor named, is a
fault: it is printed with its traceback, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from speechbrain_ext.errors import friendly_exit
from tools.fuzz.attempts import KINDS, attempts
from tools.fuzz.command import prepare

MEMORY = 16 << 30  # bytes of addresses


def main() -> int:
    """Try all inputs; 1 when there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="from which all inputs follow")
    parser.add_argument("--count", type=int, default=900, help="inputs in all, files each")
    parser.add_argument("--kind", choices=KINDS, help="only these")
    parser.add_argument("--only", type=int, help="the number of one attempt of --kind")
    parser.add_argument("--table", type=Path, help="a CSV file for every attempt's end")
    options = parser.parse_args()
    # A network of a billion channels is refused here by the allocator, and not by the system, which
    # would end this process or another.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    kinds = [options.kind] if options.kind else [*KINDS]
    total = sum(KINDS[kind].weight for kind in kinds)
    rows: list[tuple[str, int, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="fuzz_") as work:
        prepared = prepare(Path(work))
        for kind in kinds:
            share = options.count * KINDS[kind].weight // total
            numbers = range(-(-share // KINDS[kind].group))
            if options.only is not None:
                numbers = range(options.only, options.only + 1)
            ends: Counter[str] = Counter()
            for number, end, words in attempts(prepared, options.seed, kind, numbers):
                ends[end] += 1
                rows.append((kind, number, end, words))
                if end == "fault" or options.only is not None:
                    print(f"--seed {options.seed} --kind {kind} --only {number}: {end}\n{words}")
            inputs = len(numbers) * KINDS[kind].group
            counts = ", ".join(f"{ends[end]} {end}" for end in ("well", "told", "fault"))
            print(f"{kind}: {inputs} inputs in {len(numbers)} attempts: {counts}", flush=True)
    if options.table:
        with open(options.table, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("kind", "number", "end", "words"), *rows])
    return int(any(end == "fault" for _, _, end, _ in rows))


if __name__ == "__main__":
    with friendly_exit():
        sys.exit(main())
