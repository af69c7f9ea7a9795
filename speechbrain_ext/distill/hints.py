"""Hidden outputs that follow the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.distill.layer_terms import LayerPairs


class Hints(LayerPairs):
    """One minus the cosine, frame by frame, of the teacher's layers and the student's projected.

    In [0, 2]: an average over the batch and time, then over the pairs by their weights. Every
    pair has a linear projection of its own, from the student's channels to the teacher's; they are
    learned with the student and are no part of it.

    Romero et al., "FitNets: hints for thin deep nets", 2015, at several layers at once and by the
    cosine.

    Arguments
    ---------
    pairs : list of (str, str)
        Names of a student's layer and of the teacher's layer it learns from.
    student_layers, teacher_layers : mapping of str to int
        Names and channels of all hidden outputs of the two networks: their ``layers``.
    weights : list of float, optional
        One for every pair, positive; only their proportions count. Equal by default.

    Raises
    ------
    ValueError
        For a layer that does not exist, no pairs, or weights that do not fit them.

    Example
    -------
    >>> from speechbrain_ext.distill.outputs import StudentOutput, TeacherOutput
    >>> hints = Hints([["block2", "lstm1"]], {"block1": 8, "block2": 8}, {"lstm1": 16})
    >>> student = StudentOutput(torch.randn(4, 2), {"block2": torch.randn(4, 50, 8)}, torch.ones(1))
    >>> teacher = TeacherOutput(torch.randn(4, 2), {"lstm1": torch.randn(4, 50, 16)})
    >>> 0 < float(hints(student, teacher)) < 2
    True
    """

    def __init__(
        self,
        pairs: Sequence[Sequence[str]],
        student_layers: Mapping[str, int],
        teacher_layers: Mapping[str, int],
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(pairs, student_layers, teacher_layers, weights)
        self.projections = nn.ModuleList(
            nn.Linear(student_layers[student], teacher_layers[teacher])
            for student, teacher in self.pairs
        )

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        """One minus the cosine of (B, T, C), projected, and (B, T, C')."""
        # Under AMP a cosine near 1 would have few digits left below it.
        with torch.autocast(student.device.type, enabled=False):
            projected = self.projections[index](student.float())
            return (1 - F.cosine_similarity(projected, teacher.float(), dim=-1)).mean()
