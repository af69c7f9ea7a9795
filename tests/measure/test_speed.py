"""Operations are counted by hand here, by the counter there."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import PassThrough, Waveforms
from speechbrain_ext.lobes.foreign import TorchScriptModel
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.measure.by_length import length_figure, length_tables, lengths_csv
from speechbrain_ext.measure.speed import (
    benchmark_encoders,
    benchmark_lengths,
    count_macs,
    time_side_by_side,
)

FRAMES = 201


def test_student() -> None:
    conv = 3 * 80 * 192
    block = 3 * 192 + 2 * 192 * 576 // 4 + 192 * 1152 + 576 * 192
    attention = 2 * 192 * 192
    expected = FRAMES * (conv + 6 * block + attention) + 384 * 512
    macs = count_macs(MLPMixer().eval(), torch.randn(1, FRAMES, 80))
    # The ID-Conv may run as a convolution, which is counted, or as sums, which are not.
    assert macs == pytest.approx(expected, rel=0.002)
    assert macs == pytest.approx(0.49e9, rel=0.01)


def test_teacher() -> None:
    convs = 3 * (80 * 256 + 256 * 256 + 256 * 128)
    lstm = 2 * 4 * 256 * (128 + 256) + 2 * 4 * 256 * (512 + 256)
    attention = 512 * 512 + 512
    expected = FRAMES * (convs + lstm + attention) + 1024 * 512
    assert count_macs(LSTMAutoencoder().eval(), torch.randn(1, FRAMES, 80)) == expected


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_is_counted_once(bidirectional: bool) -> None:
    lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    weights = directions * 4 * 5 * ((6 + 5) + (5 * directions + 5))
    assert count_macs(lstm, torch.randn(3, 7, 6)) == 21 * weights


def test_rounds_are_taken_in_turns() -> None:
    calls: list[str] = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = time_side_by_side(functions, 3, torch.device("cpu"))
    assert calls == ["a", "b"] * 5  # two rounds to warm up
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_it_waits_for_the_gpu_that_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one's work would end at another time. No GPU is needed: waiting is what is seen."""
    waited: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waited.append(device))
    time_side_by_side({"a": lambda: None}, 1, torch.device("cuda:1"), warm_up=0)
    assert waited == [torch.device("cuda:1")] * 2


class Attention(nn.Module):
    """Self-attention: one product with weights, two without."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.linear, self.masked = nn.Linear(8, 8, bias=False), masked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x).unflatten(-1, (2, 4)).transpose(1, 2)
        mask = torch.ones(1, 1, 1, x.shape[2], dtype=torch.bool) if self.masked else None
        return nn.functional.scaled_dot_product_attention(x, x, x, mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("frames", [30, 60])
def test_products_of_attention(masked: bool, frames: int) -> None:
    """With them the count grows with the square of the length; a layer's size is without."""
    weights, products = frames * 8 * 8, 2 * frames * frames * 8
    attention, x = Attention(masked).eval(), torch.randn(1, frames, 8)
    assert count_macs(attention, x) == weights
    assert count_macs(attention, x, attention_products=True) == weights + products


class Reader(nn.Module):
    """A network on waveforms, 100 samples a frame."""

    def __init__(self, mixing: nn.Module) -> None:
        super().__init__()
        self.mixing = mixing

    def forward(self, wavs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        frames = wavs.unflatten(1, (-1, 100))[..., :8]
        return self.mixing(frames).flatten(2).mean(1, keepdim=True)


def test_lengths() -> None:
    """Every system at every length; a Transformer's operations bend, those of a layer do not."""
    encoders = {
        name: SpeakerEncoder(Waveforms(), PassThrough(), cast(Lobe, Reader(mixing)))
        for name, mixing in (("attention", Attention(False)), ("linear", nn.Linear(8, 8)))
    }
    figures = benchmark_lengths(encoders, [1, 10], rounds=3)
    assert figures["device"] == "cpu" and figures["threads"] == torch.get_num_threads()
    assert (figures["lengths"], figures["rounds"]) == ([1, 10], 3)
    attention, linear = figures["systems"]
    assert (attention["name"], linear["name"]) == ("attention", "linear")
    assert linear["macs"] == [160 * 64, 1600 * 64]
    assert attention["macs"] == [160 * 64 + 2 * 160**2 * 8, 1600 * 64 + 2 * 1600**2 * 8]
    for system in figures["systems"]:
        for seconds, (fastest, slowest) in zip(system["seconds"], system["spread"], strict=True):
            assert 0 < fastest <= seconds <= slowest
    for lengths in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="above 0"):
            benchmark_lengths(encoders, lengths)


class NormalisedConv(nn.Module):
    """A lobe on waveforms with a weight norm, as WavLM's positions have."""

    layers: dict[str, int] = {}
    embedding_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 4, 5), dim=2)

    def forward(self, feats: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.conv(feats.unsqueeze(1)).mean(dim=2).unsqueeze(1)


def test_a_network_with_weight_norms_that_was_trained() -> None:
    encoder = SpeakerEncoder(Waveforms(), PassThrough(), cast(Lobe, NormalisedConv()))
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    (system,) = benchmark_encoders({"a": encoder}, batch=1, rounds=1)["systems"]
    assert system["macs_per_utterance"] == 20 * (32000 - 4)
    (system,) = benchmark_lengths({"a": encoder}, [1.0], rounds=1)["systems"]
    assert system["macs"] == [20 * (16000 - 4)]


def test_what_a_file_does_inside_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(nn.AvgPool1d(16000)), path)
    encoders = {
        "file": SpeakerEncoder(Waveforms(), PassThrough(), TorchScriptModel(path, "waveform"))
    }
    (system,) = benchmark_encoders(encoders, batch=1, rounds=1)["systems"]
    assert system["parameters"] is None and system["macs_per_utterance"] is None
    figures = benchmark_lengths(encoders, [1.0, 2.0], rounds=1)
    assert figures["systems"][0]["macs"] == [None, None]
    assert [table.headings[0] for table in length_tables(figures)] == ["Milliseconds an utterance"]
    assert lengths_csv(figures).splitlines()[1].startswith("file,1,,")
    assert length_figure(figures)
