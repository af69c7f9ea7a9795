"""Bars of progress are for who watches: they go to a terminal, never into a file."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, TextIO

from tqdm import tqdm

TERMINAL = "PROGRESS_TERMINAL"


def progress_bar(iterable: Any = None, *, disable: bool = False, **settings: Any) -> tqdm:
    """A bar on standard error, where that is a terminal; else on the one that is named.

    Arguments
    ---------
    iterable : iterable, optional
        What is gone through.
    disable : bool
        Whether there is none in any case.
    **settings
        Of ``tqdm``.

    Returns
    -------
    tqdm
        Silent without a terminal. A caller that keeps what its commands write, as ``run.sh`` does,
        names its own in the environment, ``PROGRESS_TERMINAL=/dev/pts/0``.

    Example
    -------
    >>> sum(progress_bar(range(4), disable=True))
    6
    """
    terminal = None if disable else _terminal()
    return tqdm(iterable, file=terminal, disable=terminal is None, **settings)


@functools.cache
def _named(path: str) -> TextIO | None:
    try:
        file = open(path, "w", encoding="utf-8")
    except OSError:  # of a session that has ended
        return None
    return file if file.isatty() else None


def _terminal() -> TextIO | None:
    if sys.stderr.isatty():
        return sys.stderr
    return _named(os.environ[TERMINAL]) if os.environ.get(TERMINAL) else None
