"""What every lobe promises: see the contracts in docs/architecture.md."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.bottleneck import Bottleneck
from speechbrain_ext.nnet.hybrid import ForwardLSTM, LSTMMixerBlock
from speechbrain_ext.nnet.token_mlp import TokenMLP
from tests.lobes.memory import check_linear, peaks_by_name
from tests.lobes.systems import (
    ENCODERS,
    LOBES,
    OWN_ENCODERS,
    SINGLE_OUTPUT,
    make_encoder,
    make_lobe,
)

# What sets a variant apart from V2, worked out by hand, is added to V2's count.
V2 = 2_664_576
LSTM_192 = 4 * 192 * (192 + 192 + 2)  # four gates; input, state, two biases
LSTM_128 = 4 * 128 * (80 + 128 + 2)
POINTWISE = 2 * 192 * 576 // 4 + 576 + 192
TOKENS = 2 * 67 * 201 + 201 + 67
MIXER: dict[str, tuple[dict[str, Any], int]] = {
    "V2": ({}, V2),
    "V2_large": ({"channels": 256, "num_blocks": 8, "expansion": 4}, 7_844_864),
    "4x384": ({"channels": 384, "num_blocks": 4}, 7_008_000),
    "6x256": ({"channels": 256}, 4_617_216),
    "8x256": ({"channels": 256, "num_blocks": 8}, 6_003_712),
    "12x128": ({"channels": 128, "num_blocks": 12}, 2_291_968),
    "token_mlp": (
        {"token_mixing": partial(TokenMLP, num_tokens=67)},
        V2 + 6 * (TOKENS - POINTWISE),
    ),
    "hybrid_lstm": ({"block": LSTMMixerBlock}, V2 + 6 * LSTM_192),
    "lstm_front": (
        {"input_layer": partial(ForwardLSTM, hidden_size=128)},
        V2 + LSTM_128 + 3 * 192 * (128 - 80),
    ),
    "bottleneck": (
        {"output_layer": partial(Bottleneck, bottleneck_size=128)},
        V2 + 512 * 128 + 128 + 128 * 512 + 512,
    ),
}


@pytest.mark.parametrize("name", MIXER)
def test_parameters_of_mixers(name: str) -> None:
    arguments, count = MIXER[name]
    assert sum(parameter.numel() for parameter in MLPMixer(**arguments).parameters()) == count


def test_parameters_of_the_teacher() -> None:
    assert sum(parameter.numel() for parameter in LSTMAutoencoder().parameters()) == 3_873_745


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=5"):
        MLPMixer(groups=5)


@pytest.mark.parametrize("name", LOBES)
def test_padding_changes_nothing(name: str) -> None:
    lobe = make_lobe(name)
    frames = torch.tensor([150, 31, 1, 149])
    feats = torch.randn(4, 150, 80)
    for index, count in enumerate(frames):
        feats[index, count:] = 1e3
    with torch.no_grad():
        together = lobe(feats, frames / 150)
        for index, count in enumerate(frames):
            alone = lobe(feats[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-4, rtol=0)
        assert torch.allclose(lobe(feats[:1]), lobe(feats[:1], torch.ones(1)), atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_of_waveforms_changes_nothing(name: str) -> None:
    encoder = make_encoder(name)
    # On both sides of whole hops of 160 samples, and down to the shortest.
    samples = torch.tensor([48123, 48000, 47999, 32001, 31999, 4800, 8160, 8159, 8161])
    wavs = 0.1 * torch.randn(len(samples), 48123)
    for index, count in enumerate(samples):
        wavs[index, count:] = 0.7
    with torch.no_grad():
        together = encoder(wavs, samples / 48123)
        for index, count in enumerate(samples):
            alone = encoder(wavs[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("seconds", [0.3, 300.0])
def test_any_length(name: str, seconds: float) -> None:
    wavs = 0.1 * torch.randn(1, int(seconds * 16000))
    with torch.no_grad():
        embedding = make_encoder(name)(wavs)
    assert embedding.shape == (1, 1, 8) and embedding.isfinite().all()


@pytest.fixture(scope="module")
def peaks() -> dict[str, list[int]]:
    return peaks_by_name("tests.lobes.systems", ENCODERS)


@pytest.mark.parametrize("name", ENCODERS)
def test_memory_is_linear_in_time(name: str, peaks: dict[str, list[int]]) -> None:
    check_linear(peaks[name])


# Kilobytes for a second of speech: a frame, 100 a second, has 192 numbers of 4 bytes in V2, 512 in
# the teacher and 1536 in ECAPA-TDNN, and no more than a few of such are held of all frames at once.
PER_SECOND = {"v2": 750, "teacher": 750, "ecapa_tdnn": 1900}


def test_an_hour_needs_some_gigabytes_at_most() -> None:
    """What grows with the length, at the size of the systems."""
    for name, peaks in peaks_by_name("tests.lobes.full_size", list(PER_SECOND)).items():
        assert (peaks[2] - peaks[1]) / 45 < PER_SECOND[name], name


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("padded", [False, True])
def test_intermediates_come_with_the_same_embedding(name: str, padded: bool) -> None:
    encoder, wavs = make_encoder(name), 0.1 * torch.randn(2, 6400)
    lengths = torch.tensor([1.0, 0.5]) if padded else None
    with torch.no_grad():
        embedding, hidden = encoder(wavs, lengths, intermediates=True)
        assert torch.equal(embedding, encoder(wavs, lengths))
    assert embedding.shape == (2, 1, encoder.embedding_size)
    assert len(hidden) >= (0 if name in SINGLE_OUTPUT else 2)
    assert [layer.shape[2] for layer in hidden] == [*encoder.layers.values()]
    assert all(len(layer) == 2 and layer.shape[1] <= 41 for layer in hidden)


@pytest.mark.parametrize("lobe_class", [MLPMixer, LSTMAutoencoder])
def test_forward_intermediates(lobe_class: type[nn.Module]) -> None:
    lobe, feats = lobe_class().eval(), torch.randn(1, 20, 80)
    with torch.no_grad():
        embedding, hidden = lobe.forward_intermediates(feats)  # type: ignore[operator]
        assert torch.equal(embedding, lobe(feats))
    assert all(layer.shape[1] == 20 for layer in hidden)


@pytest.mark.parametrize(
    ("lobe", "layers"),
    [
        (MLPMixer(num_blocks=3), {"block1": 192, "block2": 192, "block3": 192}),
        (LSTMAutoencoder(), {"bottleneck": 128, "lstm1": 512, "lstm2": 512}),
    ],
    ids=["mixer", "teacher"],
)
def test_names_of_layers(lobe: nn.Module, layers: dict[str, int]) -> None:
    assert lobe.layers == layers and lobe.embedding_size == 512


@pytest.mark.parametrize("name", ENCODERS)
def test_bfloat16_is_near_float32(name: str) -> None:
    encoder, wavs = make_encoder(name), 0.1 * torch.randn(3, 32000)
    lengths = torch.tensor([1.0, 0.7, 0.4])
    with torch.no_grad():
        expected = encoder(wavs, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = encoder(wavs, lengths)
    assert found.isfinite().all()
    similarity = torch.cosine_similarity(found.float(), expected, dim=-1)
    assert similarity.min() > 0.99


@pytest.mark.parametrize("name", ENCODERS)
def test_training_step_reaches_every_weight(name: str) -> None:
    encoder = make_encoder(name).train()
    # SpeechBrain's networks learn from utterances of one length only.
    lengths = torch.tensor([1.0, 0.5, 0.9, 0.3]) if name in OWN_ENCODERS else None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = encoder(0.1 * torch.randn(4, 8000), lengths)
    # The last batch norm hides a plain sum.
    (embedding.float() * torch.randn(4, 1, 8)).sum().backward()
    for key, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key


def test_decoder_rebuilds_within_the_utterance() -> None:
    lobe = LSTMAutoencoder(conv_channels=16, latent_size=12, lstm_size=10, train_decoder=True)
    lobe.eval()
    feats, lengths = torch.randn(2, 40, 80), torch.tensor([1.0, 0.5])
    _, hidden = lobe.forward_intermediates(feats, lengths)
    rebuilt = lobe.decode(hidden[0], lengths)
    alone = lobe.decode(lobe.forward_intermediates(feats[1:, :20])[1][0])
    assert rebuilt.shape == feats.shape
    torch.testing.assert_close(rebuilt[1, :20], alone[0], atol=1e-5, rtol=0)
    assert all(parameter.requires_grad for parameter in lobe.decoder.parameters())
