"""Where in time the layers of student and teacher are active."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.distill.layer_terms import LayerPairs


class AttentionTransfer(LayerPairs):
    """Distance between the attention maps of paired layers; nothing is learned.

    A layer's map is the energy of each frame, the sum of its squared channels, scaled to unit
    length over the time of an utterance: layers of any widths compare. The term is the Euclidean
    distance of the two maps, in [0, √2], averaged over the batch and then over the pairs by their
    weights.

    Zagoruyko and Komodakis, "Paying more attention to attention", 2017: the activation-based
    transfer with p 2.

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
    >>> import torch
    >>> from speechbrain_ext.distill.outputs import StudentOutput, TeacherOutput
    >>> attention = AttentionTransfer([["block2", "lstm1"]], {"block2": 8}, {"lstm1": 16})
    >>> student = StudentOutput(torch.randn(4, 2), {"block2": torch.ones(4, 50, 8)}, torch.ones(1))
    >>> teacher = TeacherOutput(torch.randn(4, 2), {"lstm1": torch.ones(4, 50, 16)})
    >>> float(attention(student, teacher))
    0.0
    """

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Distance between the maps of (B, T, C) and (B, T, C')."""
        return (_attention(student) - _attention(teacher)).norm(dim=1).mean()


def _attention(hidden: Tensor) -> Tensor:
    """The map (B, T), in float32, of (B, T, C)."""
    return F.normalize(hidden.float().square().mean(dim=-1), dim=1)
