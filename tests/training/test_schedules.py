"""Rates by the place in a training, against a plain reading."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from speechbrain.nnet.schedulers import CyclicLRScheduler, StepScheduler
from torch import nn

from speechbrain_ext.training.schedules import (
    CosineRate,
    CyclicRate,
    RateByPlace,
    before_step,
    by_epoch,
)


def optimizer(lr: float = 1.0) -> torch.optim.Optimizer:
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    return torch.optim.SGD([{"params": layer.parameters()} for layer in layers], lr=lr)


def test_a_cosine_with_warm_up_by_hand() -> None:
    rate = CosineRate(highest=0.4, epochs=6, warmup=2, last=0.1)
    by_hand = {0: 0, 0.5: 0.1, 1: 0.2, 2: 0.4, 3: 0.1 + 0.15 * (1 + math.sqrt(0.5)), 4: 0.25}
    by_hand |= {5: 0.1 + 0.15 * (1 - math.sqrt(0.5)), 6: 0.1, 7: 0.1, 100: 0.1}
    assert {place: rate.at(place) for place in by_hand} == pytest.approx(by_hand)


def test_without_warm_up_it_is_the_cosine_of_torch() -> None:
    """After as many steps as there are epochs."""
    steps, group = 7, optimizer(0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(group, steps, eta_min=0.02)
    ours = CosineRate(highest=0.3, epochs=steps, last=0.02)
    for step in range(steps + 1):
        assert ours.at(step) == pytest.approx(group.param_groups[0]["lr"])
        group.step()
        theirs.step()


def test_cycles_are_those_of_speechbrain() -> None:
    """Of which a step is a tenth of an epoch."""
    group = optimizer()
    theirs = CyclicLRScheduler(0.1, 0.9, step_size=20, mode="triangular2")
    ours = CyclicRate(lowest=0.1, highest=0.9, cycle=4)
    for step in range(1, 200):
        theirs.on_batch_end(group)
        assert ours.at(step / 10) == pytest.approx(group.param_groups[0]["lr"])


def test_an_epoch_is_logged_at_its_middle() -> None:
    rate = CosineRate(highest=1.0, epochs=4, warmup=2)
    assert by_epoch(rate, optimizer(), 1, 5.0) == (rate.at(0.5), rate.at(1))
    assert by_epoch(rate, optimizer(), 4, 5.0) == (rate.at(3.5), rate.at(4))


def test_a_step_has_the_rate_of_its_place_whatever_was_before() -> None:
    rate, group = CosineRate(highest=1.0, epochs=4, warmup=2), optimizer()
    for place in (0.5, 3.75, 0.25):
        before_step(rate, group, place)
        assert [each["lr"] for each in group.param_groups] == [rate.at(place)] * 2


def test_what_goes_by_epochs_is_left_alone() -> None:
    group = optimizer(0.7)
    before_step(StepScheduler(1.0), group, 0.5)
    assert [each["lr"] for each in group.param_groups] == [0.7] * 2


@pytest.mark.parametrize(
    ("cls", "settings", "named"),
    [
        (CosineRate, {"highest": 1, "epochs": 5, "warmup": 5}, "warmup_epochs 5 .* the 5 epochs"),
        (CosineRate, {"highest": 1, "epochs": 5, "warmup": -1}, "warmup_epochs -1"),
        (CosineRate, {"highest": 1, "epochs": 5, "last": 2}, "last rate 2 .* the highest, 1"),
        (CyclicRate, {"lowest": 2, "highest": 1, "cycle": 4}, "lowest rate 2 .* the highest, 1"),
        (CyclicRate, {"lowest": 0, "highest": 1, "cycle": 0}, "cycle_epochs 0"),
    ],
)
def test_rates_that_cannot_be(cls: type[RateByPlace], settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        cls(**settings)
