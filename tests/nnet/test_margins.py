"""The penalties on confusing speakers against values computed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.nnet.margins import (
    InterTopKMargin,
    RampedMargin,
    TopKMargin,
    WeightedTopKMargin,
)

CLASSES: list[type[TopKMargin]] = [InterTopKMargin, WeightedTopKMargin]
PENALISED = {InterTopKMargin: {"penalty": 0.3}, WeightedTopKMargin: {"multiplier": 10.0}}
WITHOUT = {InterTopKMargin: {"penalty": 0.0}, WeightedTopKMargin: {"multiplier": 1.0}}


def batch(rows: int = 8, classes: int = 12) -> tuple[Tensor, Tensor]:
    targets = F.one_hot(torch.randint(classes, (rows,)), classes).float()
    return 2 * torch.rand(rows, classes) - 1, targets


def test_inter_top_k_by_hand() -> None:
    angles = [0.5, 1.0, 2.0, 1.2, 2.5]
    loss = InterTopKMargin(margin=0.2, scale=30, k=2, penalty=0.06)
    logits = loss(torch.tensor([angles]).cos(), torch.tensor([[0.0, 0, 0, 1, 0]]))
    # The target is moved away from its centre, the two nearest others towards theirs.
    moved = [0.5 - 0.06, 1.0 - 0.06, 2.0, 1.2 + 0.2, 2.5]
    torch.testing.assert_close(logits, 30 * torch.tensor([moved]).cos())


def test_weighted_by_hand() -> None:
    cosines = torch.tensor([[0.9, 0.5, -0.2, 0.7]])
    targets = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    margin, scale = 0.2, 5.0
    loss = LogSoftmaxWrapper(WeightedTopKMargin(margin, scale, k=2, multiplier=10))
    right = math.exp(scale * math.cos(math.acos(0.9) + margin))
    wrong = 10 * math.exp(scale * 0.5) + math.exp(scale * -0.2) + 10 * math.exp(scale * 0.7)
    found = loss(cosines.unsqueeze(1), targets.argmax(dim=1, keepdim=True))
    assert float(found) == pytest.approx(-math.log(right / (right + wrong)), rel=1e-5)


@pytest.mark.parametrize("cls", CLASSES)
def test_only_the_hardest_are_touched(cls: type[TopKMargin]) -> None:
    cosines, targets = batch()
    settings: dict[str, Any] = PENALISED[cls]
    found = cls(margin=0.2, scale=30, k=3, **settings)(cosines, targets)
    plain = AdditiveAngularMargin(margin=0.2, scale=30)(cosines, targets)
    for row in range(len(cosines)):
        target = int(targets[row].argmax())
        others = [column for column in range(cosines.shape[1]) if column != target]
        hardest = sorted(others, key=lambda column: float(cosines[row, column]))[-3:]
        touched = (found[row] != plain[row]).nonzero().flatten().tolist()
        assert touched == sorted(hardest)
        assert (found[row, hardest] > plain[row, hardest]).all()


@pytest.mark.parametrize("cls", CLASSES)
def test_a_target_of_a_negative_cosine_is_no_non_target(cls: type[TopKMargin]) -> None:
    cosines, targets = torch.tensor([[-0.9, -0.3, -0.2]]), torch.tensor([[1.0, 0.0, 0.0]])
    assert cls(k=1).hardest(cosines, targets).tolist() == [[False, False, True]]
    assert cls(k=2).hardest(cosines, targets).tolist() == [[False, True, True]]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_fewer_non_targets_than_k(cls: type[TopKMargin], classes: int) -> None:
    cosines, targets = batch(classes=classes)
    settings: dict[str, Any] = PENALISED[cls]
    few, all_of_them = cls(k=50, **settings), cls(k=max(classes - 1, 1), **settings)
    assert torch.equal(few.hardest(cosines, targets), targets == 0)
    assert torch.equal(few(cosines, targets), all_of_them(cosines, targets))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("easy_margin", [False, True])
def test_without_a_penalty_it_is_aam_softmax(cls: type[TopKMargin], easy_margin: bool) -> None:
    cosines, targets = batch()
    settings: dict[str, Any] = WITHOUT[cls]
    found = cls(0.2, 30, easy_margin, **settings)(cosines, targets)
    plain = AdditiveAngularMargin(0.2, 30, easy_margin)(cosines, targets)
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("penalty", [0.06, 0.5, 2.0])
def test_the_penalised_cosine_rises_with_the_cosine(penalty: float) -> None:
    # Nearer than the margin too, where cos(θ − m') alone falls.
    angles = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    cosines = torch.stack([torch.zeros_like(angles), angles.cos()], dim=1).float()
    targets = torch.tensor([[1.0, 0.0]]).expand_as(cosines)
    curve = InterTopKMargin(k=1, penalty=penalty)(cosines, targets)[:, 1]
    assert (curve.diff() <= 1e-6).all() and (curve[::20].diff() < 0).all()
    assert curve.diff().abs().max() < 0.003  # no jump where the two formulas meet
    far = angles > penalty
    expected = (angles[far] - penalty).cos().float()
    torch.testing.assert_close(curve[far], expected, atol=1e-3, rtol=0)
    assert float(curve[0]) == pytest.approx(2 - math.cos(penalty))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("penalty", [0.0, 0.06])
def test_gradients_are_finite_at_both_ends(cls: type[TopKMargin], penalty: float) -> None:
    settings: dict[str, Any] = {"penalty": penalty} if cls is InterTopKMargin else {}
    ends = [1.0, -1.0, 1.0000001, -1.0000001, math.cos(0.06)]
    cosines = torch.tensor([ends, ends[::-1]]).requires_grad_()
    loss = LogSoftmaxWrapper(cls(margin=0.2, scale=30, **settings))
    loss(cosines.unsqueeze(1), torch.tensor([[0], [1]])).backward()
    assert cosines.grad is not None and cosines.grad.isfinite().all()


def test_the_worst_confusion_has_a_gradient() -> None:
    cosines = torch.tensor([[0.2, 1.0]], requires_grad=True)
    loss = LogSoftmaxWrapper(InterTopKMargin(margin=0.2, scale=30))
    loss(cosines.unsqueeze(1), torch.tensor([[0]])).backward()
    assert cosines.grad is not None and float(cosines.grad[0, 1]) == pytest.approx(30, rel=1e-3)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_under_amp(cls: type[TopKMargin], dtype: torch.dtype) -> None:
    cosines, targets = batch()
    low, settings = cosines.to(dtype), PENALISED[cls]
    loss = cls(margin=0.2, scale=30, **settings)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype):
        found = loss(low, targets)
        wrapped = LogSoftmaxWrapper(loss)(low.unsqueeze(1), targets.argmax(dim=1, keepdim=True))
    assert found.dtype == wrapped.dtype == torch.float32
    assert torch.equal(found, loss(low.float(), targets))


@pytest.mark.parametrize("cls", CLASSES)
def test_the_loss_is_larger_than_without(cls: type[TopKMargin]) -> None:
    cosines, targets = batch()
    settings: dict[str, Any] = PENALISED[cls]
    labels = targets.argmax(dim=1, keepdim=True)
    found = LogSoftmaxWrapper(cls(0.2, 30, **settings))(cosines.unsqueeze(1), labels)
    plain = LogSoftmaxWrapper(AdditiveAngularMargin(0.2, 30))(cosines.unsqueeze(1), labels)
    assert float(found) > float(plain)


@pytest.mark.parametrize("k", [0, -5])
@pytest.mark.parametrize("cls", CLASSES)
def test_k_that_penalises_nobody_is_refused(cls: type[TopKMargin], k: int) -> None:
    with pytest.raises(ValueError, match=f"k={k} must be at least 1"):
        cls(k=k)


@pytest.mark.parametrize("penalty", [-0.1, math.pi, math.nan])
def test_penalties_that_cannot_be_are_refused(penalty: float) -> None:
    with pytest.raises(ValueError, match=f"penalty={penalty} must be"):
        InterTopKMargin(penalty=penalty)


@pytest.mark.parametrize("multiplier", [0.5, math.inf, math.nan])
def test_multipliers_that_cannot_be_are_refused(multiplier: float) -> None:
    with pytest.raises(ValueError, match=f"multiplier={multiplier} must be"):
        WeightedTopKMargin(multiplier=multiplier)


SHARES = {1: 0.0, 2: 0.0, 3: 0.25, 4: 0.5, 5: 0.75, 6: 1.0, 7: 1.0, 100: 1.0}


@pytest.mark.parametrize("epoch", SHARES)
def test_a_ramped_margin_is_that_margin(epoch: int) -> None:
    """And the penalty of others with it, in whatever order epochs are told."""
    cosines, targets = batch()
    labels = targets.argmax(dim=1, keepdim=True)
    ramp = RampedMargin(InterTopKMargin(0.2, 30, k=3, penalty=0.06), start=1, stop=5)
    plain = RampedMargin(AdditiveAngularMargin(0.2, 30), start=1, stop=5)
    for told in (50, 2, 4, epoch):
        ramp.start_epoch(told)
        plain.start_epoch(told)
    share = SHARES[epoch]
    assert ramp.margin == pytest.approx(0.2 * share) and plain.margin == pytest.approx(0.2 * share)
    of_ramp = InterTopKMargin(0.2 * share, 30, k=3, penalty=0.06 * share)
    of_plain = AdditiveAngularMargin(0.2 * share, 30)
    for ramped, loss in ((ramp, of_ramp), (plain, of_plain)):
        expected = LogSoftmaxWrapper(loss)(cosines.unsqueeze(1), labels)
        torch.testing.assert_close(ramped(cosines.unsqueeze(1), labels), expected)


def test_a_ramp_between_parts_of_epochs() -> None:
    ramp = RampedMargin(AdditiveAngularMargin(0.2, 30), start=0.5, stop=2.5)
    margins = []
    for epoch in (1, 2, 3, 4):
        ramp.start_epoch(epoch)
        margins.append(ramp.margin)
    assert margins == pytest.approx([0.0, 0.05, 0.15, 0.2])


@pytest.mark.parametrize("stop", [0, 3])
def test_a_ramp_of_no_length_is_a_step(stop: int) -> None:
    ramp = RampedMargin(AdditiveAngularMargin(0.5, 30, easy_margin=True), start=stop, stop=stop)
    assert ramp.margin == 0.5 and ramp.loss_fn.easy_margin
    ramp.start_epoch(1)
    assert ramp.margin == (0.0 if stop else 0.5)
    ramp.start_epoch(stop + 1)
    assert ramp.margin == 0.5


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, math.nan)])
def test_ramps_that_cannot_be_are_refused(start: float, stop: float) -> None:
    with pytest.raises(ValueError, match=f"margin_start {start} .* margin_stop {stop}"):
        RampedMargin(AdditiveAngularMargin(), start, stop)
