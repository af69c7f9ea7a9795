"""The distillation losses against their formulas."""

from __future__ import annotations

import pytest
import torch

from speechbrain_ext.distill.losses import (
    CosineDistillation,
    KLDistillation,
    MSEDistillation,
    RelationalDistillation,
)


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


@pytest.mark.parametrize("loss", [MSEDistillation, KLDistillation])
def test_temperature_must_be_positive(loss: type) -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        loss(0)


@pytest.mark.parametrize("loss", [MSEDistillation(), CosineDistillation(), KLDistillation()])
def test_embeddings_of_other_sizes_need_a_projection(loss: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="size 512 and the teacher's 192.*projection"):
        loss(torch.randn(4, 512), torch.randn(4, 192))


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


def test_under_amp_relational_is_computed_in_float32() -> None:
    student, teacher = torch.randn(8, 64).bfloat16(), torch.randn(8, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = RelationalDistillation()(student, teacher)
    assert half.dtype == torch.float32
    full = RelationalDistillation()(student.float(), teacher.float())
    assert torch.allclose(half, full, atol=1e-6)
