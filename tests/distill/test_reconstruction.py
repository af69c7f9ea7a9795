"""The reconstruction branch against values worked out by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from speechbrain_ext.distill.reconstruction import Reconstruction
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput
from speechbrain_ext.lobes.lstm_autoencoder import ConvStack

EMBEDDING = torch.ones(1, 2)
decoder = partial(ConvStack, activate_last=False)


def identity(sizes: list[int]) -> nn.Module:
    layer = nn.Linear(sizes[0], sizes[-1], bias=False)
    nn.init.eye_(layer.weight)
    return layer


def test_by_hand() -> None:
    hidden, feats = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]]), torch.zeros(1, 2, 2)
    term = Reconstruction("block1", {"block1": 2}, 2, identity, [])
    loss = term(StudentOutput(EMBEDDING, {"block1": hidden}, feats))
    assert loss.item() == pytest.approx((1 + 4 + 0 + 0) / 4)
    assert not term.uses_teacher


def test_the_decoder_is_made_from_the_layer_to_the_features() -> None:
    term = Reconstruction("block2", {"block1": 3, "block2": 4}, 5, decoder, [8, 6])
    shapes = [tuple(p.shape) for p in term.decoder.parameters() if p.dim() == 3]
    assert shapes == [(8, 4, 3), (6, 8, 3), (5, 6, 3)]
    norms = [layer for layer in term.decoder.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert len(norms) == 2  # none after the last layer: features have either sign


def test_gradient_reaches_student_and_decoder_but_neither_features_nor_teacher() -> None:
    term = Reconstruction("block1", {"block1": 4}, 5, decoder, [8])
    hidden = torch.randn(2, 9, 4, requires_grad=True)
    feats = torch.randn(2, 9, 5, requires_grad=True)
    target = torch.randn(2, 2, requires_grad=True)
    term(StudentOutput(EMBEDDING, {"block1": hidden}, feats), TeacherOutput(target, {})).backward()
    assert hidden.grad is not None and hidden.grad.abs().sum() > 0
    assert all(p.grad is not None for p in term.parameters())
    assert feats.grad is None and target.grad is None


def test_under_amp_the_loss_is_float32_and_near_the_full_precision() -> None:
    term = Reconstruction("block1", {"block1": 4}, 5, decoder, [8])
    student = StudentOutput(EMBEDDING, {"block1": torch.randn(2, 50, 4)}, torch.randn(2, 50, 5))
    full = term(student)
    with torch.autocast("cpu", torch.bfloat16):
        half = term(student)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(full.item(), rel=0.02)


def test_it_can_be_learned() -> None:
    term = Reconstruction("block1", {"block1": 4}, 4, decoder, [16])
    feats = torch.randn(4, 30, 4)
    student = StudentOutput(EMBEDDING, {"block1": feats.flip(-1)}, feats)
    optimiser = torch.optim.Adam(term.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        loss = term(student)
        loss.backward()
        optimiser.step()
    assert loss < 0.5  # the features have variance 1


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="^layer: the student has no layer 'block9', its layers"):
        Reconstruction("block9", {"block1": 4}, 5, decoder, [8])
    term = Reconstruction("block1", {"block1": 4}, 5, decoder, [8])
    student = StudentOutput(EMBEDDING, {"block1": torch.ones(2, 10, 4)}, torch.ones(2, 20, 5))
    with pytest.raises(ValueError, match=r"\(20, 5\) cannot be rebuilt from 'block1'.*\(10, 5\)"):
        term(student)
