"""What the learning rate goes by: the epoch, what selects the best one, or the place in training.

A function tells a scheduler of SpeechBrain's that an epoch is over, and gives the old rate and the
new. A :class:`RateByPlace` says the rate of every step as well. It knows nothing of the steps
before, so a training that is killed goes on at the rate that it would have had.
"""

from __future__ import annotations

import math
from typing import Any

from speechbrain.nnet.schedulers import CyclicLRScheduler, ReduceLROnPlateau, StepScheduler
from speechbrain.utils.checkpoints import register_checkpoint_hooks
from speechbrain.utils.epoch_loop import EpochCounterWithStopper
from torch.optim import Optimizer

# SpeechBrain has hooks for it that it never registers: a training that is run again would not know
# how long it has waited for a better epoch, or that it has stopped.
register_checkpoint_hooks(EpochCounterWithStopper)


class RateByPlace:
    """A learning rate that follows from the place in the training alone."""

    def at(self, place: float) -> float:
        """The rate after that many epochs; 2.5 is in the middle of the third."""
        raise NotImplementedError

    def __call__(self, epoch: int) -> tuple[float, float]:
        """The rate in the middle of an epoch, of which it is logged, and at its end."""
        return self.at(epoch - 0.5), self.at(epoch)


class CosineRate(RateByPlace):
    """Rises from 0 along a line, and falls along half a cosine to the end of the training.

    The fall is that of Loshchilov and Hutter, "SGDR" (ICLR 2017, arXiv 1608.03983), without
    restarts.

    Arguments
    ---------
    highest : float
        The rate at the end of the rise.
    epochs : float
        Of the training. After them the rate stays at ``last``.
    warmup : float
        Epochs of the rise, of which a part is one, too.
    last : float
        The rate at the end of the training.

    Raises
    ------
    ValueError
        When the rise takes all the epochs, or ``last`` is not from 0 to ``highest``.

    Example
    -------
    >>> rate = CosineRate(highest=1.0, epochs=10, warmup=2, last=0.1)
    >>> [round(rate.at(place), 3) for place in (0.5, 2, 6, 10)]
    [0.25, 1.0, 0.55, 0.1]
    """

    def __init__(
        self, highest: float, epochs: float, warmup: float = 0.0, last: float = 0.0
    ) -> None:
        if not 0 <= warmup < epochs:
            raise ValueError(
                f"warmup_epochs {warmup} must be 0 or more, and fewer than the {epochs} epochs of "
                "the training"
            )
        if not 0 <= last <= highest:
            raise ValueError(
                f"the last rate {last} must be from 0 to the highest, {highest}: is lr_decay, from "
                "which it may follow, above 1?"
            )
        self.highest, self.epochs, self.warmup, self.last = highest, epochs, warmup, last

    def at(self, place: float) -> float:
        """Keep the contract of :class:`RateByPlace`."""
        if place < self.warmup:
            return self.highest * place / self.warmup
        fallen = min((place - self.warmup) / (self.epochs - self.warmup), 1.0)
        return self.last + (self.highest - self.last) * (1 + math.cos(math.pi * fallen)) / 2


class CyclicRate(RateByPlace):
    """Rises and falls between two rates along lines, in each cycle half as high.

    SpeechBrain's ``CyclicLRScheduler`` in its mode ``triangular2``, with which its ECAPA-TDNN is
    trained (Smith, arXiv 1506.01186), in epochs in place of steps.

    Arguments
    ---------
    lowest, highest : float
        The rate at either end of a cycle, and in the middle of the first.
    cycle : float
        Epochs of a cycle.

    Raises
    ------
    ValueError
        When the rates are not ``0 <= lowest <= highest``, or the cycle takes no time.

    Example
    -------
    >>> rate = CyclicRate(lowest=0.0, highest=1.0, cycle=4)
    >>> [rate.at(place) for place in (0, 1, 2, 3, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """

    def __init__(self, lowest: float, highest: float, cycle: float) -> None:
        if not 0 <= lowest <= highest:
            raise ValueError(f"the lowest rate {lowest} must be from 0 to the highest, {highest}")
        if not cycle > 0:
            raise ValueError(f"cycle_epochs {cycle} must be more than 0")
        self.scheduler = CyclicLRScheduler(lowest, highest, cycle / 2, mode="triangular2")

    def at(self, place: float) -> float:
        """Keep the contract of :class:`RateByPlace`."""
        return float(self.scheduler.clr(place))


def before_step(scheduler: Any, optimizer: Optimizer, place: float) -> None:
    """Give a step the rate of its place in the training, where the scheduler goes by that.

    Arguments
    ---------
    scheduler : RateByPlace or any other
        The YAML's ``lr_annealing``.
    optimizer : Optimizer
        Makes the step.
    place : float
        Epochs that have been trained, with the part of this one.
    """
    if hasattr(scheduler, "at"):
        for group in optimizer.param_groups:
            group["lr"] = scheduler.at(place)


def by_epoch(
    scheduler: StepScheduler | RateByPlace, optimizer: Optimizer, epoch: int, cost: float
) -> tuple[float, float]:
    """The number of the epoch."""
    return scheduler(epoch)


def on_plateau(
    scheduler: ReduceLROnPlateau,
    optimizer: Optimizer,
    epoch: int,
    cost: float,
    counter: EpochCounterWithStopper,
) -> tuple[float, float]:
    """What the best epoch is selected by: the rate falls when that no longer does.

    An epoch as good as the best before it is a stale one, as it is to ``counter``; on short lists
    of trials they are many, and the scheduler alone would wait for a worse one.
    """
    better = counter.best_limit == epoch
    return scheduler([optimizer], epoch, cost if better else math.inf)
