"""A loss as named, weighted terms."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Objective(NamedTuple):
    """The value of every term of a loss, and its weight in the total.

    Example
    -------
    >>> import torch
    >>> terms = {"a": torch.tensor(2.0), "b": torch.tensor(4.0)}
    >>> objective = Objective(terms, {"a": 0.5, "b": 0.25})
    >>> objective.total
    tensor(2.)
    """

    terms: dict[str, Tensor]
    weights: dict[str, float]

    @property
    def total(self) -> Tensor:
        """The weighted sum, a scalar."""
        products = [self.weights[name] * term for name, term in self.terms.items()]
        return sum(products[1:], start=products[0])


class DistillationObjective(nn.Module):
    """``(1 - alpha) * classification + alpha * distillation``.

    Arguments
    ---------
    distillation : Module
        Maps the embeddings (B, D) of student and teacher to a scalar.
    alpha : float
        Weight of the distillation, in [0, 1].

    Raises
    ------
    ValueError
        When alpha is outside [0, 1].

    Example
    -------
    >>> import torch
    >>> from speechbrain_ext.distill.losses import CosineDistillation
    >>> objective = DistillationObjective(CosineDistillation(), alpha=0.7)
    >>> x = torch.randn(4, 512)
    >>> round(float(objective(torch.tensor(3.0), x, -x).total), 4)
    2.3
    """

    def __init__(self, distillation: nn.Module, alpha: float) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
        self.distillation = distillation
        self.alpha = alpha

    def forward(self, classification: Tensor, student: Tensor, teacher: Tensor) -> Objective:
        """Join the classification loss (a scalar) with the distillation of (B, D) and (B, D)."""
        return Objective(
            {
                "classification": classification,
                "distillation": self.distillation(student, teacher),
            },
            {"classification": 1 - self.alpha, "distillation": self.alpha},
        )
