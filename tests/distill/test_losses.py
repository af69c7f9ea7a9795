"""The distillation losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from speechbrain_ext.distill.alpha import Alpha
from speechbrain_ext.distill.losses import (
    CosineDistillation,
    EmbeddingTerm,
    InBatchContrast,
    KLDistillation,
    MSEDistillation,
    RelationalDistillation,
)
from speechbrain_ext.distill.objective import DistillationObjective
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput


@pytest.mark.parametrize(("size", "temperature"), [(512, 4.0), (64, 1.0)])
def test_mse_is_the_cosine_loss_over_half_of_d_t_squared(size: int, temperature: float) -> None:
    """Why distillation by MSE fails: with D 512 and T 4 it is the cosine loss divided by 4096."""
    student, teacher = torch.randn(2, 8, size, dtype=torch.float64).unbind()
    mse = MSEDistillation(temperature)(student, teacher)
    cosine = CosineDistillation()(student, teacher)
    assert mse.item() == pytest.approx(2 * cosine.item() / (size * temperature**2), rel=1e-5)


def test_kl_by_its_definition() -> None:
    student, teacher = torch.randn(2, 8, 16).unbind()
    p, q = (torch.softmax(x / 4, dim=-1) for x in (teacher, student))
    expected = (p * (p / q).log()).sum(dim=-1).mean() * 16
    assert torch.allclose(KLDistillation(4.0)(student, teacher), expected, atol=1e-6)


def test_cosine_ignores_length_and_teacher_gets_no_say_in_it() -> None:
    student, teacher = torch.randn(2, 8, 16).unbind()
    loss = CosineDistillation()
    assert torch.allclose(loss(student, teacher), loss(3 * student, 0.1 * teacher), atol=1e-6)
    assert loss(student, student).abs() < 1e-6
    assert torch.allclose(loss(student, -student), torch.tensor(2.0))


@pytest.mark.parametrize("loss", [MSEDistillation, KLDistillation, InBatchContrast])
def test_temperature_must_be_positive(loss: type) -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        loss(0)


@pytest.mark.parametrize(
    "loss", [MSEDistillation(), CosineDistillation(), KLDistillation(), InBatchContrast()]
)
def test_embeddings_of_other_sizes_need_a_projection(loss: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="size 512 and the teacher's 192.*projection"):
        loss(torch.randn(4, 512), torch.randn(4, 192))


def contrast_by_definition(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> float:
    losses = []
    for own, embedding in enumerate(student.tolist()):
        similarities = []
        for other in teacher.tolist():
            product = math.fsum(x * y for x, y in zip(embedding, other, strict=True))
            similarities.append(product / (math.hypot(*embedding) * math.hypot(*other)))
        weights = [math.exp(similarity / temperature) for similarity in similarities]
        losses.append(-math.log(weights[own] / math.fsum(weights)))
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize(("size", "temperature"), [(2, 0.5), (7, 0.05), (16, 1.0)])
def test_contrast_by_its_definition(size: int, temperature: float) -> None:
    student, teacher = torch.randn(2, size, 12).unbind()
    student[0] = 5 * teacher[0]
    expected = contrast_by_definition(student, teacher, temperature)
    found = InBatchContrast(temperature)(student, teacher)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_contrast_asks_for_ones_own_teacher() -> None:
    teacher = torch.randn(8, 64)
    loss = InBatchContrast()
    assert loss(2 * teacher, teacher) < 0.01
    assert loss(teacher.roll(1, dims=0), teacher) > 10
    nothing = loss(torch.ones(8, 1).expand(8, 64), torch.eye(64)[:8])
    assert nothing.item() == pytest.approx(math.log(8), abs=1e-5)


def test_contrast_gradient_leads_to_the_own_and_away_from_the_others() -> None:
    # Cosines 0.6 and 0.8 at temperature 1: p is the share of the other one.
    student = torch.tensor([[0.6, 0.8]], dtype=torch.float64).repeat(2, 1).requires_grad_()
    teacher = torch.eye(2, dtype=torch.float64, requires_grad=True)
    InBatchContrast(1.0)(student, teacher).backward()
    p = math.exp(0.8) / (math.exp(0.6) + math.exp(0.8))
    # The pull (-p, p) less what of it is along the embedding; half of it, by the mean of two.
    along = -p * 0.6 + p * 0.8
    expected = [(-p - 0.6 * along) / 2, (p - 0.8 * along) / 2]
    assert student.grad is not None and teacher.grad is None
    assert student.grad[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_crop_alone_has_nothing_to_contrast_with() -> None:
    student = torch.randn(1, 4, requires_grad=True)
    loss = InBatchContrast()(student, torch.randn(1, 4))
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_two_crops_with_one_target_pull_at_neither() -> None:
    """As two of an utterance have whose teacher is cached: both are their own, half each."""
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    student = torch.tensor([[0.6, 0.8], [0.8, 0.6]], requires_grad=True)
    loss = InBatchContrast()(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-5)
    assert student.grad is not None and student.grad.abs().max() < 1e-5


def test_embeddings_that_are_zero_are_no_harm() -> None:
    student = torch.zeros(3, 4, requires_grad=True)
    loss = InBatchContrast()(student, torch.randn(3, 4))
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_several_losses_of_embeddings_by_their_weights() -> None:
    student = torch.randn(6, 8, requires_grad=True)
    teacher = torch.randn(6, 5)
    projection = torch.nn.Linear(8, 5)
    terms = {
        "contrast": EmbeddingTerm(InBatchContrast(), projection),
        "relational": EmbeddingTerm(RelationalDistillation()),
    }
    objective = DistillationObjective(
        CosineDistillation(), Alpha(0.5), terms, {"contrast": 0.25, "relational": 0.25}, projection
    )
    outputs = StudentOutput(student, {}, student), TeacherOutput(teacher, {})
    found = objective(torch.tensor(7.0), *outputs)
    assert objective.teacher_terms == ["distillation", "contrast", "relational"]
    assert found.weights["classification"] == pytest.approx(0)
    expected = 0.5 * CosineDistillation()(projection(student), teacher)
    expected += 0.25 * InBatchContrast()(projection(student), teacher)
    expected += 0.25 * RelationalDistillation()(student, teacher)
    assert torch.allclose(found.total, expected, atol=1e-6)
    assert len(list(objective.parameters())) == 2  # of one projection


def test_relational_by_hand_with_embeddings_of_two_sizes() -> None:
    # Cosines of the pairs (1, 2), (1, 3), (2, 3): 0, -1, 0 and 0, 0, 1. Less their means:
    # (1, -2, 1) / 3 and (-1, -1, 2) / 3, whose cosine is 3 / 6.
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-7.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 5.0, 0.0]])
    assert RelationalDistillation()(student, teacher).item() == pytest.approx(0.5, abs=1e-6)


def test_relational_is_the_correlation_of_the_pairs() -> None:
    student, teacher = torch.randn(6, 8), torch.randn(6, 16)
    pairs = [(i, j) for i in range(6) for j in range(i)]
    cosines = torch.tensor(
        [[torch.cosine_similarity(x[i], x[j], dim=0) for i, j in pairs] for x in (student, teacher)]
    )
    expected = 1 - torch.corrcoef(cosines)[0, 1].item()
    assert RelationalDistillation()(student, teacher).item() == pytest.approx(expected, abs=1e-5)


def test_a_rotation_changes_nothing() -> None:
    teacher = torch.randn(8, 16)
    rotation = torch.linalg.qr(torch.randn(16, 16)).Q
    assert RelationalDistillation()(3 * teacher @ rotation, teacher).abs() < 1e-5


def test_relational_gradient_reaches_the_student_and_not_the_teacher() -> None:
    student = torch.randn(5, 4, requires_grad=True)
    teacher = torch.randn(5, 6, requires_grad=True)
    RelationalDistillation()(student, teacher).backward()
    assert student.grad is not None and student.grad.abs().sum() > 0 and teacher.grad is None


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_without_a_pattern_is_harmless(size: int) -> None:
    student = torch.randn(size, 4, requires_grad=True)
    loss = RelationalDistillation()(student, torch.randn(size, 6))
    loss.backward()
    assert loss.item() == 1 and student.grad is not None and not student.grad.any()


@pytest.mark.parametrize("loss", [RelationalDistillation(), InBatchContrast()])
def test_under_amp_it_is_computed_in_float32(loss: torch.nn.Module) -> None:
    student, teacher = torch.randn(8, 64).bfloat16(), torch.randn(8, 64).bfloat16()
    term = EmbeddingTerm(loss, torch.nn.Linear(64, 64))
    assert term.projection is not None
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(student, teacher)
        projected = term(StudentOutput(student, {}, student), TeacherOutput(teacher, {}))
    assert half.dtype == projected.dtype == torch.float32
    assert torch.allclose(half, loss(student.float(), teacher.float()), atol=1e-6)
    full = loss(term.projection(student.float()), teacher.float())
    assert torch.allclose(projected, full, atol=1e-6)
