"""Losses between the embeddings of student and teacher.

Each is an :class:`~speechbrain_ext.interfaces.EmbeddingLoss`.
"""

from __future__ import annotations

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F


def _check_sizes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's embeddings have size {student.shape[-1]} and the teacher's "
            f"{teacher.shape[-1]}: set lin_neurons to the teacher's size, or projection to a layer "
            "from one to the other"
        )


def _check_temperature(temperature: float) -> float:
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return temperature


class MSEDistillation(nn.Module):
    """Mean squared difference of the normalised embeddings, both divided by the temperature.

    For unit vectors it equals ``2 (1 - cos) / (D T²)``: with D 512 and T 4, the cosine loss divided
    by 4096. It is here to rebuild the systems that used it.

    Arguments
    ---------
    temperature : float
        T, positive.

    Raises
    ------
    ValueError
        When the temperature is not positive.

    Example
    -------
    >>> student, teacher = torch.randn(4, 512), torch.randn(4, 512)
    >>> mse, cosine = MSEDistillation(4.0)(student, teacher), CosineDistillation()(student, teacher)
    >>> torch.allclose(mse * 4096, cosine)
    True
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = _check_temperature(temperature)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D)."""
        _check_sizes(student, teacher)
        student, teacher = F.normalize(student.float()), F.normalize(teacher.float())
        return F.mse_loss(student / self.temperature, teacher / self.temperature)


class CosineDistillation(nn.Module):
    """One minus the cosine between student and teacher, averaged: in [0, 2].

    Example
    -------
    >>> CosineDistillation()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    tensor(1.)
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D)."""
        _check_sizes(student, teacher)
        return (1 - F.cosine_similarity(student.float(), teacher.float())).mean()


class KLDistillation(nn.Module):
    """KL divergence of softmax(student / T) from softmax(teacher / T), times T²; a batch mean.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, with the dimensions of the
    embedding in the place of classes.

    Arguments
    ---------
    temperature : float
        T, positive.

    Raises
    ------
    ValueError
        When the temperature is not positive.

    Example
    -------
    >>> x = torch.randn(4, 512)
    >>> bool(KLDistillation(4.0)(x, x).abs() < 1e-5)
    True
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = _check_temperature(temperature)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D)."""
        _check_sizes(student, teacher)
        log_student = F.log_softmax(student.float() / self.temperature, dim=-1)
        log_teacher = F.log_softmax(teacher.float() / self.temperature, dim=-1)
        divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        return divergence * self.temperature**2


class RelationalDistillation(nn.Module):
    """One minus the correlation of student's and teacher's cosines between the batch's utterances.

    Over all pairs of two utterances, in [0, 2]. Only the pattern of likenesses counts, neither
    where the cosines lie nor how far they spread; the two embeddings may differ in size. The mean
    squared difference of the cosines would be simpler, but is some hundredths already between a
    trained teacher and a student that has learned nothing: next to a classification loss of 3 it
    would go the way of :class:`~speechbrain_ext.distill.losses.MSEDistillation`.

    Park et al., "Relational knowledge distillation", 2019, match distances that are divided by
    their mean; the correlation of Huang et al., "Knowledge distillation from a stronger teacher",
    2022, stands in its place.

    A batch of fewer than three utterances has no pattern: the loss is 1, without gradient.

    Example
    -------
    >>> student, teacher = torch.randn(8, 16), torch.randn(8, 512)
    >>> loss = RelationalDistillation()
    >>> 0 < float(loss(student, teacher)) < 2, bool(loss(teacher, teacher).abs() < 1e-5)
    (True, True)
    """

    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D')."""
        ours, theirs = _cosines(student), _cosines(teacher.detach())
        return 1 - F.cosine_similarity(ours, theirs, dim=0)


def _cosines(embeddings: Tensor) -> Tensor:
    """Cosines of every two different rows of (B, D), less their mean: (B (B - 1) / 2,)."""
    unit = F.normalize(embeddings.float())
    size = len(unit)
    first, second = torch.triu_indices(size, size, offset=1, device=unit.device)
    cosines = (unit @ unit.T)[first, second]
    return cosines - cosines.mean()
