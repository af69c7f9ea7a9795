"""Terms over pairs of layers refuse what they cannot compare, before any training."""

from __future__ import annotations

import pytest
import torch

from speechbrain_ext.distill.layer_terms import AttentionTransfer, Hints, LayerPairs
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

STUDENT = {"block1": 4, "block2": 4}
TEACHER = {"bottleneck": 3, "lstm1": 6}


@pytest.mark.parametrize("term", [Hints, AttentionTransfer])
@pytest.mark.parametrize(
    ("pairs", "weights", "sentence"),
    [
        (
            [["block3", "lstm1"]],
            None,
            r"^pairs: the student has no layer 'block3', its layers are: block1, block2$",
        ),
        (
            [["block1", "lstm1"], ["block1", "lstm2"]],
            None,
            r"^pairs: the teacher has no layer 'lstm2', its layers are: bottleneck, lstm1$",
        ),
        ([["block1"]], None, r"^pairs: \['block1'\] is not a \[student's layer"),
        (["ab"], None, r"^pairs: ab is not a \[student's layer, teacher's layer\]$"),
        ([], None, r"^pairs must name at least one pair of layers, got \[\]$"),
        ([["block1", "lstm1"]], [1.0, 2.0], r"^weights has 2 values and pairs has 1"),
        ([["block1", "lstm1"]], [0.0], r"^weights must be positive, got \[0.0\]$"),
        ([["block1", "lstm1"]], [float("nan")], r"^weights must be positive, got \[nan\]$"),
    ],
)
def test_mistakes_are_named_at_construction(
    term: type[LayerPairs], pairs: list, weights: list[float] | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        term(pairs, STUDENT, TEACHER, weights)


def test_a_network_without_layers_says_so() -> None:
    with pytest.raises(ValueError, match="'lstm1', its layers are: none$"):
        Hints([["block1", "lstm1"]], STUDENT, {})


@pytest.mark.parametrize("term", [Hints, AttentionTransfer])
def test_layers_of_other_frame_rates_are_refused(term: type[LayerPairs]) -> None:
    student = StudentOutput(torch.ones(2, 4), {"block1": torch.ones(2, 10, 4)}, torch.ones(2, 9, 1))
    teacher = TeacherOutput(torch.ones(2, 4), {"lstm1": torch.ones(2, 5, 6)})
    with pytest.raises(
        ValueError, match="student's block1 has 10 frames where the teacher's lstm1 has 5"
    ):
        term([["block1", "lstm1"]], STUDENT, TEACHER)(student, teacher)


@pytest.mark.parametrize("term", [Hints, AttentionTransfer])
def test_gradient_reaches_the_student_and_not_the_teacher(term: type[LayerPairs]) -> None:
    ours = {name: torch.randn(2, 7, size, requires_grad=True) for name, size in STUDENT.items()}
    theirs = {name: torch.randn(2, 7, size, requires_grad=True) for name, size in TEACHER.items()}
    embedding = torch.randn(2, 5)
    loss = term([["block1", "bottleneck"], ["block2", "lstm1"]], STUDENT, TEACHER)
    loss(StudentOutput(embedding, ours, embedding), TeacherOutput(embedding, theirs)).backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in ours.values())
    assert all(x.grad is None for x in theirs.values())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize("term", [Hints, AttentionTransfer])
def test_under_amp_the_loss_is_float32_and_near_the_full_precision(term: type[LayerPairs]) -> None:
    loss = term([["block1", "lstm1"]], STUDENT, TEACHER)
    hidden, target = torch.randn(4, 50, 4), torch.randn(4, 50, 6)
    x = torch.ones(4, 2)
    full = loss(StudentOutput(x, {"block1": hidden}, x), TeacherOutput(x, {"lstm1": target}))
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(
            StudentOutput(x, {"block1": hidden.bfloat16()}, x),
            TeacherOutput(x, {"lstm1": target.bfloat16()}),
        )
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.01)
