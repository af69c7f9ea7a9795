"""A service in a process of its own, which tests watch and kill."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.processes import ROOT, environment


class Server(NamedTuple):
    """A running service."""

    process: subprocess.Popen[str]
    url: str

    def peak(self) -> float:
        """The most memory that it has held at once, in MiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read())[0]) / 1024


STAND_IN = ("-m", "tests.serve.stand_in")
SPK = ("-c", "from speechbrain_ext.cli.main import main; main()")


@contextlib.contextmanager
def serving(
    *options: str, program: tuple[str, ...] = STAND_IN, **variables: str
) -> Iterator[Server]:
    """Start the stand-in, or a program that serves, and end it as a power cut would.

    It hears Ctrl-C even where the tests run in the background, whose processes inherit that they
    do not.
    """
    command = [sys.executable, *program, *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**environment(), **variables},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"http://\S+", process.stdout.readline())
            assert found, "it did not start"
            yield Server(process, found[0])
        finally:
            process.send_signal(signal.SIGKILL)
