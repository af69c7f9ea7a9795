"""Each utterance is embedded once, the same in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.audio import read_audio
from speechbrain_ext.inference import extraction
from speechbrain_ext.inference.extraction import UtteranceBatch, embed_batch, utterance_loader
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.masking import whole_lengths
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.systems.experiment import weights_sha256
from tests.refusals import refused

SECONDS = [0.3, 1.0, 0.71, 1.0, 2.03, 0.505]


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    rows = []
    for number, seconds in enumerate(SECONDS):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * 16000)), 16000)
        rows.append({"ID": str(number), "wav": str(path), "duration": str(seconds)})
    return rows


def test_batches_hold_every_utterance_once_within_the_limit(rows: list[dict[str, str]]) -> None:
    batches = list(utterance_loader(rows, max_batch_seconds=2.5))
    assert sorted(name for batch in batches for name in batch.ids) == [str(n) for n in range(6)]
    assert [len(batch.ids) for batch in batches] == [1, 2, 3]
    assert all(batch.wavs.numel() <= 2.5 * 16000 for batch in batches)
    assert batches[1].lengths is None and batches[2].lengths is not None


def test_one_utterance_alone_is_not_copied() -> None:
    wav = torch.randn(100)
    assert UtteranceBatch.of(["a"], [wav]).wavs.data_ptr() == wav.data_ptr()


def test_processes_share_the_batches_without_overlap(rows: list[dict[str, str]]) -> None:
    parts = [
        [
            name
            for batch in utterance_loader(rows, 1.1, rank=rank, world_size=3)
            for name in batch.ids
        ]
        for rank in range(3)
    ]
    assert sorted(sum(parts, [])) == [str(n) for n in range(6)]


def test_batched_equals_alone(rows: list[dict[str, str]]) -> None:
    torch.manual_seed(0)
    encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=2)).eval()
    alone: dict[str, np.ndarray] = {}
    together: dict[str, np.ndarray] = {}
    for limit, out in ((0.0, alone), (60.0, together)):
        for batch in utterance_loader(rows, max_batch_seconds=limit):
            out.update(embed_batch(encoder, batch))
    assert alone.keys() == together.keys()
    for name, vector in alone.items():
        assert np.abs(vector - together[name]).max() < 1e-5


class Counting(torch.nn.Module):
    """Embeds an utterance by its number of samples, as the front ends count them."""

    def forward(self, wavs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        counts = whole_lengths(lengths, wavs.shape[1])
        return torch.stack((counts // 1000, counts % 1000), dim=1)[:, None]  # float32 holds these


def test_no_sample_is_lost_of_long_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padded among others."""
    counts = [25 * 60 * 16000, 12_491_682]  # whose quotient float32 does not hold
    monkeypatch.setattr(extraction, "_read", lambda path, *_: torch.zeros(1).expand(int(path)))
    rows = [{"ID": str(n), "wav": str(n), "duration": n / 16000} for n in counts]
    (batch,) = utterance_loader(rows, max_batch_seconds=1e9)
    found = embed_batch(Counting(), batch)
    assert {name: vector.tolist() for name, vector in found.items()} == {
        str(n): [n // 1000, n % 1000] for n in counts
    }


def test_an_unreadable_file_is_named(rows: list[dict[str, str]]) -> None:
    Path(rows[0]["wav"]).write_bytes(b"RIFF")
    with refused("unusable-audio", "0.wav"):
        for batch in utterance_loader(rows, num_workers=1):
            embed_batch(torch.nn.Identity(), batch)


def test_files_of_any_kind_are_heard(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    """As embed.py hears them: mixed down and resampled."""
    soundfile.write(rows[0]["wav"], np.random.default_rng(1).uniform(-0.3, 0.3, (800, 2)), 8000)
    batches = list(utterance_loader(rows[:1]))
    assert torch.equal(batches[0].wavs[0], read_audio(rows[0]["wav"]))
    assert batches[0].wavs.shape == (1, 1600)


def test_a_section_of_a_file_is_what_its_row_says(rows: list[dict[str, str]]) -> None:
    """As crops are: a manifest may cut several utterances out of one recording."""
    whole = read_audio(rows[4]["wav"])
    halves = [
        {"ID": "one", "wav": rows[4]["wav"], "duration": 0.5, "start": 0, "stop": 8000},
        {"ID": "other", "wav": rows[4]["wav"], "duration": 1.0, "start": 8000, "stop": 24000},
    ]
    (batch,) = utterance_loader(halves)
    assert batch.ids == ["other", "one"] and batch.wavs.shape == (2, 16000)
    assert torch.equal(batch.wavs[0], whole[8000:24000])
    assert torch.equal(batch.wavs[1, :8000], whole[:8000])
    soundfile.write(rows[4]["wav"], np.r_[np.zeros(8000), whole[8000:]], 16000)
    with refused("unusable-audio", rows[4]["wav"], "all samples are the same"):
        embed_batch(torch.nn.Identity(), next(iter(utterance_loader(halves[:1]))))


def test_the_hash_follows_every_weight() -> None:
    layer = torch.nn.BatchNorm1d(4)
    before = weights_sha256(layer)
    assert before == weights_sha256(layer)
    layer.get_buffer("running_mean")[2] += 1e-6
    assert before != weights_sha256(layer)
