"""Averages over an epoch, across processes and across an interruption."""

from __future__ import annotations

import json
from collections import defaultdict

import torch
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from torch import Tensor


@register_checkpoint_hooks
class EpochMeter:
    """Sums of the figures of an epoch so far; saved with a checkpoint made inside an epoch.

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

    def totals(self) -> dict[str, float]:
        """Sums over all processes, with the ``weight``."""
        totals = {"weight": self.weight} | {name: float(value) for name, value in self.sums.items()}
        if not torch.distributed.is_initialized():
            return totals
        parts: list[dict[str, float]] = [{}] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, totals)
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: sum(part.get(name, 0.0) for part in parts) for name in names}

    def averages(self) -> dict[str, float]:
        """Averages over the batches of this process."""
        return {name: float(total) / self.weight for name, total in self.sums.items()}

    @mark_as_saver
    def _save(self, path: str) -> None:
        state = {name: float(value) for name, value in self.sums.items()}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"weight": self.weight, "sums": state}, file)

    @mark_as_loader
    def _load(self, path: str, end_of_epoch: bool) -> None:
        self.reset()
        if not end_of_epoch:
            with open(path, encoding="utf-8") as file:
                state = json.load(file)
            self.weight = state["weight"]
            self.sums.update(state["sums"])
