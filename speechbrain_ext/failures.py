"""Files that could not be used among many: told on a terminal, and kept in a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from speechbrain_ext.files import atomic_path

FAILURES = "failures.tsv"
_MOST_SHOWN = 20


class Failure(NamedTuple):
    """A file without an embedding: its path, a word for the cause, the detail."""

    path: str
    cause: str
    detail: str


def write_failures(path: str | os.PathLike[str], failures: Sequence[Failure]) -> None:
    """Write a table of failures; without any, the file is removed.

    Example
    -------
    >>> path = getfixture("tmp_path") / FAILURES
    >>> write_failures(path, [Failure("a.wav", "empty", "0 bytes")])
    >>> path.read_text()
    'path\\tcause\\tdetail\\na.wav\\tempty\\t0 bytes\\n'
    >>> write_failures(path, [])
    >>> path.exists()
    False
    """
    if not failures:
        Path(path).unlink(missing_ok=True)
        return
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        file.write("path\tcause\tdetail\n")
        for failure in failures:
            file.write("\t".join(map(_printable, failure)) + "\n")


def tell_failures(failures: Sequence[Failure], table: str | os.PathLike[str]) -> None:
    """Print the first failures on standard error, and where the others are."""
    for failure in failures[:_MOST_SHOWN]:
        line = "failed: " + ": ".join(map(_printable, failure))
        # The terminal need not know all letters of a name.
        encoding = sys.stderr.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)
    if len(failures) > _MOST_SHOWN:
        print(f"... and {len(failures) - _MOST_SHOWN} more, in {table}", file=sys.stderr)


def _printable(text: str) -> str:
    """Without line ends, tabs and what else moves a terminal's cursor."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
