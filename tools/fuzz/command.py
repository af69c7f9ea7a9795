"""Commands of the recipe, run in this process, and what they need besides the input."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

from tests.recipe.experiments import make_experiment
from tests.recipe.tiny import make_corpus

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "VoxCeleb" / "distill_mixer"
HANG = 300  # seconds after which a command is taken to hang


class Fault(Exception):
    """What a command did that it must not."""


class Prepared(NamedTuple):
    """What commands need besides the input."""

    work: Path
    corpus: Path  # of tiny, with manifests
    teacher: Path  # an experiment of random weights
    student: Path


def prepare(work: Path) -> Prepared:
    """Make a corpus and two experiments."""
    corpus = make_corpus(work / "tiny")
    student = make_experiment(work / "student", "v2")
    teacher = make_experiment(work / "teacher", "teacher")
    return Prepared(work, corpus, teacher, student)


def run(script: str, *arguments: object) -> str:
    """Run a command of the recipe in this process.

    Returns
    -------
    str
        Nothing, or what it told its user when it ended in an error.

    Raises
    ------
    Fault
        When it ended in any other way.
    """
    said, stop = io.StringIO(), 0
    before, arguments_before = os.getcwd(), sys.argv
    os.chdir(RECIPE)
    sys.argv = [script, *map(str, arguments)]
    faulthandler.dump_traceback_later(HANG, exit=True)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        stop = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        raise Fault("".join(traceback.format_exception(error))) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.chdir(before)
        sys.argv = arguments_before
    text = said.getvalue()
    if "Traceback" in text:
        raise Fault(f"a traceback was printed:\n{text}")
    if stop == 0:
        return ""
    # argparse puts the command's name before.
    told = [line for line in text.splitlines() if "error: " in line or line.startswith("failed: ")]
    if not told:
        raise Fault(f"status {stop} and no sentence:\n{text[-2000:]}")
    return told[-1]
