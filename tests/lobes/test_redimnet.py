"""ReDimNet: published sizes, the two views and the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.redimnet import SIZES, ReDimNet, ReDimSize
from speechbrain_ext.measure.speed import count_macs
from speechbrain_ext.nnet.attention import SelfAttention
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.nnet.redim import (
    ConvAttentionContext,
    ConvContext,
    ConvNeXtBlock,
    ReDimStage,
    ResNetBlock,
    StageSetup,
    WeightedSum,
)

# A stage without context, one whose blocks are wider, one with a stride of its own.
STAGES = (
    StageSetup(stride=1, num_blocks=1),
    StageSetup(stride=2, num_blocks=1, expansion=2, context=8),
    StageSetup(stride=3, num_blocks=2, context=4),
)
SMALL = {
    "resnet": ReDimSize(12, 4, ResNetBlock, group_size=1, stages=STAGES),
    "convnext": ReDimSize(12, 4, ConvNeXtBlock, group_size=4, stages=STAGES),
}
CONTEXTS = [ConvAttentionContext, ConvContext]


def make_lobe(name: str, context: type[nn.Module] = ConvAttentionContext) -> ReDimNet:
    """A small lobe in eval mode, its norms moved."""
    torch.manual_seed(0)
    lobe = ReDimNet(20, SMALL[name], lin_neurons=8, context=context)
    with torch.no_grad():
        for _ in range(5):
            lobe(2 * torch.randn(4, 40, 20) + 1)
    return lobe.eval()


@pytest.mark.parametrize(
    ("size", "published", "exact"),
    [("b0", 1.0e6, 1_004_250), ("b1", 2.2e6, 2_187_452), ("b2", 4.7e6, 4_660_096)],
)
def test_parameters_are_the_published(size: str, published: float, exact: int) -> None:
    lobe = ReDimNet(SIZES[size].bands, size)
    count = sum(p.numel() for p in lobe.parameters())
    assert count == exact and abs(count / published - 1) < 0.02
    assert not [*lobe.to_bands.parameters()]
    wider = ReDimNet(1024, size)
    added = 1024 * SIZES[size].bands + SIZES[size].bands
    assert sum(p.numel() for p in wider.parameters()) == count + added


@pytest.mark.parametrize(("size", "published"), [("b0", 0.43e9), ("b1", 0.54e9), ("b2", 0.90e9)])
def test_operations_are_the_published(size: str, published: float) -> None:
    setup, frames = SIZES[size], 134  # 2 s, a frame each 15 ms
    macs = count_macs(ReDimNet(setup.bands, size).eval(), torch.randn(1, frames, setup.bands))
    # The counter leaves out the products of attention.
    attention = 2 * frames**2 * sum(stage.context for stage in setup.stages)
    # As published the pooling maps mean and deviation, two of its three inputs, at every frame.
    repeated = (frames - 1) * 128 * 2 * setup.bands * setup.channels
    assert abs((macs + attention + repeated) / published - 1) < 0.05


def test_weighted_sum_by_hand() -> None:
    layer = WeightedSum(3, 2)
    ones = torch.ones(1, 4, 2)
    torch.testing.assert_close(layer([0 * ones, 3 * ones, 6 * ones]), 3 * ones)
    with torch.no_grad():
        layer.scores.copy_(torch.tensor([[0.0, 50.0], [np.log(3), 0.0], [-50.0, 0.0]]))
    # The first channel is a quarter and three quarters of two inputs, the second one input.
    expected = torch.tensor([0.25 * 8 + 0.75 * 4, 8.0]).expand(1, 4, 2)
    torch.testing.assert_close(layer([8 * ones, 4 * ones, 2 * ones]), expected)


@pytest.mark.parametrize("name", SMALL)
def test_the_product_of_bands_and_channels_stays(name: str) -> None:
    lobe = make_lobe(name)
    assert lobe.layers == {"stage1": 48, "stage2": 48, "stage3": 48}
    shapes: list[torch.Size] = []
    for stage in lobe.stages:
        assert isinstance(stage, ReDimStage)
        stage.blocks[0].register_forward_hook(lambda _, __, y: shapes.append(y.shape))
    _, hidden = lobe.forward_intermediates(torch.randn(2, 7, 20))
    assert [x.shape for x in hidden] == 3 * [(2, 7, 48)]
    # Frames, bands, channels; the second stage is twice as wide inside.
    assert shapes == [(2, 7, 12, 4), (2, 7, 6, 2 * 8), (2, 7, 2, 24)]


def test_a_stage_starts_from_the_mean_of_all_before() -> None:
    setup = StageSetup(stride=2, num_blocks=0)
    stage = ReDimStage(2, 6, 2, setup, ConvNeXtBlock, group_size=1, context=ConvContext)
    with torch.no_grad():
        stage.join.weight.zero_()
        stage.join.bias.zero_()
        stage.join.weight[0, ::2] = 1.0  # the first channel of both bands, added up
        x, y = torch.randn(1, 3, 12), torch.randn(1, 3, 12)
        found = stage([x, y])
    mean = ((x + y) / 2).view(1, 3, 6, 2)[..., 0]
    expected = torch.zeros(1, 3, 3, 4)
    expected[..., 0] = mean[..., ::2] + mean[..., 1::2]
    torch.testing.assert_close(found, expected.flatten(2))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", SMALL)
def test_padding_changes_nothing(name: str, context: type[nn.Module]) -> None:
    lobe, frames = make_lobe(name, context), torch.tensor([90, 31, 1, 89, 2])
    feats = torch.randn(5, 90, 20)
    for index, count in enumerate(frames):
        feats[index, count:] = 1e3
    with torch.no_grad():
        together, hidden = lobe.forward_intermediates(feats, frames / 90)
        assert together.shape == (5, 1, 8) and together.isfinite().all()
        for index, count in enumerate(frames):
            alone, layers = lobe.forward_intermediates(feats[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-4, rtol=0)
            for padded, layer in zip(hidden, layers, strict=True):
                torch.testing.assert_close(padded[index, :count], layer[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_every_stage_sees_the_neighbours(name: str) -> None:
    lobe, feats = make_lobe(name), torch.randn(1, 30, 20)
    changed = feats.clone()
    changed[:, 15] += 1
    with torch.no_grad():
        _, before = lobe.forward_intermediates(feats)
        _, after = lobe.forward_intermediates(changed)
    for x, y in zip(before, after, strict=True):
        assert not torch.allclose(x[:, 14], y[:, 14]) and not torch.allclose(x[:, 16], y[:, 16])
    # The first stage has no context and sees no further than its convolutions.
    torch.testing.assert_close(before[0][:, :11], after[0][:, :11])


def test_contract_of_an_encoder() -> None:
    torch.manual_seed(0)
    lobe = ReDimNet(80, SMALL["resnet"], lin_neurons=8)
    check_encoder(SpeakerEncoder(LogMel(), UtteranceNorm(), lobe), torch.randn(2, 8000))


def test_context_without_attention() -> None:
    for context in CONTEXTS:
        found = [*make_lobe("convnext", context).modules()]
        attends = any(isinstance(module, SelfAttention) for module in found)
        assert attends == (context is ConvAttentionContext)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", SMALL)
def test_onnx_with_dynamic_batch_and_time(
    name: str, context: type[nn.Module], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    lobe, path = make_lobe(name, context), tmp_path / "lobe.onnx"
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
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)


def test_one_graph_serves_every_batch_and_time() -> None:
    lobe, inputs = make_lobe("resnet"), (torch.randn(2, 60, 20), torch.tensor([1.0, 0.5]))
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", min=2)
    program = torch.export.export(lobe, inputs, dynamic_shapes=({0: batch, 1: time}, {0: batch}))
    feats, lengths = torch.randn(3, 21, 20), torch.tensor([1.0, 0.1, 0.6])
    with torch.no_grad():
        torch.testing.assert_close(
            program.module()(feats, lengths), lobe(feats, lengths), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_is_near_float32(name: str) -> None:
    lobe, feats = make_lobe(name), torch.randn(3, 200, 20)
    lengths = torch.tensor([1.0, 0.7, 0.4])
    with torch.no_grad():
        expected = lobe(feats, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = lobe(feats, lengths)
    assert torch.cosine_similarity(found.float(), expected, dim=-1).min() > 0.99


@pytest.mark.parametrize("lengths", [None, torch.tensor([1.0, 0.5, 0.1, 0.02])])
@pytest.mark.parametrize("name", SMALL)
def test_training_step_reaches_every_weight(name: str, lengths: torch.Tensor | None) -> None:
    lobe = make_lobe(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = lobe(torch.randn(4, 50, 20), lengths)
    (embedding.float() * torch.randn(4, 1, 8)).sum().backward()
    for key, parameter in lobe.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        # Some biases are taken away again, by a norm or a softmax behind them.
        assert parameter.grad.any() or key.endswith("bias"), key


def test_what_does_not_fit_is_refused() -> None:
    def small(**changes: Any) -> ReDimSize:
        values = {"bands": 12, "channels": 4, "block": ResNetBlock, "group_size": 1}
        return ReDimSize(**{**values, "stages": STAGES, **changes})

    for size, words in (
        ("b7", "size='b7' is none of b0, b1, b2"),
        (small(bands=8), "stride=3 does not divide 4 bands"),
        (small(group_size=3), "group_size=3 does not divide convolutions of 4 to 4 channels"),
    ):
        with pytest.raises(ValueError, match=words):
            ReDimNet(80, size)
