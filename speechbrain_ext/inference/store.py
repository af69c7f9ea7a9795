"""Embeddings kept while they are made, so that a run that was killed goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from speechbrain_ext.corpora.evaluation_lists import Audio
from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.embeddings import (
    BrokenEmbeddings,
    Embeddings,
    read_embeddings,
    save_embeddings,
)

Stamp = tuple[int, int]


class EmbeddingStore:
    """Embeddings by audio file, in ``part_<number>.npz`` files; a later part counts.

    Each part is a file of :func:`~speechbrain_ext.verification.embeddings.save_embeddings`, with
    the size and time of change of each audio file as ``stamps``, (N, 2).

    Arguments
    ---------
    folder : Path
        Where the parts are.
    weights_sha256 : str
        Hash of the weights of the model that the folder belongs to.
    seconds : float
        How long embeddings are held back before a part is written.

    Example
    -------
    >>> store = EmbeddingStore(getfixture("tmp_path"), "0f3a")
    >>> store.add({"/a.wav": np.ones(3, dtype=np.float32)}, {"/a.wav": (100, 5)})
    >>> store.flush()
    >>> store.known()
    {'/a.wav': (100, 5)}
    >>> store.matrix(["/a.wav"])
    array([[1., 1., 1.]], dtype=float32)
    """

    def __init__(self, folder: Path, weights_sha256: str = "", seconds: float = 30.0) -> None:
        self.folder, self.weights_sha256, self.seconds = folder, weights_sha256, seconds
        self.next_part, self.step = 0, 1
        self._vectors: dict[str, np.ndarray] = {}
        self._stamps: dict[str, Stamp] = {}
        self._written = time.monotonic()

    def number_parts(self, rank: int, world_size: int) -> None:
        """Number the parts so that the processes of one run write different ones.

        All of them call this before any of them writes.
        """
        numbers = [int(part.stem.removeprefix("part_")) for part in self._parts()]
        self.next_part = max(numbers, default=-1) + 1 + rank
        self.step = world_size

    def known(self) -> dict[str, Stamp]:
        """The files with an embedding, and their stamps when they were read."""
        found: dict[str, Stamp] = {}
        for part in self._parts():
            kept = self._read(part, with_vectors=False)
            stamps = kept.provenance["stamps"].tolist()
            found.update(
                (name, (size, time)) for name, (size, time) in zip(kept.ids, stamps, strict=True)
            )
        return found

    def missing(self, audio: Iterable[Audio]) -> list[Audio]:
        """The files without an embedding of what they hold now."""
        known = self.known()
        return [each for each in audio if known.get(each.path) != each.stamp]

    def add(self, vectors: Mapping[str, np.ndarray], stamps: Mapping[str, Stamp]) -> None:
        """Keep embeddings (D,) float32; written now and then."""
        self._vectors.update(vectors)
        self._stamps.update({name: stamps[name] for name in vectors})
        if time.monotonic() - self._written > self.seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is held back.

        Raises
        ------
        UserError
            When it cannot be written.
        """
        self._written = time.monotonic()
        if not self._vectors:
            return
        path = self.folder / f"part_{self.next_part:06d}.npz"
        ids = list(self._vectors)
        embeddings = Embeddings(
            ids,
            np.stack(list(self._vectors.values())),
            self.weights_sha256,
            {"stamps": np.array([self._stamps[name] for name in ids], dtype=np.int64)},
        )
        try:
            save_embeddings(path, embeddings)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): mend that and run again to go on.",
                code="unwritable",
            ) from None
        self.next_part += self.step
        self._vectors, self._stamps = {}, {}

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """The embeddings (N, D) of these files, read part by part.

        Raises
        ------
        UserError
            When one is missing.
        """
        row_of = {name: row for row, name in enumerate(names)}
        filled = np.zeros(len(names), dtype=bool)
        matrix = np.empty((0, 0), dtype=np.float32)
        for part in self._parts():
            kept = self._read(part)
            rows = np.array([row_of.get(name, -1) for name in kept.ids], dtype=np.int64)
            if not len(matrix):
                matrix = np.empty((len(names), kept.vectors.shape[1]), dtype=np.float32)
            matrix[rows[rows >= 0]] = kept.vectors[rows >= 0]
            filled[rows[rows >= 0]] = True
        if not filled.all():
            first = names[int(np.flatnonzero(~filled)[0])]
            raise UserError(
                f"{self.folder} lacks {int((~filled).sum())} embeddings, the first of {first}: run "
                "again to make them.",
                code="missing-embedding",
            )
        return matrix

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part_*.npz"))

    def _read(self, part: Path, with_vectors: bool = True) -> Embeddings:
        try:
            kept = read_embeddings(part, with_vectors)
            if "stamps" not in kept.provenance:
                raise BrokenEmbeddings("the array 'stamps' is missing")
            return kept
        except (FileNotFoundError, BrokenEmbeddings) as error:
            raise UserError(
                f"{part} is damaged ({error}): remove it and run again, which makes its embeddings "
                "anew.",
                code="damaged-file",
            ) from None
