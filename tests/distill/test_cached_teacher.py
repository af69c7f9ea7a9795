"""A cached teacher gives what the teacher gives, of an utterance or at a crop's place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from speechbrain_ext.audio import read_audio
from speechbrain_ext.distill.cached_teacher import CachedTeacher
from speechbrain_ext.distill.teacher import FrozenTeacher
from speechbrain_ext.training.crops import (
    CropBatch,
    CropDataset,
    CropReader,
    encode_speakers,
    utterance_of,
)
from tests.distill.test_embedding_cache import make_encoder
from tests.distill.test_windows import SECONDS, write_manifest

SPEEDS = [1.0, 1.1]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path)


class AtWindows(CropReader):
    """Draws crops that begin where windows with a hop of 0.1 s do."""

    def place(self, id: str, length: int, speed: float = 1.0) -> tuple[int, int]:
        start, wanted = super().place(id, length, speed)
        steps = -(-(length - wanted) // 1600)
        return start * steps // max(length - wanted, 1) * (length - wanted) // max(steps, 1), wanted


def crops_of(manifest: Path, reader: CropReader, each: int) -> CropBatch:
    encoder = encode_speakers(manifest, SPEEDS, 4)
    dataset = CropDataset(manifest, reader, encoder, each, SPEEDS)
    return CropBatch([dataset[index] for index in range(len(dataset))])


def test_gives_the_embeddings_of_whole_utterances_without_gradient(manifest: Path) -> None:
    encoder = make_encoder()
    wavs = {name: manifest.parent / f"{name.replace('/', '_')}.wav" for name in SECONDS}
    expected = {name: encoder(read_audio(wav)[None])[0, 0] for name, wav in wavs.items()}
    parameters = sum(p.numel() for p in encoder.embedding_model.parameters())
    teacher = CachedTeacher(encoder, manifest.parent / "cache").train()
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    teacher.prepare(manifest)
    ids = ["bob/1", "ann/1", "ann/b@home", "bob/1"]
    for starts in (None, [0, 0, 5000, 1000]):
        output = teacher(torch.randn(4, 4000), ids=ids, starts=starts)
        assert output.hidden == {} == teacher.layers and not output.embedding.requires_grad
        assert output.embedding.dtype == torch.float32
        assert torch.allclose(output.embedding, torch.stack([expected[i] for i in ids]), atol=1e-5)
    assert teacher.embedding_size == 12 and teacher.num_parameters == parameters
    assert not list(teacher.parameters())  # the network has left


def test_at_a_window_it_gives_what_the_teacher_hears_in_the_crop(manifest: Path) -> None:
    online = FrozenTeacher(make_encoder())
    cached = CachedTeacher(make_encoder(), manifest.parent / "cache", window=0.25, hop=0.1)
    cached.prepare(manifest, SPEEDS)
    batch = crops_of(manifest, AtWindows(0.25, seed=2), each=5)
    ids = [utterance_of(crop) for crop in batch.id]
    output = cached(batch.sig.data, ids=ids, starts=batch.start)
    assert torch.allclose(output.embedding, online(batch.sig.data).embedding, atol=5e-5)
    assert len({*batch.start}) > 10


def test_between_two_windows_it_gives_their_mean_by_nearness(manifest: Path) -> None:
    teacher = CachedTeacher(make_encoder(), manifest.parent / "cache", window=0.5, hop=0.5)
    teacher.prepare(manifest)
    # Windows of the utterance begin at 0, 6400, 12800 and 19200.
    starts = [0, 6400, 1600, 19200, 17600]
    first, second, between, last, late = teacher(
        torch.zeros(5, 8000), ids=["ann/b@home"] * 5, starts=starts
    ).embedding
    assert torch.allclose(between, 0.75 * first + 0.25 * second, atol=1e-6)
    third = (late - 0.75 * last) / 0.25
    exact = teacher(torch.zeros(1, 8000), ids=["ann/b@home"], starts=[12800]).embedding[0]
    assert torch.allclose(third, exact, atol=1e-4)
    assert not torch.allclose(first, second, atol=1e-3)


def test_an_utterance_shorter_than_the_crop_is_repeated_as_in_the_crop(manifest: Path) -> None:
    online = FrozenTeacher(make_encoder())
    cached = CachedTeacher(make_encoder(), manifest.parent / "cache", window=2.0)
    cached.prepare(manifest, SPEEDS)
    batch = crops_of(manifest, CropReader(2.0, seed=2), each=1)
    output = cached(batch.sig.data, None, [utterance_of(crop) for crop in batch.id], batch.start)
    assert batch.start == [0] * 8
    assert torch.allclose(output.embedding, online(batch.sig.data).embedding, atol=1e-5)


def test_an_utterance_that_is_not_there_is_named(manifest: Path) -> None:
    teacher = CachedTeacher(make_encoder(), manifest.parent / "cache")
    teacher.prepare(manifest)
    with pytest.raises(ValueError, match=r"no ann/1@sp1\.1 in .*train\.csv at the speeds \[1\.0\]"):
        teacher(torch.zeros(2, 10), ids=["ann/1", "ann/1@sp1.1"])
    with pytest.raises(ValueError, match="ids and starts, and one is None"):
        teacher(torch.zeros(2, 10))
    teacher.window = 1.0
    with pytest.raises(ValueError, match="ids and starts, and one is None"):
        teacher(torch.zeros(2, 10), ids=["ann/1", "ann/1"])
