"""What every mixer of the SSL path promises: `forward(x, mask)` on (B, T, C), zeros outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.nnet.masking import frame_mask, zero_padding
from tests.lobes.published_networks import randomise_norms


def padded(batch: int, time: int, channels: int) -> tuple[Tensor, Tensor]:
    """Utterances of 30 % to 100 % of ``time`` frames and their mask."""
    mask = frame_mask(torch.linspace(0.3, 1, batch), time)
    return zero_padding(torch.randn(batch, time, channels), mask), mask


def check_padding(mixer: nn.Module, channels: int, times: tuple[int, ...] = (1, 2, 23, 50)) -> None:
    """Alone or in a padded batch, each utterance comes out the same; what is outside is finite."""
    randomise_norms(mixer)
    for time in times:
        x, mask = padded(4, time, channels)
        together = mixer(x, mask)
        assert together.shape == x.shape and together.isfinite().all()
        for row, frames in enumerate(mask.sum(dim=(1, 2)).tolist()):
            alone = mixer(x[row : row + 1, :frames])
            torch.testing.assert_close(together[row, :frames], alone[0], atol=1e-6, rtol=1e-5)


def check_gradients(mixer: nn.Module, channels: int, without: tuple[str, ...] = ()) -> None:
    """Gradients reach every weight but those of the names ``without``, where they must vanish."""
    x, mask = padded(3, 20, channels)
    x.requires_grad_()
    mixer.train()(x, mask).pow(3).sum().backward()
    assert x.grad is not None and x.grad[0, 0].abs().max() > 0
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs().max() < 1e-4) == (name in without), name


def check_bf16(mixer: nn.Module, channels: int) -> None:
    """Under autocast to bf16: near the float32 result, and every weight learns in float32."""
    randomise_norms(mixer)
    x, mask = padded(3, 20, channels)
    with torch.autocast("cpu", torch.bfloat16):
        low = mixer(x, mask)
    full = mixer(x, mask)
    assert low.dtype == torch.bfloat16
    assert (low.float() - full)[mask.squeeze(-1)].abs().max() < 0.05 * full.abs().max()
    low.float().square().sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


class _WithLengths(nn.Module):
    """A mixer as a network calls it: the mask is made of lengths inside the graph."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        mask = frame_mask(lengths, x.shape[1])
        return zero_padding(self.mixer(zero_padding(x, mask), mask), mask)


def check_onnx(mixer: nn.Module, channels: int, folder: Path, dynamo: bool = False) -> None:
    """Exported at one size of batch and time, it gives PyTorch's output at others."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    network = _WithLengths(randomise_norms(mixer)).eval()
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    free: dict[str, Any] = {"dynamic_axes": {"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}}
    if dynamo:
        free = {"dynamic_shapes": ({0: batch, 1: time}, {0: batch})}
    torch.onnx.export(
        network,
        (torch.randn(2, 30, channels), torch.tensor([1.0, 0.5])),
        folder / "mixer.onnx",
        input_names=["x", "lengths"],
        output_names=["y"],
        dynamo=dynamo,
        verbose=False,
        **free,
    )
    session = onnxruntime.InferenceSession(folder / "mixer.onnx")
    for sizes in ((2, 30), (1, 1), (1, 37), (5, 211)):
        x, lengths = torch.randn(*sizes, channels), torch.linspace(1, 0.3, sizes[0])
        with torch.no_grad():
            expected = network(x, lengths)
        (found,) = session.run(None, {"x": x.numpy(), "lengths": lengths.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)
