"""What the terms that compare hidden outputs have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from speechbrain_ext.distill.outputs import StudentOutput, TeacherOutput


def channels_of(layers: Mapping[str, int], name: str, owner: str, key: str) -> int:
    """Channels of a layer of a network's ``layers``.

    Raises
    ------
    ValueError
        When the network has no such layer.

    Example
    -------
    >>> channels_of({"block1": 192}, "block1", owner="student", key="pairs")
    192
    """
    if name not in layers:
        known = ", ".join(layers) or "none"
        raise ValueError(f"{key}: the {owner} has no layer '{name}', its layers are: {known}")
    return layers[name]


class LayerPairs(nn.Module):
    """A term of the loss: the weighted mean over pairs of a student's and a teacher's layer.

    A subclass says in ``compare`` what two layers are compared by. All frames count alike: a batch
    must have no padding, as crops of one length have none.

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
    """

    #: Whether the term listens to the teacher.
    uses_teacher = True

    def __init__(
        self,
        pairs: Sequence[Sequence[str]],
        student_layers: Mapping[str, int],
        teacher_layers: Mapping[str, int],
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not pairs:
            raise ValueError(f"pairs must name at least one pair of layers, got {pairs}")
        for pair in pairs:
            names = not isinstance(pair, str) and all(isinstance(name, str) for name in pair)
            if not names or len(pair) != 2:
                raise ValueError(f"pairs: {pair} is not a [student's layer, teacher's layer]")
            channels_of(student_layers, pair[0], owner="student", key="pairs")
            channels_of(teacher_layers, pair[1], owner="teacher", key="pairs")
        weights = [1.0] * len(pairs) if weights is None else list(weights)
        if len(weights) != len(pairs):
            raise ValueError(
                f"weights has {len(weights)} values and pairs has {len(pairs)}: give each pair its "
                "weight"
            )
        if not all(weight > 0 and math.isfinite(weight) for weight in weights):
            raise ValueError(f"weights must be positive, got {weights}")
        self.pairs = [(student, teacher) for student, teacher in pairs]
        self.weights = [weight / sum(weights) for weight in weights]

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the layers (B, T, C) and (B, T, C') of a pair: a scalar in float32."""
        raise NotImplementedError

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> Tensor:
        """Compute the term, a scalar in float32.

        Raises
        ------
        ValueError
            When the layers of a pair differ in frames.
        """
        losses = []
        for index, (name, target_name) in enumerate(self.pairs):
            hidden, target = student.hidden[name], teacher.hidden[target_name].detach()
            if hidden.shape[1] != target.shape[1]:
                raise ValueError(
                    f"pairs: the student's {name} has {hidden.shape[1]} frames where the teacher's "
                    f"{target_name} has {target.shape[1]}: pair layers of one frame rate"
                )
            losses.append(self.weights[index] * self.compare(index, hidden, target))
        return sum(losses[1:], start=losses[0])
