"""Hidden outputs that equal the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.distill.layer_terms import LayerPairs


class HiddenMSE(LayerPairs):
    """Mean squared error between the layers of a student and of its teacher.

    An average over the batch, time and channels, then over the pairs by their weights. The layers
    are compared as they are; where they differ in channels, a linear projection of the pair's own
    takes the student's to the teacher's. It is learned with the student and is no part of it.

    Heo et al., "One-step knowledge distillation and fine-tuning in using large pre-trained
    self-supervised learning models for speaker verification" (OS-KDFT), 2023: there the last
    layers alone, of one width.

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
    >>> hidden = HiddenMSE([["block2", "layer24"]], {"block2": 8}, {"layer24": 8})
    >>> student = StudentOutput(torch.ones(4, 2), {"block2": torch.ones(4, 50, 8)}, torch.ones(1))
    >>> teacher = TeacherOutput(torch.ones(4, 8), {"layer24": 3 * torch.ones(4, 50, 8)})
    >>> hidden(student, teacher)
    tensor(4.)
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
            _projection(student_layers[student], teacher_layers[teacher])
            for student, teacher in self.pairs
        )

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error of (B, T, C), projected where the widths differ, and (B, T, C')."""
        # Under AMP what is projected would have some three digits, and its distance from the
        # teacher fewer the closer it comes.
        with torch.autocast(student.device.type, enabled=False):
            return F.mse_loss(self.projections[index](student.float()), teacher.float())


def _projection(channels: int, target_channels: int) -> nn.Module:
    return nn.Identity() if channels == target_channels else nn.Linear(channels, target_channels)
