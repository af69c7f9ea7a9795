"""Embeddings kept while they are made, so that a run that was killed goes on."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path

Stamp = tuple[int, int]


class EmbeddingStore:
    """Embeddings by audio file, in ``part_<number>.npz`` files; a later part counts.

    Arguments
    ---------
    folder : Path
        Where the parts are.
    seconds : float
        How long embeddings are held back before a part is written.

    Example
    -------
    >>> store = EmbeddingStore(getfixture("tmp_path"))
    >>> store.add({"/a.wav": np.ones(3, dtype=np.float32)}, {"/a.wav": (100, 5)})
    >>> store.flush()
    >>> store.known()
    {'/a.wav': (100, 5)}
    >>> store.matrix(["/a.wav"])
    array([[1., 1., 1.]], dtype=float32)
    """

    def __init__(self, folder: Path, seconds: float = 30.0) -> None:
        self.folder, self.seconds = folder, seconds
        self.next_part, self.step = 0, 1
        self._vectors: dict[str, np.ndarray] = {}
        self._stamps: dict[str, Stamp] = {}
        self._written = time.monotonic()

    def share(self, rank: int, world_size: int) -> None:
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
            ids, stamps, _ = self._read(part, with_vectors=False)
            found.update(zip(ids, map(tuple, stamps.tolist()), strict=True))  # type: ignore[arg-type]
        return found

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
        try:
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(
                    file,
                    # Bytes: a path need not be UTF-8, and most are a quarter as long so.
                    ids=np.array([os.fsencode(name) for name in ids]),
                    stamps=np.array([self._stamps[name] for name in ids], dtype=np.int64),
                    embeddings=np.stack([self._vectors[name] for name in ids]),
                )
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): mend that and run again to go on."
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
            ids, _, vectors = self._read(part, with_vectors=True)
            rows = np.array([row_of.get(name, -1) for name in ids], dtype=np.int64)
            if not len(matrix):
                matrix = np.empty((len(names), vectors.shape[1]), dtype=np.float32)
            matrix[rows[rows >= 0]] = vectors[rows >= 0]
            filled[rows[rows >= 0]] = True
        if not filled.all():
            first = names[int(np.flatnonzero(~filled)[0])]
            raise UserError(
                f"{self.folder} lacks {int((~filled).sum())} embeddings, the first of {first}: run "
                "again to make them."
            )
        return matrix

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part_*.npz"))

    def _read(self, part: Path, with_vectors: bool) -> tuple[list[str], np.ndarray, np.ndarray]:
        try:
            with np.load(part, allow_pickle=False) as arrays:
                ids = [os.fsdecode(name) for name in arrays["ids"].tolist()]
                vectors = arrays["embeddings"] if with_vectors else np.empty(0)
                return ids, arrays["stamps"], vectors
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{part} is damaged ({error}): remove it and run again, which makes its embeddings "
                "anew."
            ) from None
