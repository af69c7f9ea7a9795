"""Relational distillation against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from speechbrain_ext.distill.relational import RelationalDistillation


def test_by_hand_with_embeddings_of_two_sizes() -> None:
    # Cosines of the pairs (1, 2), (1, 3), (2, 3): 0, -1, 0 and 0, 0, 1. Less their means:
    # (1, -2, 1) / 3 and (-1, -1, 2) / 3, whose cosine is 3 / 6.
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-7.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 5.0, 0.0]])
    assert RelationalDistillation()(student, teacher).item() == pytest.approx(0.5, abs=1e-6)


def test_it_is_the_correlation_of_the_pairs() -> None:
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


def test_gradient_reaches_the_student_and_not_the_teacher() -> None:
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


def test_under_amp_it_is_computed_in_float32() -> None:
    student, teacher = torch.randn(8, 64).bfloat16(), torch.randn(8, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = RelationalDistillation()(student, teacher)
    assert half.dtype == torch.float32
    full = RelationalDistillation()(student.float(), teacher.float())
    assert torch.allclose(half, full, atol=1e-6)
