"""Terms over pairs of layers: their values by hand, what learns from them, what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.distill.alpha import Alpha
from speechbrain_ext.distill.layer_terms import (
    AttentionTransfer,
    DistilHuBERT,
    HiddenMSE,
    Hints,
    LayerPairs,
)
from speechbrain_ext.distill.objective import DistillationObjective
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

STUDENT = {"block1": 4, "block2": 4}
TEACHER = {"bottleneck": 3, "lstm1": 6}
X = torch.ones(1, 2)  # embeddings and features, of which no term here reads anything

each_term = pytest.mark.parametrize("term", [HiddenMSE, Hints, DistilHuBERT, AttentionTransfer])
each_learning_term = pytest.mark.parametrize("term", [HiddenMSE, Hints, DistilHuBERT])


def outputs(
    student: dict[str, Tensor], teacher: dict[str, Tensor]
) -> tuple[StudentOutput, TeacherOutput]:
    return StudentOutput(X, student, X), TeacherOutput(X, teacher)


def set_ones_and_zeros(term: LayerPairs) -> None:
    """Make each linear layer repeat its channels, with zeros where it is wider."""
    for parameter in term.parameters():
        (nn.init.eye_ if parameter.dim() == 2 else nn.init.zeros_)(parameter)


def shapes(term: LayerPairs) -> list[tuple[int, ...]]:
    """Of weights and biases in turn."""
    return [tuple(parameter.shape) for parameter in term.parameters()]


# Every term


@each_term
@pytest.mark.parametrize(
    ("pairs", "weights", "sentence"),
    [
        (
            [["block3", "lstm1"]],
            None,
            r"^pairs: the student has no layer 'block3', its layers are: block1, block2$",
        ),
        (
            [["block1", "lstm1"], ["block1", "lstm2"]],
            None,
            r"^pairs: the teacher has no layer 'lstm2', its layers are: bottleneck, lstm1$",
        ),
        ([["block1"]], None, r"^pairs: \['block1'\] is not a \[student's layer"),
        (["ab"], None, r"^pairs: ab is not a \[student's layer, teacher's layer\]$"),
        ([], None, r"^pairs must name at least one pair of layers, got \[\]$"),
        ([["block1", "lstm1"]], [1.0, 2.0], r"^weights has 2 values and pairs has 1"),
        ([["block1", "lstm1"]], [0.0], r"^weights must be positive, got \[0.0\]$"),
        ([["block1", "lstm1"]], [float("nan")], r"^weights must be positive, got \[nan\]$"),
    ],
)
def test_mistakes_are_named_at_construction(
    term: type[LayerPairs], pairs: list, weights: list[float] | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        term(pairs, STUDENT, TEACHER, weights)


@each_term
def test_a_network_without_layers_says_so(term: type[LayerPairs]) -> None:
    with pytest.raises(ValueError, match="'lstm1', its layers are: none$"):
        term([["block1", "lstm1"]], STUDENT, {})


@each_term
def test_layers_of_other_frame_rates_are_refused(term: type[LayerPairs]) -> None:
    found = outputs({"block1": torch.ones(2, 10, 4)}, {"lstm1": torch.ones(2, 5, 6)})
    with pytest.raises(
        ValueError,
        match="student's block1 has 10 frames where the teacher's lstm1 has 5: pair layers of one",
    ):
        term([["block1", "lstm1"]], STUDENT, TEACHER)(*found)


@each_term
def test_gradient_reaches_the_student_and_not_the_teacher(term: type[LayerPairs]) -> None:
    torch.manual_seed(0)
    ours = {name: torch.randn(2, 7, size, requires_grad=True) for name, size in STUDENT.items()}
    theirs = {name: torch.randn(2, 7, size, requires_grad=True) for name, size in TEACHER.items()}
    loss = term([["block1", "bottleneck"], ["block2", "lstm1"]], STUDENT, TEACHER)
    assert loss.uses_teacher
    loss(*outputs(ours, theirs)).backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in ours.values())
    assert all(x.grad is None for x in theirs.values())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


@each_term
def test_hidden_outputs_in_bfloat16_are_compared_in_float32(term: type[LayerPairs]) -> None:
    torch.manual_seed(0)
    loss = term([["block1", "lstm1"]], STUDENT, TEACHER)
    ours, theirs = torch.randn(4, 50, 4).bfloat16(), torch.randn(4, 50, 6).bfloat16()
    full = loss(*outputs({"block1": ours.float()}, {"lstm1": theirs.float()}))
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(*outputs({"block1": ours}, {"lstm1": theirs}))
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=1e-5)


@each_learning_term
def test_what_is_learned_keeps_full_precision_under_amp(term: type[LayerPairs]) -> None:
    """In bfloat16 a value near 1 is rounded by more than the distance that is measured here."""
    torch.manual_seed(0)
    loss = term([["block1", "lstm1"]], STUDENT, TEACHER)
    ours = torch.randn(4, 50, 4)
    if isinstance(loss, DistilHuBERT):
        loss.cosine_weight = 0.0  # the cosine's part hardly moves
        near = loss.heads[0](ours).detach()
    else:
        assert isinstance(loss, (HiddenMSE, Hints))
        near = loss.projections[0](ours).detach()
    near = near + 1e-2 * torch.randn_like(near)
    full = loss(*outputs({"block1": ours}, {"lstm1": near}))
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(*outputs({"block1": ours}, {"lstm1": near}))
    assert half.item() == pytest.approx(full.item(), rel=1e-4)


@each_learning_term
def test_the_objective_keeps_what_is_learned(term: type[LayerPairs]) -> None:
    loss = term([["block1", "bottleneck"], ["block1", "lstm1"]], STUDENT, TEACHER)
    objective = DistillationObjective(None, Alpha(0), {"hidden": loss}, {"hidden": 0.5})
    learned = {f"terms.hidden.{name}" for name in loss.state_dict()}
    assert learned and set(objective.state_dict()) == learned


# HiddenMSE

# (a - x)² is 0, 4, 1 and 9 over two frames of two channels: 3.5. b, once its projection adds a
# third channel of zeros, is away from y by 1, 1 and 2: 2.
MSE_LAYERS = (
    {"a": torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), "b": torch.tensor([[[1.0, 1.0]]])},
    {"x": torch.tensor([[[1.0, 2.0], [1.0, -1.0]]]), "y": torch.tensor([[[0.0, 2.0, 2.0]]])},
)
MSE_SIZES = {"a": 2, "b": 2}, {"x": 2, "y": 3}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, (3.5 + 2) / 2), ([1.0, 3.0], (3.5 + 3 * 2) / 4), ([2.0, 6.0], (3.5 + 3 * 2) / 4)],
)
def test_hidden_mse_by_hand(weights: list[float] | None, expected: float) -> None:
    loss = HiddenMSE([["a", "x"], ["b", "y"]], *MSE_SIZES, weights)
    set_ones_and_zeros(loss)
    assert loss(*outputs(*MSE_LAYERS)).item() == pytest.approx(expected, abs=1e-6)


def test_its_gradient_by_hand() -> None:
    """Of half the mean of (a - x)² over four numbers."""
    ours, theirs = MSE_LAYERS
    a = ours["a"].clone().requires_grad_()
    HiddenMSE([["a", "x"], ["b", "y"]], *MSE_SIZES)(*outputs({**ours, "a": a}, theirs)).backward()
    assert a.grad is not None and torch.allclose(a.grad, (ours["a"] - theirs["x"]) / 4)


def test_it_projects_only_layers_of_other_widths() -> None:
    loss = HiddenMSE([["a", "x"], ["b", "y"]], *MSE_SIZES)
    assert isinstance(loss.projections[0], nn.Identity)
    assert shapes(loss) == [(3, 2), (3,)]
    assert set(loss.state_dict()) == {"projections.1.weight", "projections.1.bias"}
    assert not HiddenMSE([["a", "x"]], *MSE_SIZES).state_dict()


# Hints


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, (0.5 + 2) / 2), ([1.0, 3.0], (0.5 + 3 * 2) / 4), ([2.0, 6.0], (0.5 + 3 * 2) / 4)],
)
def test_hints_by_hand(weights: list[float] | None, expected: float) -> None:
    """Cosines of the frames of (a, x) are 1 and 0, of (b, y) -1 and -1.

    The projection of a adds a third channel of zeros, that of b changes nothing.
    """
    student = {
        "a": torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
        "b": torch.tensor([[[1.0, 1.0], [0.0, 2.0]]]),
    }
    teacher = {
        "x": torch.tensor([[[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]]]),
        "y": torch.tensor([[[-5.0, -5.0], [0.0, -1.0]]]),
    }
    hints = Hints([["a", "x"], ["b", "y"]], {"a": 2, "b": 2}, {"x": 3, "y": 2}, weights)
    set_ones_and_zeros(hints)
    assert hints(*outputs(student, teacher)).item() == pytest.approx(expected, abs=1e-6)


def test_a_layer_in_two_pairs_has_two_projections() -> None:
    hints = Hints([["a", "x"], ["a", "y"]], {"a": 2}, {"x": 3, "y": 2})
    assert shapes(hints) == [(3, 2), (3,), (2, 2), (2,)]


# DistilHuBERT


def surprise(cosine: float) -> float:
    """The negative logarithm of the logistic function."""
    return math.log1p(math.exp(-cosine))


@pytest.mark.parametrize("cosine_weight", [1.0, 0.0, 0.5])
@pytest.mark.parametrize(("weights", "share"), [(None, 0.5), ([3.0, 1.0], 0.75)])
def test_distilhubert_by_hand(
    cosine_weight: float, weights: list[float] | None, share: float
) -> None:
    """GELU leaves 9 as it is, to six decimals: the heads predict (9, 0, 0) and (0, 9, 0).

    From x that is away by 6, 0, 0 with cosine 1, and 0, 18, 0 with cosine -1: 4 on average. From y
    by 9, 9 and 9, 9 with cosine 0: 9.
    """
    student = {"a": torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])}
    teacher = {
        "x": torch.tensor([[[3.0, 0.0, 0.0], [0.0, -9.0, 0.0]]]),
        "y": torch.tensor([[[0.0, -9.0], [9.0, 0.0]]]),
    }
    pairs = [["a", "x"], ["a", "y"]]
    loss = DistilHuBERT(pairs, {"a": 2}, {"x": 3, "y": 2}, weights, cosine_weight)
    set_ones_and_zeros(loss)
    found = loss(*outputs(student, teacher)).item()
    first = 4 + cosine_weight * (surprise(1) + surprise(-1)) / 2
    second = 9 + cosine_weight * surprise(0)
    assert found == pytest.approx(share * first + (1 - share) * second, abs=1e-5)


def test_every_pair_has_a_head_of_its_own() -> None:
    loss = DistilHuBERT([["a", "x"], ["a", "y"]], {"a": 4}, {"x": 3, "y": 2})
    assert shapes(loss) == [(4, 4), (4,), (3, 4), (3,), (4, 4), (4,), (2, 4), (2,)]
    assert set(loss.state_dict()) == {
        f"heads.{head}.{layer}.{name}"
        for head in (0, 1)
        for layer in (0, 2)
        for name in ("weight", "bias")
    }


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"^cosine_weight must be at least 0, got {value}$"):
        DistilHuBERT([["block1", "lstm1"]], STUDENT, TEACHER, cosine_weight=value)


# AttentionTransfer


def attend(student: Tensor, teacher: Tensor) -> Tensor:
    term = AttentionTransfer([["a", "b"]], {"a": 2}, {"b": 2})
    return term(*outputs({"a": student}, {"b": teacher}))


def test_attention_transfer_by_hand() -> None:
    # Energies (2, 0) and (3, 4): maps (1, 0) and (0.6, 0.8), √0.8 apart.
    first = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    target = torch.tensor([[3**0.5, 0.0], [0.0, -2.0]])
    # Energies (1, 0) and (0, 4): √2 apart.
    second = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    loss = attend(torch.stack([first, second]), torch.stack([target, other])).item()
    assert loss == pytest.approx((0.8**0.5 + 2**0.5) / 2, abs=1e-6)


def test_only_where_in_time_counts() -> None:
    hidden = torch.randn(2, 9, 2)
    turned = 3 * hidden.flip(-1) * torch.tensor([1.0, -1.0])
    assert attend(hidden, turned).item() == pytest.approx(0, abs=1e-6)
    assert attend(hidden, hidden.flip(1)).item() > 0.1


def test_equal_maps_give_no_gradient_but_no_nan_either() -> None:
    hidden = torch.ones(2, 9, 2, requires_grad=True)
    attend(hidden, hidden.detach()).backward()
    assert hidden.grad is not None and not hidden.grad.any()
