"""In which order an epoch goes through its crops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochOrder(Sampler[int]):
    """Every item of an epoch once, in an order drawn by seed and epoch and by nothing else.

    The processes of a training take turns: the k-th batches of all of them are what one process
    with batches as large as theirs together would take. Only as many integers of 32 bits as there
    are items are kept, and no list.

    Arguments
    ---------
    items : int
        Number of items.
    seed : int
        Seed of the draw.
    process, processes : int
        This process's number, and how many share the items.
    drop_last : bool
        Where the items cannot be shared evenly, whether the last ones are left out; otherwise the
        first ones come up again.

    Example
    -------
    >>> order = EpochOrder(5, seed=1)
    >>> order.epoch = 2
    >>> sorted(order) == [0, 1, 2, 3, 4], list(order) == list(order)
    (True, True)
    """

    def __init__(
        self,
        items: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.items = items
        self.seed = seed
        self.process, self.processes = process, processes
        self.each = items // processes if drop_last else -(-items // processes)
        self.epoch = 0

    def __len__(self) -> int:
        return self.each

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.items, dtype=np.int32)
        # Not seed + epoch: epoch 2 of seed 1 would have the order of epoch 1 of seed 2.
        np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        shared = np.resize(order, self.each * self.processes)
        return map(int, shared[self.process :: self.processes])
