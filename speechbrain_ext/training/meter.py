"""Averages over an epoch, across processes and across an interruption."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial

import torch
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process
from torch import Tensor


@partial(register_checkpoint_hooks, save_on_main_only=False)
class EpochMeter:
    """Sums of the figures of an epoch so far; saved with a checkpoint made inside an epoch.

    A checkpoint has the sums of every process, and each gets its own back.

    Example
    -------
    >>> meter = EpochMeter()
    >>> meter.add(weight=2, loss=torch.tensor(1.0))
    >>> meter.add(weight=2, loss=torch.tensor(3.0))
    >>> meter.averages()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums: dict[str, Tensor | float] = defaultdict(float)
        self.weight = 0.0

    def add(self, weight: float, **figures: Tensor | float) -> None:
        """Add a batch's averages. Tensors stay where they are: no waiting for a GPU."""
        self.weight += weight
        for name, value in figures.items():
            self.sums[name] = self.sums[name] + weight * (
                value.detach() if isinstance(value, Tensor) else value
            )

    def state(self) -> dict[str, float]:
        """Sums of this process, with the ``weight``."""
        return {"weight": self.weight} | {name: float(value) for name, value in self.sums.items()}

    def totals(self) -> dict[str, float]:
        """Sums over all processes, with the ``weight``."""
        return _joined(self._states())

    def _states(self) -> list[dict[str, float]]:
        states = [self.state()]
        if torch.distributed.is_initialized():
            states *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, self.state())
        return states

    def averages(self) -> dict[str, float]:
        """Averages over the batches of this process."""
        return {name: float(total) / self.weight for name, total in self.sums.items()}

    @mark_as_saver
    def _save(self, path: str) -> None:
        states = self._states()
        if if_main_process():
            with open(path, "w", encoding="utf-8") as file:
                json.dump(states, file)

    @mark_as_loader
    def _load(self, path: str, end_of_epoch: bool) -> None:
        self.reset()
        if end_of_epoch:
            return
        with open(path, encoding="utf-8") as file:
            states = json.load(file)
        if torch.distributed.is_initialized():  # by other processes than before, perhaps
            states = states[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        joined = _joined(states)
        self.weight = joined.pop("weight", 0.0)
        self.sums.update(joined)


def _joined(states: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for state in states for name in state)
    return {name: sum(state.get(name, 0.0) for state in states) for name in names}
