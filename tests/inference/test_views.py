"""Segments lie where they should, and scores of views mean what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.inference.extraction import UtteranceBatch, embed_batch
from speechbrain_ext.inference.views import VIEWS, FullAndSegmentsEncoder, SegmentsEncoder
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.lobes.published_networks import randomise_norms

SHORT: dict[str, Any] = {"seconds": 0.25}


class Recorder(nn.Module):
    """An encoder that gives back what it is given as an embedding, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        assert lengths is None
        self.given.append(wavs)
        return wavs.unsqueeze(1)


@pytest.fixture
def encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    network = randomise_norms(MLPMixer(channels=16, num_blocks=2, lin_neurons=12))
    return SpeakerEncoder(LogMel(), UtteranceNorm(), network).eval()


def voices(*samples: int) -> list[Tensor]:
    """Tones (1, samples) that rise, each from its own height at its own pace, in some noise."""
    waves = []
    for number, count in enumerate(samples):
        time = torch.arange(count) / 16000
        tone = torch.sin(2 * torch.pi * (300 + 400 * number + 900 * (number + 1) * time) * time)
        waves.append((0.1 * tone + 0.01 * torch.randn(count))[None])
    return waves


def given(wavs: Tensor, lengths: Tensor | None, samples: int, **settings: Any) -> list[list[float]]:
    settings["seconds"] = samples / SAMPLE_RATE
    recorder = Recorder()
    SegmentsEncoder(recorder, **settings)(wavs, lengths)
    return torch.cat(recorder.given).tolist()


def cosine(first: Tensor, second: Tensor) -> float:
    return F.cosine_similarity(first, second, dim=-1).item()


def test_positions_by_hand() -> None:
    wavs = torch.arange(1.0, 12.0).repeat(3, 1)  # of 11, 6 and 3 samples
    wavs[1, 6:] = wavs[2, 3:] = torch.nan
    lengths = torch.tensor([11, 6, 3]) / 11
    assert given(wavs, lengths, 4, num_segments=3) == [
        [1, 2, 3, 4],
        [4, 5, 6, 7],  # from 7 / 2, rounded down
        [8, 9, 10, 11],
        [1, 2, 3, 4],
        [2, 3, 4, 5],
        [3, 4, 5, 6],
        *[[1, 2, 3, 1]] * 3,
    ]
    assert given(wavs[:1], None, 3, num_segments=1) == [[1, 2, 3]]
    assert given(wavs[:1], None, 11, num_segments=2) == [list(range(1, 12))] * 2
    assert given(wavs[2:, :3], None, 8, num_segments=1) == [[1, 2, 3, 1, 2, 3, 1, 2]]


def test_the_published_positions() -> None:
    wavs = torch.arange(16000 * 8.0 + 137)[None]
    starts = [first for first, *_ in given(wavs, None, 48000)]
    room = wavs.shape[1] - 48000
    assert starts == torch.linspace(0, room, 5, dtype=torch.float64).long().tolist()


def test_average_of_unit_vectors_by_hand() -> None:
    wavs = torch.tensor([[3.0, 4.0, 0.0, 2.0]])
    found = SegmentsEncoder(Recorder(), 2, seconds=2 / SAMPLE_RATE)(wavs)
    assert torch.allclose(found, torch.tensor([[[0.3, 0.9]]]))


def test_no_more_samples_at_a_time_than_the_batch_has() -> None:
    wavs = torch.randn(4, 90)
    recorder = Recorder()
    found = SegmentsEncoder(recorder, num_segments=5, seconds=50 / SAMPLE_RATE)(wavs)
    assert [len(x) for x in recorder.given] == [7, 7, 6]
    assert found.shape == (4, 1, 50)
    recorder.given.clear()
    SegmentsEncoder(recorder, num_segments=2, seconds=200 / SAMPLE_RATE)(wavs[:1])
    assert [x.shape for x in recorder.given] == [(1, 200)] * 2


@pytest.mark.parametrize("view", VIEWS)
def test_padding_and_company_change_nothing(view: str, encoder: SpeakerEncoder) -> None:
    module = encoder if view == "full" else type(VIEWS[view](encoder))(encoder, **SHORT)
    samples = [16000, 9001, 4000, 1777]
    utterances = voices(*samples)
    padded = torch.cat([F.pad(x, (0, 16000 - x.shape[1])) for x in utterances])
    together = module(padded, torch.tensor(samples) / 16000)
    alone = torch.cat([module(x) for x in utterances])
    assert together.shape == (4, 1, module.embedding_size)
    assert torch.allclose(together, alone, atol=1e-5)


def test_dot_product_is_the_mean_over_all_pairs_of_segments(encoder: SpeakerEncoder) -> None:
    wavs = torch.cat(voices(16000, 16000))
    first, second = SegmentsEncoder(encoder, **SHORT)(wavs).squeeze(1)
    starts = [0, 3000, 6000, 9000, 12000]
    pieces = [torch.stack([wav[start : start + 4000] for start in starts]) for wav in wavs]
    with torch.no_grad():
        ours, theirs = (F.normalize(encoder(piece).squeeze(1)) for piece in pieces)
    assert (first @ second).item() == pytest.approx((ours @ theirs.T).mean().item(), abs=1e-6)
    assert first.norm() < 1


def test_cosine_of_both_is_the_mean_of_the_two_cosines(encoder: SpeakerEncoder) -> None:
    wavs, lengths = torch.cat(voices(16000, 16000)), torch.tensor([1.0, 0.7])
    views = [encoder, SegmentsEncoder(encoder, **SHORT)]
    with torch.no_grad():
        cosines = [cosine(*view(wavs, lengths)) for view in views]
    first, second = FullAndSegmentsEncoder(encoder, **SHORT)(wavs, lengths)
    found = cosine(first, second)
    assert cosines[0] != pytest.approx(cosines[1], abs=1e-3)
    assert found == pytest.approx(sum(cosines) / 2, abs=1e-6)
    assert (first @ second.T).item() == pytest.approx(found, abs=1e-6)


def test_an_utterance_of_one_segment_is_embedded_as_it_is(encoder: SpeakerEncoder) -> None:
    wavs = 0.1 * torch.randn(1, 4000)
    with torch.no_grad():
        whole = F.normalize(encoder(wavs), dim=-1)
    assert torch.allclose(SegmentsEncoder(encoder, **SHORT)(wavs), whole, atol=1e-6)


@pytest.mark.parametrize("view", VIEWS)
def test_views_stand_in_the_encoders_place(view: str, encoder: SpeakerEncoder) -> None:
    module = VIEWS[view](encoder.train())
    assert not any(part.training for part in module.modules())
    batch = UtteranceBatch(["a", "b"], 0.1 * torch.randn(2, 8000), torch.tensor([1.0, 0.5]))
    vectors = embed_batch(module, batch)
    assert {name: x.shape for name, x in vectors.items()} == dict.fromkeys(
        "ab", (12 * (1 + (view == "both")),)
    )
    assert len(module.state_dict()) == len(encoder.state_dict())  # nothing twice


@pytest.mark.parametrize("view", [SegmentsEncoder, FullAndSegmentsEncoder])
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_segments": 0}, "^num_segments must be at least 1, got 0$"),
        ({"seconds": 0.0}, "seconds 0.0 at 16000 Hz are 0$"),
        ({"seconds": -1.0}, "seconds -1.0 at 16000 Hz are -16000$"),
    ],
)
def test_mistakes_are_named(view: type[nn.Module], settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        view(Recorder(), **settings)
