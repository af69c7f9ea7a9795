"""The weighted sum, and what is refused before training starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from speechbrain_ext.distill.alpha import Alpha, Curriculum, GradientBalance
from speechbrain_ext.distill.losses import CosineDistillation
from speechbrain_ext.distill.objective import DistillationObjective, Objective
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput, Term


class Mean(Term):
    """A term: the mean of the features, or of the teacher's embedding."""

    def __init__(self, uses_teacher: bool) -> None:
        super().__init__()
        self.uses_teacher = uses_teacher

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> torch.Tensor:
        return (teacher.embedding if self.uses_teacher else student.feats).mean()


def outputs(size: int = 16) -> tuple[StudentOutput, TeacherOutput]:
    student, feats = torch.randn(8, size, requires_grad=True), torch.randn(8, 20, 4)
    return StudentOutput(student, {}, feats), TeacherOutput(torch.randn(8, size), {})


def test_weights_of_alpha_terms_and_the_rest() -> None:
    student, teacher = outputs()
    objective = DistillationObjective(
        CosineDistillation(),
        Alpha(0.4),
        {"hint": Mean(True), "rebuilt": Mean(False)},
        {"hint": 0.3, "rebuilt": 0.1},
    )
    found = objective(torch.tensor(3.0), student, teacher)
    distillation = CosineDistillation()(student.embedding, teacher.embedding)
    expected = 0.2 * 3 + 0.4 * distillation + 0.3 * teacher.embedding.mean()
    assert torch.allclose(found.total, expected + 0.1 * student.feats.mean(), atol=1e-6)
    assert torch.equal(found.terms["distillation"], distillation)
    assert objective.teacher_terms == ["distillation", "hint"] and objective.needs_teacher
    assert Objective({"only": torch.tensor(2.0)}, {"only": 1.0}).total == 2


@pytest.mark.parametrize("name", ["loss", "unreadable", "labelled", "correct"])
def test_a_term_has_no_name_that_the_log_counts_by(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a name of the training log's own"):
        DistillationObjective(None, Alpha(0.0), {name: Mean(True)}, {name: 0.5})


def test_without_a_teacher_only_labels_count() -> None:
    student, _ = outputs()
    objective = DistillationObjective(CosineDistillation(), Alpha(0.0))
    found = objective(torch.tensor(3.0), student, None)
    assert not objective.needs_teacher
    assert found.total == 3 and list(found.terms) == ["classification"]
    listens = DistillationObjective(CosineDistillation(), Alpha(0.0), {"a": Mean(True)}, {"a": 0.1})
    assert listens.needs_teacher


def test_projection_is_for_the_distillation_alone() -> None:
    student, _ = outputs(16)
    teacher = TeacherOutput(torch.randn(8, 4), {})
    projection = nn.Linear(16, 4)
    objective = DistillationObjective(CosineDistillation(), Alpha(0.5), projection=projection)
    found = objective(torch.tensor(1.0), student, teacher)
    expected = CosineDistillation()(projection(student.embedding), teacher.embedding)
    assert torch.equal(found.terms["distillation"], expected)
    assert set(dict(objective.named_parameters())) == {"projection.weight", "projection.bias"}


def test_a_teacher_without_speaker_embeddings_teaches_by_terms_alone() -> None:
    student, _ = outputs(16)
    teacher = TeacherOutput(torch.randn(8, 3), {})  # of a size that no distillation would take
    terms, weights = {"hidden": Mean(True), "rebuilt": Mean(False)}, {"hidden": 0.5, "rebuilt": 0.2}
    objective = DistillationObjective(None, Alpha(0.0), terms, weights)
    found = objective(torch.tensor(3.0), student, teacher)
    assert list(found.terms) == list(found.weights) == ["classification", "hidden", "rebuilt"]
    assert found.weights == pytest.approx({"classification": 0.3, "hidden": 0.5, "rebuilt": 0.2})
    expected = 0.3 * 3 + 0.5 * teacher.embedding.mean() + 0.2 * student.feats.mean()
    assert torch.allclose(found.total, expected, atol=1e-6)
    assert objective.teacher_terms == ["hidden"] and objective.needs_teacher
    assert not objective.state_dict()


def test_without_distillation_and_teacher_terms_no_teacher_is_needed() -> None:
    student, teacher = outputs()
    objective = DistillationObjective(None, Alpha(0.0), {"rebuilt": Mean(False)}, {"rebuilt": 0.2})
    assert objective.teacher_terms == [] and not objective.needs_teacher
    alone = objective(torch.tensor(3.0), student, None)
    assert torch.equal(alone.total, objective(torch.tensor(3.0), student, teacher).total)


@pytest.mark.parametrize("alpha", [Alpha(0.7), Curriculum([0.0, 0.7], [1, 5])])
def test_alpha_is_the_weight_of_something(alpha: Alpha) -> None:
    with pytest.raises(ValueError, match="^alpha is 0.7 and distillation is null: set alpha to 0"):
        DistillationObjective(None, alpha, {"a": Mean(True)}, {"a": 0.5})
    with pytest.raises(ValueError, match="^projection is Linear, which is for the distillation"):
        DistillationObjective(None, Alpha(0.0), projection=nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"terms": {"a": Mean(True)}}, "give each term its weight"),
        ({"term_weights": {"a": 0.1}}, "give each term its weight"),
        ({"terms": {"a": Mean(True)}, "term_weights": {"a": 0.4}}, "sum to more than 1"),
        ({"terms": {"a": Mean(True)}, "term_weights": {"a": 0.0}}, "must be positive"),
        *(
            ({"terms": {name: Mean(True)}, "term_weights": {name: 0.1}}, f"terms: {name} is a name")
            for name in ("distillation", "loss", "accuracy", "weight", "share_a", "a/b")
        ),
    ],
)
def test_weights_that_do_not_sum_to_what_is_promised(
    arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        DistillationObjective(CosineDistillation(), Alpha(0.7), **arguments)


def test_the_largest_alpha_of_a_rule_must_leave_room() -> None:
    terms: dict[str, Any] = {"terms": {"a": Mean(True)}, "term_weights": {"a": 0.4}}
    DistillationObjective(CosineDistillation(), Curriculum([0.5, 0.6], [1, 5]), **terms)
    with pytest.raises(ValueError, match="sum to more than 1"):
        DistillationObjective(CosineDistillation(), Curriculum([0.5, 0.7], [1, 5]), **terms)
    with pytest.raises(ValueError, match="sum to more than 1"):
        DistillationObjective(CosineDistillation(), GradientBalance(maximum=0.7), **terms)
