"""Which utterances resemble which, as the teacher sees it."""

from __future__ import annotations

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F


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
