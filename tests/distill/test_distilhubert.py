"""Prediction of the teacher's layers against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from speechbrain_ext.distill.alpha import Alpha
from speechbrain_ext.distill.layer_terms import DistilHuBERT
from speechbrain_ext.distill.objective import DistillationObjective
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

X = torch.ones(1, 2)
# GELU leaves 9 as it is, to six decimals: heads of ones and zeros predict (9, 0, 0) and (0, 9, 0).
# From x that is away by 6, 0, 0 with cosine 1, and 0, 18, 0 with cosine -1: 4 on average.
# From y by 9, 9 and 9, 9 with cosine 0: 9.
STUDENT = {"a": torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])}
TEACHER = {
    "x": torch.tensor([[[3.0, 0.0, 0.0], [0.0, -9.0, 0.0]]]),
    "y": torch.tensor([[[0.0, -9.0], [9.0, 0.0]]]),
}
PAIRS = [["a", "x"], ["a", "y"]]
SIZES = {"a": 2}, {"x": 3, "y": 2}


def outputs() -> tuple[StudentOutput, TeacherOutput]:
    return StudentOutput(X, STUDENT, X), TeacherOutput(X, TEACHER)


def surprise(cosine: float) -> float:
    """The negative logarithm of the logistic function."""
    return math.log1p(math.exp(-cosine))


@pytest.mark.parametrize("cosine_weight", [1.0, 0.0, 0.5])
@pytest.mark.parametrize(("weights", "share"), [(None, 0.5), ([3.0, 1.0], 0.75)])
def test_by_hand(cosine_weight: float, weights: list[float] | None, share: float) -> None:
    loss = DistilHuBERT(PAIRS, *SIZES, weights, cosine_weight)
    for parameter in loss.parameters():
        (nn.init.eye_ if parameter.dim() == 2 else nn.init.zeros_)(parameter)
    first = 4 + cosine_weight * (surprise(1) + surprise(-1)) / 2
    second = 9 + cosine_weight * surprise(0)
    found = loss(*outputs()).item()
    assert found == pytest.approx(share * first + (1 - share) * second, abs=1e-5)


def test_every_pair_has_its_head_and_the_objective_keeps_it() -> None:
    loss = DistilHuBERT(PAIRS, {"a": 4}, {"x": 3, "y": 2})
    shapes = [tuple(p.shape) for p in loss.parameters()]  # of weights and biases in turn
    assert shapes == [(4, 4), (4,), (3, 4), (3,), (4, 4), (4,), (2, 4), (2,)]
    objective = DistillationObjective(None, Alpha(0), {"ssl": loss}, {"ssl": 0.5})
    assert set(objective.state_dict()) == {
        f"terms.ssl.heads.{head}.{layer}.{name}"
        for head in (0, 1)
        for layer in (0, 2)
        for name in ("weight", "bias")
    }


def test_gradient_reaches_the_student_and_the_heads() -> None:
    torch.manual_seed(0)
    loss = DistilHuBERT(PAIRS, *SIZES)
    ours = STUDENT["a"].clone().requires_grad_()
    theirs = {name: value.clone().requires_grad_() for name, value in TEACHER.items()}
    loss(StudentOutput(X, {"a": ours}, X), TeacherOutput(X, theirs)).backward()
    for learned in (ours, *loss.parameters()):
        assert learned.grad is not None and learned.grad.abs().sum() > 0
    assert all(value.grad is None for value in theirs.values())


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (["c", "x"], "^pairs: the student has no layer 'c', its layers are: a$"),
        (["a", "z"], "^pairs: the teacher has no layer 'z', its layers are: x, y$"),
        (["a", "x"], "student's a has 1 frames where the teacher's x has 2: pair layers of one"),
    ],
)
def test_layers_that_do_not_compare_are_named(pair: list[str], sentence: str) -> None:
    short = StudentOutput(X, {"a": STUDENT["a"][:, :1]}, X)
    with pytest.raises(ValueError, match=sentence):
        DistilHuBERT([pair], *SIZES)(short, outputs()[1])


def test_hidden_outputs_in_bfloat16_are_compared_in_float32() -> None:
    loss = DistilHuBERT(PAIRS, *SIZES)
    ours, theirs = ({name: x.bfloat16() for name, x in d.items()} for d in (STUDENT, TEACHER))
    found = loss(StudentOutput(X, ours, X), TeacherOutput(X, theirs))
    assert found.dtype == torch.float32  # and these values are exact in bfloat16
    assert torch.equal(found, loss(*outputs()))


def test_what_is_predicted_keeps_full_precision_under_amp() -> None:
    torch.manual_seed(0)
    loss = DistilHuBERT([["a", "y"]], *SIZES, cosine_weight=0.0)
    near = loss.heads[0](STUDENT["a"]).detach() + 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(StudentOutput(X, STUDENT, X), TeacherOutput(X, {"y": near}))
    assert found.item() == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"^cosine_weight must be at least 0, got {value}$"):
        DistilHuBERT(PAIRS, *SIZES, cosine_weight=value)
