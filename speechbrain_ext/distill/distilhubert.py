"""Hidden outputs from which the teacher's are predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.distill.layer_terms import LayerPairs


class DistilHuBERT(LayerPairs):
    """Absolute error and cosine of the teacher's layers as heads predict them from the student's.

    With h a frame of a teacher's layer and ĥ its prediction, a pair's loss is
    ``mean |ĥ - h| + cosine_weight * mean(-log sigmoid(cos(ĥ, h)))``, the first over the batch,
    time and channels, the second over the batch and time; the pairs are averaged by their weights.
    The second part lies between 0.31 and 1.31. Every pair has a head of its own, a linear layer
    of the student's width, GELU and a linear layer to the teacher's width, so that several layers
    of the teacher can be predicted from one of the student's. The heads are learned with the
    student and are no part of it.

    Chang et al., "DistilHuBERT: speech representation learning by layer-wise distillation of
    hidden-unit BERT", 2022: there layers 4, 8 and 12 of the teacher from the student's last, and
    sums over layers where averages are here. The width inside the heads is that of the authors'
    code (s3prl, ``upstream/distiller``).

    Arguments
    ---------
    pairs : list of (str, str)
        Names of a student's layer and of the teacher's layer that is predicted from it.
    student_layers, teacher_layers : mapping of str to int
        Names and channels of all hidden outputs of the two networks: their ``layers``.
    weights : list of float, optional
        One for every pair, positive; only their proportions count. Equal by default.
    cosine_weight : float
        λ, the weight of the cosine's part, at least 0.

    Raises
    ------
    ValueError
        For a layer that does not exist, no pairs, weights that do not fit them, or a negative λ.

    Example
    -------
    >>> from speechbrain_ext.distill.outputs import StudentOutput, TeacherOutput
    >>> pairs = [["block2", "layer4"], ["block2", "layer12"]]
    >>> predict = DistilHuBERT(pairs, {"block2": 8}, {"layer4": 16, "layer12": 16})
    >>> student = StudentOutput(torch.ones(4, 2), {"block2": torch.ones(4, 50, 8)}, torch.ones(1))
    >>> layers = {"layer4": torch.randn(4, 50, 16), "layer12": torch.randn(4, 50, 16)}
    >>> float(predict(student, TeacherOutput(torch.ones(4, 16), layers))) > 0.31
    True
    """

    def __init__(
        self,
        pairs: Sequence[Sequence[str]],
        student_layers: Mapping[str, int],
        teacher_layers: Mapping[str, int],
        weights: Sequence[float] | None = None,
        cosine_weight: float = 1.0,
    ) -> None:
        super().__init__(pairs, student_layers, teacher_layers, weights)
        if not 0 <= cosine_weight < math.inf:
            raise ValueError(f"cosine_weight must be at least 0, got {cosine_weight}")
        self.cosine_weight = cosine_weight
        self.heads = nn.ModuleList(
            _head(student_layers[student], teacher_layers[teacher])
            for student, teacher in self.pairs
        )

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Absolute error and cosine of the prediction from (B, T, C), and (B, T, C')."""
        # Under AMP what is predicted would have some three digits, and so its distances.
        with torch.autocast(student.device.type, enabled=False):
            predicted, target = self.heads[index](student.float()), teacher.float()
            likeness = F.logsigmoid(F.cosine_similarity(predicted, target, dim=-1)).mean()
            return F.l1_loss(predicted, target) - self.cosine_weight * likeness


def _head(channels: int, target_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, target_channels)
    )
