"""Backward passes that are written out here, against those that PyTorch derives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.mixing import ChannelMixing, IDConv, MaxFeatureMap, PointwiseTokenMixing


def gradients(
    layer: nn.Module, x: torch.Tensor, derived: bool, monkeypatch: pytest.MonkeyPatch
) -> list[torch.Tensor]:
    """Output and gradients of a layer, PyTorch's own or ours."""
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: derived)
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    "layer",
    [
        IDConv(12),
        ChannelMixing(12, expansion=3),
        PointwiseTokenMixing(12, expansion=3, groups=4),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("frames", [1, 2, 30])
def test_same_as_derived(layer: nn.Module, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, frames, 12)
    ours = gradients(layer.train(), x, False, monkeypatch)
    theirs = gradients(layer.train(), x, True, monkeypatch)
    assert len(ours) == len(theirs) >= 4
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_numerically() -> None:
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MaxFeatureMap.apply, (x,))


def test_dropout_keeps_its_share_and_its_gradient() -> None:
    x = torch.ones(200, 501, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())
    kept = y.detach() != 0
    assert 0.69 < kept.float().mean() < 0.71
    assert torch.allclose(y.detach()[kept], torch.tensor(1 / 0.7))
