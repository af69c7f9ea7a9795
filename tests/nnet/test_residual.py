"""The residual block against its formula, and the SV-Mixer block as an encoder runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.measure.speed import count_macs
from speechbrain_ext.nnet.masking import frame_mask
from speechbrain_ext.nnet.mixing import GroupedMLP
from speechbrain_ext.nnet.residual import ResidualBlock
from speechbrain_ext.nnet.sv_mixing import LocalGlobalMixing, MultiScaleMixing
from speechbrain_ext.nnet.token_mlp import TokenMLP
from tests.lobes.published_networks import randomise_norms
from tests.nnet.mixer_contract import check_gradients, check_onnx, check_padding, padded


def sv_mixer(channels: int = 16, dropout: float = 0.0) -> nn.Module:
    """A small SV-Mixer block with windows of 20 frames."""
    torch.manual_seed(0)
    mixers: list[Callable[[int], Mixer]] = [
        partial(LocalGlobalMixing, num_tokens=20, dropout=dropout),
        partial(MultiScaleMixing, dropout=dropout),
        partial(GroupedMLP, dropout=dropout),
    ]
    return randomise_norms(ResidualBlock(channels, mixers))


class Recorder(Mixer):
    """A mixer that keeps what it is given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.given: tuple[Tensor, Tensor | None]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.given = (x, mask)
        return 2 * x + 1


def test_every_mixer_has_a_norm_and_a_residual_connection() -> None:
    block = randomise_norms(ResidualBlock(16, [GroupedMLP, partial(GroupedMLP, expansion=2)]))
    x = torch.randn(2, 9, 16)
    first, second = block.mixers
    middle = x + first(block.norms[0](x))
    torch.testing.assert_close(block(x), middle + second(block.norms[1](middle)))


def test_a_mixer_is_given_zeros_outside_the_utterance_and_the_mask() -> None:
    block = randomise_norms(ResidualBlock(4, [Recorder, Recorder]))
    mask = frame_mask(torch.tensor([1.0, 0.3]), 10)
    block(torch.randn(2, 10, 4), mask)
    for recorder in block.mixers:
        assert isinstance(recorder, Recorder)
        x, given = recorder.given
        assert given is mask and not x[1, 3:].any() and x[1, :3].all()


def test_no_mixers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mixers=\[\]"):
        ResidualBlock(4, [])


def test_size_of_the_published_block() -> None:
    block = ResidualBlock(1024, [LocalGlobalMixing, MultiScaleMixing, GroupedMLP]).eval()
    assert sum(p.numel() for p in block.parameters()) == pytest.approx(3.75e6, rel=0.005)
    assert count_macs(block, torch.randn(1, 149, 1024)) == pytest.approx(0.63e9, rel=0.01)


@pytest.mark.parametrize("mixers", [[TokenMLP, GroupedMLP], [TokenMLP, MultiScaleMixing]])
def test_modules_of_the_ablation(mixers: list[Callable[..., Mixer]]) -> None:
    block = ResidualBlock(16, [partial(mixers[0], num_tokens=20), mixers[1]])
    check_padding(block, 16)
    check_gradients(block, 16)


def test_padding_and_gradients_of_sv_mixer() -> None:
    check_padding(sv_mixer(), 16, times=(1, 2, 19, 20, 21, 40, 41, 63))
    check_gradients(sv_mixer(), 16)


def test_what_stands_in_the_padding_changes_nothing() -> None:
    block, (x, mask) = sv_mixer(), padded(5, 61, 16)
    expected, found = block(x, mask), block(x + 1e3 * ~mask, mask)
    inside = mask.squeeze(-1)
    torch.testing.assert_close(found[inside], expected[inside])
    assert found.isfinite().all()


def test_bfloat16_is_near_float32() -> None:
    block, (x, mask) = sv_mixer(32), padded(4, 61, 32)
    full = block(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        low = block(x, mask)
    assert (low - full)[mask.squeeze(-1)].abs().max() < 0.02 * full.abs().max()
    low.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_dropout_in_training_only() -> None:
    block, x = sv_mixer(dropout=0.5), torch.randn(2, 20, 16)
    assert torch.equal(block(x), block(x))
    block.train()
    assert not torch.equal(block(x), block(x))


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_below_and_above_a_window(dynamo: bool, tmp_path: Path) -> None:
    check_onnx(sv_mixer(), 16, tmp_path, dynamo)


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_without_lengths(dynamo: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    block = sv_mixer()
    # Traced at the length of a window, where in eager mode nothing is gathered.
    free = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time")},)}
        if dynamo
        else {"dynamic_axes": {"x": {0: "batch", 1: "time"}}}
    )
    torch.onnx.export(
        block,
        (torch.randn(2, 20, 16),),
        tmp_path / "block.onnx",
        input_names=["x"],
        dynamo=dynamo,
        verbose=False,
        **free,
    )
    session = onnxruntime.InferenceSession(tmp_path / "block.onnx")
    for batch, time in ((2, 20), (1, 1), (3, 7), (1, 131)):
        x = torch.randn(batch, time, 16)
        (found,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), block(x), atol=1e-4, rtol=0)


def test_compiled() -> None:
    block = sv_mixer()
    # All of torch.compile but the generation of code, which takes a minute.
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for time in (20, 33):
        x, mask = padded(2, time, 16)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x, mask), block(x, mask), atol=1e-5, rtol=1e-4)
