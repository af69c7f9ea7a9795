"""What is remembered of a run between two calls of ablate.py."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from speechbrain_ext.files import atomic_path

WAITING, RUNNING, FINISHED, FAILED, BLOCKED = (
    "not run",
    "not finished",
    "finished",
    "failed",
    "not run because of another",
)
_ERROR = re.compile(r"error: |[\w.]*(Error|Exception|Interrupt)\b")


@dataclass
class Record:
    """State of a run; a file beside its log.

    Arguments
    ---------
    status : str
        One of the five above.
    error : str
        Why, where it is not finished.
    epochs : int
        Epochs it is trained for.
    averaged : int
        Of how many checkpoints its weights are the mean.
    weights : str, optional
        SHA-256 of the weights that its training ended with.
    scored : str, optional
        SHA-256 of the manifest that it was scored with.
    inputs : dict
        SHA-256 of the weights it was trained from, by system.
    begun, ended : str
        Times, ISO 8601.
    machine : dict
        Where it was trained.
    """

    status: str = WAITING
    error: str = ""
    epochs: int = 0
    averaged: int = 1
    weights: str | None = None
    scored: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    begun: str = ""
    ended: str = ""
    machine: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record; one that is missing or damaged is that of a run not begun."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")


def last_error(log: Path, start: int, status: int) -> str:
    """The line that says why a command failed.

    Arguments
    ---------
    log : Path
        What it wrote.
    start : int
        Byte of the log where its output begins.
    status : int
        Its exit status; negative for a signal.
    """
    with open(log, "rb") as file:
        file.seek(start)
        text = file.read().decode("utf-8", errors="replace")
    if status < 0:
        return f"killed by signal {-status}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _ERROR.match(line)]
    return (telling or lines or [f"ended with exit status {status}"])[-1].removeprefix("error: ")
