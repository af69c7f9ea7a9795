"""The kinds of inputs, and an attempt with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tools.fuzz.audio import GROUP, audio
from tools.fuzz.command import Fault, Prepared
from tools.fuzz.damage import Random
from tools.fuzz.lists import lists
from tools.fuzz.settings import settings


class Kind(NamedTuple):
    """What tries an input, and its share of all."""

    attempt: Callable[[Prepared, int, Random], str]
    weight: int
    group: int  # inputs of an attempt


KINDS = {
    "audio": Kind(audio, 4, GROUP),
    "lists": Kind(lists, 4, 1),
    "settings": Kind(settings, 1, 1),
}


def attempts(
    prepared: Prepared, seed: int, kind: str, numbers: Sequence[int]
) -> Iterator[tuple[int, str, str]]:
    """Try inputs; each attempt's number, its end (``well``, ``told``, ``fault``), the words."""
    for number in numbers:
        draw = np.random.default_rng([seed, [*KINDS].index(kind), number])
        try:
            told = KINDS[kind].attempt(prepared, number, draw)
            yield number, "told" if told else "well", told
        except Fault as fault:
            yield number, "fault", str(fault)
