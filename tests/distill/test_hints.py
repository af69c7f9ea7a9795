"""Hints against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from speechbrain_ext.distill.layer_terms import Hints
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

EMBEDDING = torch.ones(1, 2)
# Cosines of the frames of (a, x) are 1 and 0, of (b, y) -1 and -1, once the projection of a adds a
# third channel of zeros and that of b changes nothing.
STUDENT = {
    "a": torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
    "b": torch.tensor([[[1.0, 1.0], [0.0, 2.0]]]),
}
TEACHER = {
    "x": torch.tensor([[[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]]]),
    "y": torch.tensor([[[-5.0, -5.0], [0.0, -1.0]]]),
}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, (0.5 + 2) / 2), ([1.0, 3.0], (0.5 + 3 * 2) / 4), ([2.0, 6.0], (0.5 + 3 * 2) / 4)],
)
def test_by_hand(weights: list[float] | None, expected: float) -> None:
    hints = Hints([["a", "x"], ["b", "y"]], {"a": 2, "b": 2}, {"x": 3, "y": 2}, weights)
    for parameter in hints.parameters():
        (torch.nn.init.eye_ if parameter.dim() == 2 else torch.nn.init.zeros_)(parameter)
    loss = hints(StudentOutput(EMBEDDING, STUDENT, EMBEDDING), TeacherOutput(EMBEDDING, TEACHER))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_layer_in_two_pairs_has_two_projections() -> None:
    hints = Hints([["a", "x"], ["a", "y"]], {"a": 2}, {"x": 3, "y": 2})
    shapes = [tuple(p.shape) for p in hints.parameters()]  # of weights and biases in turn
    assert shapes == [(3, 2), (3,), (2, 2), (2,)]
    assert hints.uses_teacher
