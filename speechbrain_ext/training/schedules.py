"""What SpeechBrain's schedulers of the learning rate go by; each gives the old rate and the new."""

from __future__ import annotations

import math

from speechbrain.nnet.schedulers import ReduceLROnPlateau, StepScheduler
from speechbrain.utils.checkpoints import register_checkpoint_hooks
from speechbrain.utils.epoch_loop import EpochCounterWithStopper
from torch.optim import Optimizer

# SpeechBrain has hooks for it that it never registers: a training that is run again would not know
# how long it has waited for a better epoch, or that it has stopped.
register_checkpoint_hooks(EpochCounterWithStopper)


def by_epoch(
    scheduler: StepScheduler, optimizer: Optimizer, epoch: int, eer: float
) -> tuple[float, float]:
    """The number of the epoch."""
    return scheduler(epoch)


def on_plateau(
    scheduler: ReduceLROnPlateau,
    optimizer: Optimizer,
    epoch: int,
    eer: float,
    counter: EpochCounterWithStopper,
) -> tuple[float, float]:
    """The valid EER, so that the rate falls when that no longer does.

    An epoch as good as the best before it is a stale one, as it is to ``counter``; on short lists
    of trials they are many, and the scheduler alone would wait for a worse one.
    """
    better = counter.best_limit == epoch
    return scheduler([optimizer], epoch, eer if better else math.inf)
