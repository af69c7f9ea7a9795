"""Commands that are killed at a moment that no clock decides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.processes import environment
from tests.recipe.tiny import RECIPE

# Python tells its audit hooks of a rename before it is made.
_SCRIPT = """
import os, runpy, signal, sys
part, number, script = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def look(event, args):
    global number
    if event == "os.rename" and part in os.fspath(args[1]):
        number -= 1
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
sys.argv = sys.argv[3:]
sys.path[0] = os.path.dirname(os.path.abspath(script))
runpy.run_path(script, run_name="__main__")
"""


def run_until(number: int, part: str | Path, script: str | Path, *arguments: Any) -> None:
    """Run a script of the recipe, and kill it before it puts a file in its place.

    Arguments
    ---------
    number : int
        Of the file, from 1: so many less one are whole by then.
    part : str or path
        What the paths of these files have in them.
    script : str or path
        Of the recipe.
    *arguments
        Its own.
    """
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, os.fspath(part), *map(str, [number, script, *arguments])],
        cwd=RECIPE,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
