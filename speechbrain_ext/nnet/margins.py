"""AAM-softmax that presses harder on the speakers a network confuses with the right one.

``InterTopKMargin`` and ``WeightedTopKMargin`` are used as SpeechBrain's ``AdditiveAngularMargin``:
as ``loss_fn`` of its ``LogSoftmaxWrapper``, which turns what they return into a cross-entropy, or
of ``RampedMargin``, whose margin grows.
"""

from __future__ import annotations

import math

import torch
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor


class TopKMargin(AdditiveAngularMargin):
    """Additive angular margin that treats the K largest non-target cosines apart.

    A subclass says in ``forward`` how.

    Arguments
    ---------
    margin : float
        Margin of the target, in radians.
    scale : float
        What the cosines are multiplied by.
    easy_margin : bool
        As in SpeechBrain's ``AdditiveAngularMargin``.
    k : int
        How many non-targets, K; all of them when there are fewer.

    Raises
    ------
    ValueError
        When ``k`` is not positive.
    """

    def __init__(
        self, margin: float = 0.0, scale: float = 1.0, easy_margin: bool = False, k: int = 5
    ) -> None:
        super().__init__(margin, scale, easy_margin)
        if k < 1:
            raise ValueError(f"k={k} must be at least 1: AdditiveAngularMargin has no penalty")
        self.k = k

    @torch.no_grad()
    def hardest(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Boolean (N, C), true at the K largest cosines of each row that are not the target's."""
        others = outputs.masked_fill(targets > 0, -torch.inf)
        index = others.topk(min(self.k, outputs.shape[1] - 1), dim=1).indices
        return torch.zeros_like(others, dtype=torch.bool).scatter(1, index, True)


class InterTopKMargin(TopKMargin):
    """A margin m for the target and a margin m' for the K most confusing non-targets.

    Where the target has cos(θ + m), they have cos(θ − m'): Zhao et al., "Multi-query multi-head
    attention pooling and inter-topK penalty for speaker verification", ICASSP 2022, arXiv
    2110.05042, by whom K 5 and m' 0.06 are too. SV-Mixer's public code trains with K 5, m' 0.1.

    Nearer than m' to a speaker's centre, cos(θ − m') would fall again. There it is continued by
    cos θ + 1 − cos m', the mirror image of how WeSpeaker continues the target's cos(θ + m) beyond
    θ = π − m: continuous, rising with the cosine, and with a gradient where confusion is worst.

    Arguments
    ---------
    margin : float
        Margin m of the target, in radians.
    scale : float
        What the cosines are multiplied by.
    easy_margin : bool
        As in SpeechBrain's ``AdditiveAngularMargin``.
    k : int
        How many non-targets, K; all of them when there are fewer.
    penalty : float
        Their margin m', in radians, from 0 (no penalty) to below π.

    Raises
    ------
    ValueError
        When ``k`` is not positive or ``penalty`` is out of its range.

    Example
    -------
    >>> loss = InterTopKMargin(k=1, penalty=0.5)
    >>> cosines = torch.tensor([[0.9, math.cos(1.0), -0.1]])
    >>> penalised = loss(cosines, torch.tensor([[1.0, 0.0, 0.0]]))
    >>> [round(float(value), 3) for value in (*penalised[0], math.cos(0.5))]
    [0.9, 0.878, -0.1, 0.878]
    """

    def __init__(
        self,
        margin: float = 0.0,
        scale: float = 1.0,
        easy_margin: bool = False,
        k: int = 5,
        penalty: float = 0.06,
    ) -> None:
        super().__init__(margin, scale, easy_margin, k)
        if not 0 <= penalty < math.pi:
            raise ValueError(f"penalty={penalty} must be in [0, π)")
        self.penalty = penalty

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Scaled logits, (N, C) in float32, of cosines and one-hot targets, (N, C) both."""
        logits = super().forward(outputs, targets)
        nearer = self.scale * self._nearer(outputs.float())
        return torch.where(self.hardest(outputs, targets), nearer, logits)

    def _nearer(self, cosine: Tensor) -> Tensor:
        """cos(θ − m') and its continuation for θ < m'."""
        bend = math.cos(self.penalty)
        # Clamped to where it is chosen: at 1 and -1 the derivative of the sine is infinite.
        valid = cosine.clamp(-1 + 1e-7, min(bend, 1 - 1e-7))
        sine = torch.sqrt(1.0 - valid.square())
        rotated = valid * bend + sine * math.sin(self.penalty)
        return torch.where(cosine < bend, rotated, cosine + (1 - bend))


class WeightedTopKMargin(TopKMargin):
    """AAM-softmax in which the K most confusing non-targets count several times.

    The other reading of SV-Mixer's "weight multiplier of 10" (arXiv 2509.14136), which the paper
    gives no formula for: in the sum of the softmax, their exponentials are multiplied. That is the
    logarithm of the multiplier added to their logits.

    Arguments
    ---------
    margin : float
        Margin of the target, in radians.
    scale : float
        What the cosines are multiplied by.
    easy_margin : bool
        As in SpeechBrain's ``AdditiveAngularMargin``.
    k : int
        How many non-targets, K; all of them when there are fewer.
    multiplier : float
        How often they count, at least once.

    Raises
    ------
    ValueError
        When ``k`` is not positive or ``multiplier`` is under 1.

    Example
    -------
    >>> loss = WeightedTopKMargin(k=1, multiplier=10)
    >>> weighted = loss(torch.tensor([[0.9, 0.5, -0.1]]), torch.tensor([[1.0, 0.0, 0.0]]))
    >>> weighted.exp() / torch.tensor([[0.9, 0.5, -0.1]]).exp()
    tensor([[ 1.0000, 10.0000,  1.0000]])
    """

    def __init__(
        self,
        margin: float = 0.0,
        scale: float = 1.0,
        easy_margin: bool = False,
        k: int = 5,
        multiplier: float = 10.0,
    ) -> None:
        super().__init__(margin, scale, easy_margin, k)
        if not (multiplier >= 1 and math.isfinite(multiplier)):
            raise ValueError(f"multiplier={multiplier} must be at least 1")
        self.multiplier = multiplier

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Scaled logits, (N, C) in float32, of cosines and one-hot targets, (N, C) both."""
        logits = super().forward(outputs, targets)
        return logits + math.log(self.multiplier) * self.hardest(outputs, targets)


class RampedMargin(LogSoftmaxWrapper):
    """AAM-softmax whose margin grows from 0 to its own between two epochs.

    With the whole margin from the beginning, a network that knows nothing yet of the speakers may
    find no way to them. The penalty of :class:`InterTopKMargin` grows with the margin. Both are
    WeSpeaker's (Wang et al., ICASSP 2023, arXiv 2210.17016), whose margin grows in each step and
    along a curve; here it does along a line, once an epoch.

    Arguments
    ---------
    loss_fn : AdditiveAngularMargin
        With the whole margin.
    start, stop : float
        Epochs that are over when the margin begins to grow, and when it is whole. They may be
        equal; at 0 the margin is whole from the first epoch on.

    Raises
    ------
    ValueError
        When they are not ``0 <= start <= stop``.

    Example
    -------
    >>> loss = RampedMargin(InterTopKMargin(margin=0.2, penalty=0.06), start=1, stop=3)
    >>> for epoch in (1, 2, 3, 4):
    ...     loss.start_epoch(epoch)
    ...     print(loss.margin, loss.loss_fn.penalty)
    0.0 0.0
    0.0 0.0
    0.1 0.03
    0.2 0.06
    """

    def __init__(self, loss_fn: AdditiveAngularMargin, start: float, stop: float) -> None:
        super().__init__(loss_fn)
        if not 0 <= start <= stop:
            raise ValueError(
                f"margin_start {start} must be 0 or more, and not after margin_stop {stop}"
            )
        self.start, self.stop = start, stop
        self.whole = loss_fn.margin
        self.whole_penalty = getattr(loss_fn, "penalty", None)

    @property
    def margin(self) -> float:
        """The margin in force, in radians."""
        return float(self.loss_fn.margin)

    def start_epoch(self, epoch: int) -> None:
        """Told the number of every epoch, from 1."""
        over = epoch - 1
        grown = float(over >= self.stop)
        if self.start < over < self.stop:
            grown = (over - self.start) / (self.stop - self.start)
        # AdditiveAngularMargin keeps what follows from the margin.
        loss = self.loss_fn
        made = AdditiveAngularMargin(grown * self.whole, loss.scale, loss.easy_margin)
        for name in ("margin", "cos_m", "sin_m", "th", "mm"):
            setattr(loss, name, getattr(made, name))
        if self.whole_penalty is not None:
            loss.penalty = grown * self.whole_penalty
