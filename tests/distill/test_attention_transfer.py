"""Attention transfer against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from speechbrain_ext.distill.layer_terms import AttentionTransfer
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

LAYERS = {"a": 2, "b": 2}
EMBEDDING = torch.ones(2, 2)


def attend(student: torch.Tensor, teacher: torch.Tensor) -> float:
    term = AttentionTransfer([["a", "b"]], LAYERS, LAYERS)
    return term(
        StudentOutput(EMBEDDING, {"a": student}, EMBEDDING),
        TeacherOutput(EMBEDDING, {"b": teacher}),
    ).item()


def test_by_hand() -> None:
    # Energies (2, 0) and (3, 4): maps (1, 0) and (0.6, 0.8), √0.8 apart.
    first = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    target = torch.tensor([[3**0.5, 0.0], [0.0, -2.0]])
    # Energies (1, 0) and (0, 4): √2 apart.
    second = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    loss = attend(torch.stack([first, second]), torch.stack([target, other]))
    assert loss == pytest.approx((0.8**0.5 + 2**0.5) / 2, abs=1e-6)


def test_only_where_in_time_counts() -> None:
    hidden = torch.randn(2, 9, 2)
    turned = 3 * hidden.flip(-1) * torch.tensor([1.0, -1.0])
    assert attend(hidden, turned) == pytest.approx(0, abs=1e-6)
    assert attend(hidden, hidden.flip(1)) > 0.1


def test_equal_maps_give_no_gradient_but_no_nan_either() -> None:
    hidden = torch.ones(2, 9, 2, requires_grad=True)
    student = StudentOutput(EMBEDDING, {"a": hidden}, EMBEDDING)
    term = AttentionTransfer([["a", "b"]], LAYERS, LAYERS)
    term(student, TeacherOutput(EMBEDDING, {"b": hidden.detach()})).backward()
    assert hidden.grad is not None and not hidden.grad.any()
