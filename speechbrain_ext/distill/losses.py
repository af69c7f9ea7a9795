"""Losses between the embeddings of student and teacher.

Each is an :class:`~speechbrain_ext.interfaces.EmbeddingLoss`: the distillation itself, or one of
the terms beside it, by :class:`EmbeddingTerm`.
"""

from __future__ import annotations

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import EmbeddingLoss, StudentOutput, TeacherOutput, Term
from speechbrain_ext.nnet.distributed import rows_of_all


def check_sizes(student: Tensor, teacher: Tensor) -> None:
    """Refuse embeddings (B, D) and (B, D') of different sizes, by a ValueError."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's embeddings have size {student.shape[-1]} and the teacher's "
            f"{teacher.shape[-1]}: set lin_neurons to the teacher's size, or projection to a layer "
            "from one to the other"
        )


def check_temperature(temperature: float) -> float:
    """Return a temperature, or raise a ValueError when it is not positive."""
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

    one_space = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D)."""
        check_sizes(student, teacher)
        student, teacher = F.normalize(student.float()), F.normalize(teacher.float())
        return F.mse_loss(student / self.temperature, teacher / self.temperature)


class CosineDistillation(nn.Module):
    """One minus the cosine between student and teacher, averaged: in [0, 2].

    Example
    -------
    >>> CosineDistillation()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    tensor(1.)
    """

    one_space = True

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D)."""
        check_sizes(student, teacher)
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
        self.temperature = check_temperature(temperature)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D)."""
        check_sizes(student, teacher)
        log_student = F.log_softmax(student.float() / self.temperature, dim=-1)
        log_teacher = F.log_softmax(teacher.float() / self.temperature, dim=-1)
        divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        return divergence * self.temperature**2


class InBatchContrast(nn.Module):
    """Cross-entropy of finding the teacher's embedding of one's own crop among those of the batch.

    The logits are the cosines of a student's embedding and the teacher's of all crops, divided by
    the temperature. A student that knows nothing has ln B in a batch of B crops; a crop alone has
    0, without gradient. The teacher's embeddings of all processes count: each row of the loss needs
    one embedding of the student's and those of the teacher's, which have no gradient, so several
    processes have the loss that one has with the same global batch.

    Peng et al., "Label-free knowledge distillation with contrastive loss for light-weight speaker
    recognition", 2022, arXiv 2212.03090: InfoNCE between two networks, which needs no labels. Other
    crops of the same speaker count as others.

    Arguments
    ---------
    temperature : float
        What the cosines are divided by, positive; 0.05 is a scale of 20.

    Raises
    ------
    ValueError
        When the temperature is not positive.

    Example
    -------
    >>> contrast = InBatchContrast(temperature=0.5)
    >>> contrast(torch.eye(2), 3 * torch.eye(2)), contrast(torch.ones(2, 2), torch.eye(2))
    (tensor(0.1269), tensor(0.6931))
    """

    one_space = True

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of (B, D) and (B, D)."""
        check_sizes(student, teacher)
        candidates, first = rows_of_all(F.normalize(teacher.detach().float()))
        logits = F.normalize(student.float()) @ candidates.T / self.temperature
        own = torch.arange(first, first + len(student), device=student.device)
        return F.cross_entropy(logits, own)


class RelationalDistillation(nn.Module):
    """One minus the correlation of student's and teacher's cosines between the batch's utterances.

    Over all pairs of two utterances of a batch, that of all processes, in [0, 2]. Only the pattern
    of likenesses counts, neither where the cosines lie nor how far they spread; the two embeddings
    may differ in size. The mean squared difference of the cosines would be simpler, but is some
    hundredths already between a trained teacher and a student that has learned nothing: next to a
    classification loss of 3 it would go the way of
    :class:`~speechbrain_ext.distill.losses.MSEDistillation`.

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
        ours, theirs = (_cosines(rows_of_all(x)[0]) for x in (student, teacher.detach()))
        return 1 - F.cosine_similarity(ours, theirs, dim=0)


def _cosines(embeddings: Tensor) -> Tensor:
    """Cosines of every two different rows of (B, D), less their mean: (B (B - 1) / 2,)."""
    unit = F.normalize(embeddings.float())
    size = len(unit)
    first, second = torch.triu_indices(size, size, offset=1, device=unit.device)
    cosines = (unit @ unit.T)[first, second]
    return cosines - cosines.mean()


class EmbeddingTerm(Term):
    """A loss between embeddings as a further term, with a name and a weight of its own.

    So one objective has several: the distillation, by alpha, and such terms.

    Arguments
    ---------
    loss : EmbeddingLoss
        Of the embeddings (B, D) and (B, D').
    projection : Module, optional
        Takes the student's embeddings to the teacher's size; that of the distillation by
        ``!ref <projection>``.

    Example
    -------
    >>> term = EmbeddingTerm(CosineDistillation())
    >>> x = torch.tensor([[1.0, 0.0]])
    >>> term(StudentOutput(x, {}, x), TeacherOutput(-x, {}))
    tensor(2.)
    """

    uses_teacher = True

    def __init__(self, loss: EmbeddingLoss, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.projection = loss, projection

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Term`."""
        return self.loss(projected(student.embedding, self.projection), teacher.embedding)


def projected(embedding: Tensor, projection: nn.Module | None) -> Tensor:
    """Embeddings (B, D) as they are, or in float32 as a projection maps them to (B, D')."""
    if projection is None:
        return embedding
    # Under AMP the cosine of what it gives would have some three digits.
    with torch.autocast(embedding.device.type, enabled=False):
        return projection(embedding.float())
