"""The distance of hidden outputs against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from speechbrain_ext.distill.alpha import Alpha
from speechbrain_ext.distill.layer_terms import HiddenMSE
from speechbrain_ext.distill.objective import DistillationObjective
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

X = torch.ones(1, 2)
# (a - x)² is 0, 4, 1 and 9 over two frames of two channels: 3.5. b, once its projection adds a
# third channel of zeros, is away from y by 1, 1 and 2: 2.
STUDENT = {
    "a": torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
    "b": torch.tensor([[[1.0, 1.0]]]),
}
TEACHER = {
    "x": torch.tensor([[[1.0, 2.0], [1.0, -1.0]]]),
    "y": torch.tensor([[[0.0, 2.0, 2.0]]]),
}
SIZES = {"a": 2, "b": 2}, {"x": 2, "y": 3}


def outputs() -> tuple[StudentOutput, TeacherOutput]:
    return StudentOutput(X, STUDENT, X), TeacherOutput(X, TEACHER)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, (3.5 + 2) / 2), ([1.0, 3.0], (3.5 + 3 * 2) / 4), ([2.0, 6.0], (3.5 + 3 * 2) / 4)],
)
def test_by_hand(weights: list[float] | None, expected: float) -> None:
    loss = HiddenMSE([["a", "x"], ["b", "y"]], *SIZES, weights)
    for parameter in loss.parameters():
        (nn.init.eye_ if parameter.dim() == 2 else nn.init.zeros_)(parameter)
    assert loss(*outputs()).item() == pytest.approx(expected, abs=1e-6)


def test_only_layers_of_other_widths_are_projected() -> None:
    loss = HiddenMSE([["a", "x"], ["b", "y"]], *SIZES)
    assert isinstance(loss.projections[0], nn.Identity)
    assert [tuple(p.shape) for p in loss.parameters()] == [(3, 2), (3,)]
    assert loss.uses_teacher
    objective = DistillationObjective(None, Alpha(0), {"hidden": loss}, {"hidden": 0.5})
    assert set(objective.state_dict()) == {
        "terms.hidden.projections.1.weight",
        "terms.hidden.projections.1.bias",
    }
    equal = HiddenMSE([["a", "x"]], *SIZES)
    assert not DistillationObjective(None, Alpha(0), {"a": equal}, {"a": 0.5}).state_dict()


def test_gradient_reaches_the_student_and_the_projection() -> None:
    loss = HiddenMSE([["a", "x"], ["b", "y"]], *SIZES)
    ours = {name: value.clone().requires_grad_() for name, value in STUDENT.items()}
    theirs = {name: value.clone().requires_grad_() for name, value in TEACHER.items()}
    loss(StudentOutput(X, ours, X), TeacherOutput(X, theirs)).backward()
    # Of half the mean of (a - x)² over four numbers.
    assert torch.allclose(ours["a"].grad, (STUDENT["a"] - TEACHER["x"]) / 4)  # type: ignore[arg-type]
    for learned in (ours["b"], *loss.parameters()):
        assert learned.grad is not None and learned.grad.abs().sum() > 0
    assert all(value.grad is None for value in theirs.values())


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (["c", "x"], "^pairs: the student has no layer 'c', its layers are: a, b$"),
        (["a", "z"], "^pairs: the teacher has no layer 'z', its layers are: x, y$"),
        (["a", "y"], "student's a has 2 frames where the teacher's y has 1: pair layers of one"),
    ],
)
def test_layers_that_do_not_compare_are_named(pair: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HiddenMSE([pair], *SIZES)(*outputs())


def test_hidden_outputs_in_bfloat16_are_compared_in_float32() -> None:
    loss = HiddenMSE([["a", "x"], ["b", "y"]], *SIZES)
    ours, theirs = ({name: x.bfloat16() for name, x in d.items()} for d in (STUDENT, TEACHER))
    found = loss(StudentOutput(X, ours, X), TeacherOutput(X, theirs))
    assert found.dtype == torch.float32  # and these values are exact in bfloat16
    assert torch.equal(found, loss(*outputs()))


def test_what_is_projected_keeps_full_precision_under_amp() -> None:
    torch.manual_seed(0)
    loss = HiddenMSE([["b", "y"]], *SIZES)
    near = loss.projections[0](STUDENT["b"]).detach() + 1e-3
    x = StudentOutput(X, STUDENT, X), TeacherOutput(X, {"y": near})
    with torch.autocast("cpu", torch.bfloat16):
        # In bfloat16 a value near 1 is rounded by more than what is to be measured here.
        assert loss(*x).item() == pytest.approx(1e-6, rel=0.01)
