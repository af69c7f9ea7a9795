"""The distillation losses against their formulas."""

from __future__ import annotations

import pytest
import torch

from speechbrain_ext.distill.losses import CosineDistillation, KLDistillation, MSEDistillation


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
