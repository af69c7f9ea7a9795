"""Files of embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.verification.embeddings import Embeddings, load_embeddings, save_embeddings
from tests.refusals import refused


def _vectors(rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 3)).astype(np.float32)


def test_saved_is_loaded_again(tmp_path: Path) -> None:
    """Names, vectors and hash come back bit for bit, from a file that needs no pickle."""
    saved = Embeddings(["ä/1", "b/2"], _vectors(2), "0f3a")
    save_embeddings(tmp_path / "test.npz", saved)
    loaded = load_embeddings(tmp_path / "test.npz")
    assert loaded.ids == saved.ids
    assert loaded.weights_sha256 == "0f3a"
    assert loaded.vectors.dtype == np.float32
    np.testing.assert_array_equal(loaded.vectors, saved.vectors)
    with np.load(tmp_path / "test.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype.kind for name in arrays} == {
            "ids": "U",
            "embeddings": "f",
            "weights_sha256": "U",
        }


def test_what_does_not_fit_together_is_refused() -> None:
    """Doubled names, wrong shapes and other types are told at once."""
    with pytest.raises(ValueError, match="'a' has more than one"):
        Embeddings(["a", "b", "a"], _vectors(3), "")
    with pytest.raises(ValueError, match=r"2 ids need vectors of shape \(2, D\), not \(3, 3\)"):
        Embeddings(["a", "b"], _vectors(3), "")
    with pytest.raises(ValueError, match="float64"):
        Embeddings(["a"], _vectors(1).astype(np.float64), "")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Missing, cut off, foreign and contradictory files are each refused by name."""
    path = tmp_path / "test.npz"
    with refused("missing-file", "test.npz"):
        load_embeddings(path)
    save_embeddings(path, Embeddings(["a"], _vectors(1), ""))
    whole = path.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with refused("damaged-file", "test.npz"):
            load_embeddings(path)
    np.savez(path, other=np.zeros(3))
    with refused("damaged-file", "test.npz", "'ids'"):
        load_embeddings(path)
    np.savez(path, ids=np.array(["a", "a"]), embeddings=_vectors(2), weights_sha256=np.array(""))
    with refused("damaged-file", "test.npz", "'a'"):
        load_embeddings(path)
