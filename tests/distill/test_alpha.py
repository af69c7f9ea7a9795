"""Rules for alpha against the documents' tables and against gradients worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from speechbrain_ext.distill.alpha import (
    Alpha,
    Curriculum,
    GradientBalance,
    alpha_rule,
    capacity_alpha,
    logarithmic_alpha,
)

V2, LARGE, TEACHER = 2_664_576, 7_844_864, 3_873_745


def test_capacity_rule_on_the_documents_networks() -> None:
    assert capacity_alpha(V2 / TEACHER) == 0.7 and capacity_alpha(LARGE / TEACHER) == 0.4
    assert [capacity_alpha(r) for r in (0.49, 0.5, 0.99, 1.0, 1.49, 1.5)] == [
        0.9, 0.7, 0.7, 0.5, 0.5, 0.4,
    ]  # fmt: skip


def test_logarithmic_rule_is_clamped() -> None:
    assert logarithmic_alpha(2.0) == pytest.approx(0.4)
    assert logarithmic_alpha(V2 / TEACHER) == 0.9  # 1.17 unclamped
    assert logarithmic_alpha(LARGE / TEACHER) == pytest.approx(0.9 - 0.5 * 1.01803, abs=1e-4)
    assert logarithmic_alpha(100.0) == 0.1


def test_rules_count_the_parameters_of_both_networks() -> None:
    student = nn.Linear(4, 15)  # 75 parameters
    for count, alpha in ((200, 0.9), (100, 0.7), (60, 0.5), (40, 0.4)):
        rule = alpha_rule("auto", student, SimpleNamespace(num_parameters=count))
        assert rule.value == alpha
    rule = alpha_rule("logarithmic", student, SimpleNamespace(num_parameters=75))
    assert rule.value == pytest.approx(0.9)
    assert alpha_rule(1, student, None).value == 1.0 and alpha_rule(rule, student, None) is rule


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_must_be_a_share(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
        Alpha(alpha)
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
        Curriculum([0.5, alpha], [1, 2])


@pytest.mark.parametrize("alpha", ["automatic", None, True, [0.5]])
def test_a_setting_that_names_no_rule(alpha: object) -> None:
    with pytest.raises((ValueError, TypeError), match="alpha must be a number"):
        alpha_rule(str(alpha) if isinstance(alpha, list) else alpha, nn.Linear(1, 1), None)


def test_a_rule_that_needs_a_teacher() -> None:
    with pytest.raises(ValueError, match="alpha: auto compares .* teacher is null"):
        alpha_rule("auto", nn.Linear(1, 1), None)
    with pytest.raises(ValueError, match="alpha: auto compares .* give a number"):
        alpha_rule("auto", nn.Linear(1, 1), SimpleNamespace(num_parameters=None))


def test_curriculum_of_the_documents() -> None:
    rule, found = Curriculum([0.5, 0.7, 0.5], [1, 41, 81]), {}
    for epoch in (1, 40, 41, 80, 81, 100, 20):  # 20: a training that is run again
        rule.start_epoch(epoch)
        found[epoch] = rule.value
    assert found == {1: 0.5, 40: 0.5, 41: 0.7, 80: 0.7, 81: 0.5, 100: 0.5, 20: 0.5}
    assert rule.maximum == 0.7
    short = Curriculum([0.5, 0.7, 0.5], [1, 1, 2])
    short.start_epoch(1)
    assert short.value == 0.7
    for starts in ([1], [2, 41, 81], [1, 81, 41]):
        with pytest.raises(ValueError, match="in order from epoch 1"):
            Curriculum([0.5, 0.7, 0.5], starts)


def test_balance_makes_both_terms_pull_equally() -> None:
    torch.manual_seed(0)
    rule = GradientBalance(momentum=0.0)
    embedding = torch.randn(4, 8, requires_grad=True)
    classification, distillation = embedding.square().sum(), embedding.sin().sum()
    alpha = float(rule(classification, distillation, embedding))
    pulls = [
        float(weight * torch.autograd.grad(term, embedding, retain_graph=True)[0].norm())
        for weight, term in ((1 - alpha, classification), (alpha, distillation))
    ]
    assert pulls[0] == pytest.approx(pulls[1], rel=1e-4)
    norms = [float(2 * embedding.norm()), float(embedding.cos().norm())]
    assert alpha == pytest.approx(norms[0] / sum(norms), rel=1e-5)


def test_balance_stays_within_its_bounds() -> None:
    embedding = torch.ones(1, 4, requires_grad=True)
    for factor, bound in ((1e3, 0.8), (1e-3, 0.2)):
        rule = GradientBalance(minimum=0.2, maximum=0.8)
        assert rule(factor * embedding.sum(), embedding.sum(), embedding) == pytest.approx(bound)


def test_balance_averages_over_steps_and_keeps_its_state() -> None:
    rule, embedding = GradientBalance(momentum=0.5), torch.ones(1, 4, requires_grad=True)
    assert rule(embedding.sum(), embedding.sum(), embedding) == pytest.approx(0.5)
    # Norms 2 and 2, then 6 and 2: averages 4 and 2.
    assert rule(3 * embedding.sum(), embedding.sum(), embedding) == pytest.approx(2 / 3)
    other = GradientBalance(momentum=0.5)
    other.load_state_dict(rule.state_dict())
    assert other.eval()(embedding.sum(), embedding.sum(), embedding) == pytest.approx(2 / 3)
    bad = torch.full((), float("inf")) * embedding.sum()
    assert rule(bad, embedding.sum(), embedding) == pytest.approx(2 / 3)


@pytest.mark.parametrize("bounds", [{"minimum": 0.9, "maximum": 0.1}, {"maximum": 1.5}])
def test_balance_refuses_bounds_that_are_none(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        GradientBalance(**bounds)
    with pytest.raises(ValueError, match="momentum"):
        GradientBalance(momentum=1.0)
