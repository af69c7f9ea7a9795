"""What the file of a gallery holds."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.heard import Heard, unit

FORMAT = "speaker gallery 1"
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Enrolled:
    """What a speaker is enrolled with by now.

    Arguments
    ---------
    name : str
        The speaker.
    recordings : int
        How many.
    seconds_of_speech : float
        In all of them.
    vad : str
        What told speech in the last ones: ``silero`` or ``energy``.
    """

    name: str
    recordings: int
    seconds_of_speech: float
    vad: str


class Speakers:
    """Names, and of each recording its speaker, embedding and seconds of speech."""

    def __init__(
        self, names: list[str], owners: np.ndarray, vectors: np.ndarray, speech: np.ndarray
    ) -> None:
        self.names, self.owners, self.vectors, self.speech = names, owners, vectors, speech
        self.about: dict[str, Any] = {}
        self._means: np.ndarray | None = None

    @classmethod
    def empty(cls, dim: int) -> Speakers:
        return cls([], np.zeros(0, np.int64), np.zeros((0, dim), np.float32), np.zeros(0))

    @classmethod
    def read(cls, path: Path) -> Speakers:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            owners, vectors, speech = (arrays[key] for key in ("owners", "vectors", "speech"))
        names = about.pop("names")
        if about.get("format") != FORMAT or not all(isinstance(name, str) for name in names):
            raise ValueError("another format")
        rows = len(owners)
        if owners.shape != (rows,) or speech.shape != (rows,) or vectors.ndim != 2:
            raise ValueError("arrays of other shapes")
        if len(vectors) != rows or not np.isfinite(vectors).all():
            raise ValueError("embeddings are missing or not finite")
        if not np.array_equal(np.unique(owners), np.arange(len(names))):
            raise ValueError("a speaker without a recording")
        kept = cls(names, owners.astype(np.int64), vectors.astype(np.float32), speech)
        kept.about = {key: str(about[key]) for key in ("format", "digest", "model", "enroller")}
        return kept

    def write(self, path: Path) -> None:
        text = json.dumps({**self.about, "names": self.names}).encode()
        with open(path, "wb") as stream:
            np.savez(
                stream,
                about=np.frombuffer(text, dtype=np.uint8),
                owners=self.owners,
                vectors=self.vectors,
                speech=self.speech,
            )

    @property
    def means(self) -> np.ndarray:
        """Of each speaker the mean of the embeddings of unit length, (N, D), of unit length."""
        if self._means is None:
            order = np.argsort(self.owners, kind="stable")
            first = np.searchsorted(self.owners[order], np.arange(len(self.names)))
            self._means = unit(np.add.reduceat(unit(self.vectors)[order], first, axis=0))
        return self._means

    def enrolled(self, name: str, vad: str) -> Enrolled:
        own = self.owners == self.names.index(name)
        return Enrolled(name, int(own.sum()), float(self.speech[own].sum()), vad)

    def with_recordings(self, added: Mapping[str, Sequence[Heard]]) -> Speakers:
        place = {name: row for row, name in enumerate(self.names)}
        owners, vectors, speech = list[int](), list[np.ndarray](), list[float]()
        for name, heard in added.items():
            owner = place.setdefault(name, len(place))
            known = {vector.tobytes() for vector in self.vectors[self.owners == owner]}
            for each in heard:
                if each.embedding.tobytes() not in known:
                    known.add(each.embedding.tobytes())
                    owners.append(owner)
                    vectors.append(each.embedding)
                    speech.append(each.seconds_of_speech)
        return Speakers(
            list(place),
            np.append(self.owners, np.array(owners, dtype=np.int64)),
            np.concatenate((self.vectors, *(vector[None] for vector in vectors))),
            np.append(self.speech, speech),
        )

    def without(self, name: str) -> Speakers:
        place = self.names.index(name)
        left = self.owners != place
        owners = self.owners[left]
        names = [each for each in self.names if each != name]
        return Speakers(names, owners - (owners > place), self.vectors[left], self.speech[left])


def checked_name(name: str) -> str:
    """A speaker's name as it counts: without white space around it, its accents composed.

    Raises
    ------
    UserError
        When it is empty, very long, or has a character that does not print.

    Example
    -------
    >>> checked_name(" ../Rene\\u0301 ") == "../Ren\\u00e9"
    True
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise UserError(
            f"{name[:50]!r} is no name of a speaker: give 1 to {_LONGEST_NAME} characters on one "
            "line",
            code="bad-name",
        )
    return name
