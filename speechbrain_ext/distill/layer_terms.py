"""Terms of a loss that compare hidden outputs of student and teacher, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import StudentOutput, TeacherOutput, Term


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


class LayerPairs(Term):
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
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Term`.

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
                    f"{target_name} has {target.shape[1]}: pair layers of one frame rate, or give "
                    "the student another subsampling"
                )
            losses.append(self.weights[index] * self.compare(index, hidden, target))
        return sum(losses[1:], start=losses[0])


class HiddenMSE(LayerPairs):
    """Mean squared error between the layers of a student and of its teacher.

    An average over the batch, time and channels, then over the pairs by their weights. The layers
    are compared as they are; where they differ in channels, a linear projection of the pair's own
    takes the student's to the teacher's. It is learned with the student and is no part of it.

    Heo et al., "One-step knowledge distillation and fine-tuning in using large pre-trained
    self-supervised learning models for speaker verification" (OS-KDFT), 2023: there the last
    layers alone, of one width.

    Arguments and errors are those of :class:`LayerPairs`.

    Example
    -------
    >>> from speechbrain_ext.interfaces import StudentOutput, TeacherOutput
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


class Hints(LayerPairs):
    """One minus the cosine, frame by frame, of the teacher's layers and the student's projected.

    In [0, 2]: an average over the batch and time, then over the pairs by their weights. Every
    pair has a linear projection of its own, from the student's channels to the teacher's; they are
    learned with the student and are no part of it.

    Romero et al., "FitNets: hints for thin deep nets", 2015, at several layers at once and by the
    cosine.

    Arguments and errors are those of :class:`LayerPairs`.

    Example
    -------
    >>> from speechbrain_ext.interfaces import StudentOutput, TeacherOutput
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
    >>> from speechbrain_ext.interfaces import StudentOutput, TeacherOutput
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


class AttentionTransfer(LayerPairs):
    """Distance between the attention maps of paired layers; nothing is learned.

    A layer's map is the energy of each frame, the sum of its squared channels, scaled to unit
    length over the time of an utterance: layers of any widths compare. The term is the Euclidean
    distance of the two maps, in [0, √2], averaged over the batch and then over the pairs by their
    weights.

    Zagoruyko and Komodakis, "Paying more attention to attention", 2017: the activation-based
    transfer with p 2.

    Arguments and errors are those of :class:`LayerPairs`.

    Example
    -------
    >>> from speechbrain_ext.interfaces import StudentOutput, TeacherOutput
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
