"""Rules for alpha, the weight of the distillation in the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Alpha(nn.Module):
    """A constant alpha, and what every rule offers.

    Arguments
    ---------
    value : float
        In [0, 1].

    Raises
    ------
    ValueError
        When it is outside [0, 1].

    Example
    -------
    >>> rule = Alpha(0.7)
    >>> rule(torch.tensor(3.0), torch.tensor(0.5), torch.zeros(2, 8)), rule.maximum
    (0.7, 0.7)
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = _checked(value)

    @property
    def maximum(self) -> float:
        """The largest alpha that the rule may give."""
        return self.value

    @property
    def least(self) -> float:
        """The smallest alpha that the rule may give."""
        return self.value

    def start_epoch(self, epoch: int) -> None:
        """Told the number of every epoch, from 1."""

    def forward(
        self, classification: Tensor, distillation: Tensor, embedding: Tensor
    ) -> float | Tensor:
        """Alpha for a step, from both terms (scalars) and the embeddings (B, D) they share."""
        return self.value


class Curriculum(Alpha):
    """Another constant from some epochs on.

    Arguments
    ---------
    alphas : list of float
        In [0, 1] each.
    starts : list of int
        The epoch from which each holds, in order; the first is 1. Of several for one epoch the last
        holds, so that a curriculum also fits a training too short for all of it.

    Raises
    ------
    ValueError
        When the two lists do not fit together, or an alpha is outside [0, 1].

    Example
    -------
    >>> rule = Curriculum(alphas=[0.5, 0.7, 0.5], starts=[1, 41, 81])
    >>> rule.start_epoch(41)
    >>> rule.value
    0.7
    """

    def __init__(self, alphas: Sequence[float], starts: Sequence[int]) -> None:
        starts = [int(start) for start in starts]
        if len(alphas) != len(starts) or starts[:1] != [1] or sorted(starts) != starts:
            raise ValueError(
                f"a curriculum needs one start for each of alphas={list(alphas)}, in order from "
                f"epoch 1; got starts={starts}"
            )
        self.alphas = [_checked(value) for value in alphas]
        self.starts = starts
        super().__init__(self.alphas[0])

    @property
    def maximum(self) -> float:
        """The largest of the alphas."""
        return max(self.alphas)

    @property
    def least(self) -> float:
        """The smallest of the alphas."""
        return min(self.alphas)

    def start_epoch(self, epoch: int) -> None:
        """Take the alpha of this epoch."""
        current = [a for a, start in zip(self.alphas, self.starts, strict=True) if start <= epoch]
        self.value = current[-1]


class GradientBalance(Alpha):
    """The alpha at which both terms pull equally hard at the embedding.

    With g_c and g_d the norms of the gradients of the classification and of the distillation by the
    embeddings of a batch, ``(1 - alpha) g_c = alpha g_d`` holds at ``alpha = g_c / (g_c + g_d)``.
    The norms are averaged over steps before alpha is made of them. A loss whose values are small
    but whose gradients are not, or the other way round, so gets the weight it needs without a
    search. Comparing gradients where tasks part is Chen et al., "GradNorm" (ICML 2018), which
    learns the weights by a further loss; here they follow in closed form.

    Arguments
    ---------
    minimum, maximum : float
        Bounds of alpha, in [0, 1].
    momentum : float
        Of the averages over steps, in [0, 1).

    Raises
    ------
    ValueError
        When the bounds are not ``0 <= minimum <= maximum <= 1`` or the momentum is not in [0, 1).

    Example
    -------
    >>> rule = GradientBalance()
    >>> x = torch.ones(1, 4, requires_grad=True)
    >>> rule(3 * x.sum(), x.sum(), x)
    tensor(0.7500)
    """

    average: Tensor

    def __init__(self, minimum: float = 0.05, maximum: float = 0.95, momentum: float = 0.9) -> None:
        if not 0 <= minimum <= maximum <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got bounds {minimum} and {maximum}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        super().__init__(maximum)
        self.minimum, self.momentum = minimum, momentum
        self.register_buffer("average", torch.zeros(2))

    @property
    def least(self) -> float:
        """The lower bound."""
        return self.minimum

    def forward(
        self, classification: Tensor, distillation: Tensor, embedding: Tensor
    ) -> float | Tensor:
        """Balance a step; in eval mode, as the last one was balanced."""
        if self.training:
            norms = torch.stack(
                [
                    torch.autograd.grad(term, embedding, retain_graph=True)[0].float().norm()
                    for term in (classification, distillation)
                ]
            )
            if torch.distributed.is_initialized():
                torch.distributed.all_reduce(norms)
            # The first step has no past; a loss that is not finite must not stay in the average.
            keep = torch.where(self.average.sum() > 0, self.momentum, 0.0)
            average = keep * self.average + (1 - keep) * norms
            self.average.copy_(torch.where(average.isfinite().all(), average, self.average))
        total = self.average.sum().clamp(min=torch.finfo(torch.float32).tiny)
        return (self.average[0] / total).clamp(self.minimum, self.value)


def capacity_alpha(ratio: float) -> float:
    """Alpha in steps, by the ratio of student to teacher parameters.

    It is a rule of the documents (docs/sources.md: 003, Theoretical insights 2).

    Example
    -------
    >>> [capacity_alpha(ratio) for ratio in (0.4, 0.69, 1.0, 2.0)]
    [0.9, 0.7, 0.5, 0.4]
    """
    return next(
        (alpha for bound, alpha in ((0.5, 0.9), (1.0, 0.7), (1.5, 0.5)) if ratio < bound), 0.4
    )


def logarithmic_alpha(ratio: float) -> float:
    """0.9 - 0.5 log2(ratio) of student to teacher parameters, kept within [0.1, 0.9].

    It is a rule of the documents (docs/sources.md: 003, Open questions 2).

    Example
    -------
    >>> [logarithmic_alpha(ratio) for ratio in (0.5, 2.0, 64.0)]
    [0.9, 0.4, 0.1]
    """
    return min(max(0.9 - 0.5 * math.log2(ratio), 0.1), 0.9)


RULES = {"auto": capacity_alpha, "logarithmic": logarithmic_alpha}


def alpha_rule(alpha: Any, student: nn.Module, teacher: Any) -> Alpha:
    """The rule that a setting names.

    Arguments
    ---------
    alpha : float, str or Alpha
        A constant; ``auto`` or ``logarithmic``, which compare the networks' parameters; or a rule.
    student : Module
        The student's embedding model.
    teacher : FrozenTeacher or None
        Its ``num_parameters`` are compared with the student's.

    Returns
    -------
    Alpha
        The rule.

    Raises
    ------
    ValueError
        When the setting is none of these, or asks for the size of a teacher that is not there or
        tells none.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> alpha_rule("auto", nn.Linear(9, 10), SimpleNamespace(num_parameters=50)).value
    0.4
    """
    if isinstance(alpha, Alpha):
        return alpha
    if isinstance(alpha, (int, float)) and not isinstance(alpha, bool):
        return Alpha(alpha)
    if alpha not in RULES:
        raise ValueError(
            f"alpha must be a number in [0, 1], {' or '.join(RULES)} or a rule, got {alpha!r}"
        )
    if teacher is None:
        raise ValueError(
            f"alpha: {alpha} compares the student with its teacher, and teacher is null"
        )
    if teacher.num_parameters is None:
        raise ValueError(
            f"alpha: {alpha} compares the student with its teacher, whose parameters nobody can "
            "count, since it is a model in a file: give a number"
        )
    ratio = sum(p.numel() for p in student.parameters()) / teacher.num_parameters
    return Alpha(RULES[alpha](ratio))


def _checked(alpha: float) -> float:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    return float(alpha)
