"""What the verbs have in common: options, the model, audio on standard input, answers in JSON."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime import SpeakerModel, load_model
from speechbrain_ext.runtime.hearing import UnusableAudio

#: The audio on standard input.
STDIN = "-"


def number(text: str) -> float:
    """A number as options take it: one that others can be less or more than, and JSON can hold.

    Example
    -------
    >>> number("0.5")
    0.5
    >>> number("nan")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    typer.BadParameter: 'nan' is no number
    """
    with contextlib.suppress(ValueError):
        if math.isfinite(found := float(text)):
            return found
    raise typer.BadParameter(f"{text!r} is no number")


Audio = Annotated[
    str, typer.Argument(metavar="AUDIO", help="A file of any format and rate; - is standard input.")
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        envvar="SPK_MODEL",
        help="A folder that export made, or an ONNX file; the package's own model by default.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(help="Of the folder's files: int8, fp32 or fp16; the first that there is."),
]
Threads = Annotated[int, typer.Option(help="Of the CPU.", max=256)]
Json = Annotated[bool, typer.Option("--json", help="Answer in one line of JSON.")]
DecisionsFile = Annotated[
    Path | None,
    typer.Option("--decisions", help="A file of calibrate, in place of what the model decides by."),
]
FalseAlarm = Annotated[
    float,
    typer.Option(help="Share of pairs of two speakers that may be taken for one.", parser=number),
]
Threshold = Annotated[
    float | None, typer.Option(help="A cosine of your own, in place of the model's.", parser=number)
]
GalleryFile = Annotated[
    Path, typer.Option("--gallery", "-g", envvar="SPK_GALLERY", help="The file of the speakers.")
]


def open_model(
    source: Path | None, precision: str | None, threads: int, decisions: Path | None = None
) -> SpeakerModel:
    """The model that these options name."""
    return load_model(source, precision=precision, threads=threads, decisions=decisions)


def tell(as_json: bool, facts: Any, *lines: str) -> None:
    """Print facts as JSON, or the lines that say them."""
    if as_json:
        print(json.dumps(facts))
    else:
        print("\n".join(lines))


@contextlib.contextmanager
def given_audio(*names: str) -> Iterator[list[str]]:
    """Give the paths of audio that is named on the command line.

    Arguments
    ---------
    *names : str
        Paths; of one that is ``-`` standard input is kept in a file meanwhile.

    Yields
    ------
    list of str
        Paths to read.

    Raises
    ------
    UserError
        When standard input is asked for twice, or is closed.

    Example
    -------
    >>> with given_audio("a.wav", "b.wav") as paths:
    ...     paths
    ['a.wav', 'b.wav']
    """
    if STDIN not in names:
        yield list(names)
        return
    if names.count(STDIN) > 1:
        raise UserError("standard input holds one recording: give - once", code="bad-command")
    if sys.stdin is None:
        raise UserError("standard input is closed: give a file in place of -", code="missing-file")
    with tempfile.NamedTemporaryFile() as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        try:
            yield [kept.name if name == STDIN else name for name in names]
        except UnusableAudio as error:
            raise error.called("standard input") if error.name == kept.name else error from None


def percent(share: float) -> str:
    """A share as a percentage.

    Example
    -------
    >>> percent(0.01), percent(0.0001), percent(0.025)
    ('1 %', '0.01 %', '2.5 %')
    """
    return f"{100 * share:g} %"
