"""ECAPA-TDNN in one pass: SpeechBrain's numbers, for any lengths in a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.ecapa import PaddedECAPA, reflection
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.exact_length import ExactLength
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.lobes.published_networks import randomise_norms

# The first block, of unlike channels, has a shortcut with weights.
CHANNELS = [12, 16, 16, 16, 48]


def make_lobe() -> PaddedECAPA:
    """A small lobe in eval mode, its norms moved."""
    torch.manual_seed(0)
    return randomise_norms(PaddedECAPA(20, CHANNELS, lin_neurons=8))


def make_speechbrains(lobe: PaddedECAPA) -> ECAPA_TDNN:
    """SpeechBrain's network, from the lobe's weights by SpeechBrain's names."""
    network = ECAPA_TDNN(20, channels=CHANNELS, lin_neurons=8)
    network.load_state_dict(lobe.network.state_dict())
    return network.eval()


def test_size_is_the_published() -> None:
    lobe = PaddedECAPA(80)
    assert sum(p.numel() for p in lobe.parameters()) == 6_194_048
    names = [f"network.{name}" for name in ECAPA_TDNN(80).state_dict()]
    assert list(lobe.state_dict()) == names


@pytest.mark.parametrize("frames", [5, 6, 73])
def test_whole_utterances_are_embedded_as_speechbrain_does(frames: int) -> None:
    lobe, feats = make_lobe(), torch.randn(3, frames, 20)
    network = make_speechbrains(lobe)
    with torch.no_grad():
        expected = network(feats)
        for lengths in (None, torch.ones(3)):
            torch.testing.assert_close(lobe(feats, lengths), expected, atol=1e-6, rtol=0)


def test_padded_utterances_are_embedded_as_by_one_pass_per_length() -> None:
    lobe, frames = make_lobe(), torch.tensor([150, 31, 5, 149, 7, 80])
    exact = ExactLength(make_speechbrains(lobe), 20, [*lobe.layers]).eval()
    assert exact.layers == lobe.layers
    feats = torch.randn(6, 150, 20)
    with torch.no_grad():
        found, hidden = lobe.forward_intermediates(feats, frames / 150)
        expected, layers = exact.forward_intermediates(feats, frames / 150)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    for x, y in zip(hidden, layers, strict=True):
        for index, count in enumerate(frames):
            torch.testing.assert_close(x[index, :count], y[index, :count], atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing_down_to_one_frame() -> None:
    lobe, frames = make_lobe(), torch.tensor([40, 39, 12, 5, 4, 3, 2, 1])
    feats = torch.randn(8, 40, 20)
    for index, count in enumerate(frames):
        feats[index, count:] = 1e3
    with torch.no_grad():
        together = lobe(feats, frames / 40)
        assert together.shape == (8, 1, 8) and together.isfinite().all()
        for index, count in enumerate(frames):
            alone = lobe(feats[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-5, rtol=0)


def test_contract_of_an_encoder() -> None:
    torch.manual_seed(0)
    lobe = randomise_norms(PaddedECAPA(80, CHANNELS, lin_neurons=8))
    check_encoder(SpeakerEncoder(LogMel(), UtteranceNorm(), lobe), torch.randn(2, 8000))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (5, [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]),
        (3, [1, 2, 1, 0, 1, 2, 1, 0, 1]),
        (2, [1, 0, 1, 0, 1, 0, 1, 0]),
        (1, [0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_reflection_by_hand(count: int, expected: list[int]) -> None:
    x = torch.full((1, 1, 5), 9.0)
    x[..., :count] = torch.arange(count)
    reflected = reflection(torch.tensor([count]), reach=3).extend(x)
    assert reflected.shape == (1, 1, 11)
    assert reflected[0, 0, : len(expected)].tolist() == expected


def test_onnx_with_dynamic_batch_time_and_lengths(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    lobe, path = make_lobe(), tmp_path / "lobe.onnx"
    torch.onnx.export(
        lobe,
        (torch.randn(2, 60, 20), torch.tensor([1.0, 0.5])),
        path,
        input_names=["feats", "lengths"],
        output_names=["embedding"],
        dynamic_axes={"feats": {0: "batch", 1: "time"}, "lengths": {0: "batch"}},
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path)
    for batch, time in ((2, 60), (1, 37), (5, 211), (3, 4)):
        feats, lengths = torch.randn(batch, time, 20), torch.linspace(1, 0.3, batch)
        with torch.no_grad():
            expected = lobe(feats, lengths)
        (found,) = session.run(None, {"feats": feats.numpy(), "lengths": lengths.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5, rtol=0)


def test_one_graph_serves_every_batch_and_time() -> None:
    lobe, inputs = make_lobe(), (torch.randn(2, 60, 20), torch.tensor([1.0, 0.5]))
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", min=2)
    program = torch.export.export(lobe, inputs, dynamic_shapes=({0: batch, 1: time}, {0: batch}))
    feats, lengths = torch.randn(3, 21, 20), torch.tensor([1.0, 0.1, 0.6])
    with torch.no_grad():
        torch.testing.assert_close(
            program.module()(feats, lengths), lobe(feats, lengths), atol=1e-5, rtol=0
        )


def test_bfloat16_is_near_float32() -> None:
    lobe, feats, lengths = make_lobe(), torch.randn(3, 200, 20), torch.tensor([1.0, 0.7, 0.4])
    with torch.no_grad():
        expected = lobe(feats, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = lobe(feats, lengths)
    assert torch.cosine_similarity(found.float(), expected, dim=-1).min() > 0.99


@pytest.mark.parametrize("lengths", [None, torch.tensor([1.0, 0.5, 0.1, 0.02])])
def test_training_step_reaches_every_weight(lengths: torch.Tensor | None) -> None:
    lobe = make_lobe().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = lobe(torch.randn(4, 50, 20), lengths)
    (embedding.float() * torch.randn(4, 1, 8)).sum().backward()
    for key, parameter in lobe.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_gradients_are_those_of_speechbrains() -> None:
    lobe, feats = make_lobe(), torch.randn(3, 30, 20)
    network = make_speechbrains(lobe)
    projection = torch.randn(3, 1, 8)
    for model in (lobe, network):
        (model(feats) * projection).sum().backward()
    for (key, parameter), other in zip(lobe.named_parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("channels", [[16, 16, 16, 48], [16, 16, 24, 16, 48], [16] + [20] * 4])
def test_channels_that_do_not_fit_are_refused(channels: list[int]) -> None:
    with pytest.raises(ValueError, match="three in the middle are the same multiple of 8"):
        PaddedECAPA(80, channels)
