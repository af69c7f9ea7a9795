"""The order of an epoch follows from seed and epoch, and processes share it; batches of nothing."""

from __future__ import annotations

import itertools

import pytest
import torch

from speechbrain_ext.training.crops import CropBatch, EpochOrder


def drawn(seed: int, epoch: int, items: int = 200) -> list[int]:
    order = EpochOrder(items, seed)
    order.epoch = epoch
    return list(order)


def test_every_seed_and_epoch_has_an_order_of_its_own() -> None:
    orders = [drawn(seed, epoch) for seed in range(5) for epoch in range(5)]
    assert all(sorted(order) == list(range(200)) for order in orders)
    assert all(one != other for one, other in itertools.combinations(orders, 2))
    assert drawn(3, 4) == orders[3 * 5 + 4]


@pytest.mark.parametrize("items", [12, 13, 2])
@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_take_turns(items: int, drop_last: bool) -> None:
    parts = [EpochOrder(items, 1, process, 4, drop_last) for process in range(4)]
    each = items // 4 if drop_last else -(-items // 4)
    assert [len(part) for part in parts] == [len(list(part)) for part in parts] == 4 * [each]
    together = [index for turn in zip(*parts, strict=True) for index in turn]
    whole = list(EpochOrder(items, 1))
    assert together == list(itertools.islice(itertools.cycle(whole), 4 * each))


def test_an_empty_batch_can_be_pinned() -> None:
    batch = CropBatch([{"id": "a@0", "sig": "a.wav (why)", "spk_id_encoded": torch.tensor([0])}])
    assert batch.pin_memory() is batch and batch.unreadable == ["a.wav (why)"]
