"""Label-level distillation against its formulas, and with what else a training may have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.distill.classifier_start import TeacherClassifier
from speechbrain_ext.distill.label_terms import DecoupledLabelDistillation, LabelDistillation
from speechbrain_ext.interfaces import StudentOutput, Target, TeacherOutput
from speechbrain_ext.systems.experiment import save_weights

SPEAKERS, SIZE = 5, 6
BOTH = pytest.mark.parametrize("kind", [LabelDistillation, DecoupledLabelDistillation])


class Rows:
    """The rows that it is given."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def weights(self, *_: Any) -> Tensor:
        return self.rows

    def sha256(self) -> str:
        return str(self.rows.sum().item())


def make(kind: type[LabelDistillation], rows: Tensor, **settings: float) -> LabelDistillation:
    term = kind(Rows(rows), **settings)
    term.prepare("train.csv", [f"id{number}" for number in range(len(rows))])
    return term


def some(crops: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, the teacher's embeddings, the student's cosines and labels."""
    rows = F.normalize(torch.randn(SPEAKERS, SIZE))
    cosines = torch.rand(crops, SPEAKERS) * 2 - 1
    return rows, torch.randn(crops, SIZE), cosines, torch.randint(SPEAKERS, (crops,))


def student(logits: Tensor | None, *targets: Target) -> StudentOutput:
    return StudentOutput(torch.zeros(1), {}, torch.zeros(1), logits, targets)


def value(term: LabelDistillation, embedding: Tensor, logits: Tensor, *targets: Target) -> Tensor:
    return term(student(logits, *targets), TeacherOutput(embedding, {}))


def softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(x - max(logits)) for x in logits]
    return [x / math.fsum(exponentials) for x in exponentials]


def divergence(teacher: list[float], student: list[float]) -> float:
    return math.fsum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def parts_by_definition(
    rows: Tensor, embedding: Tensor, cosines: Tensor, labels: Tensor, scale: float, t: float
) -> list[tuple[float, float, float, float]]:
    """Of each crop: the whole divergence, that of the target, that of the others, and 1 - p."""
    parts = []
    for vector, own, label in zip(
        embedding.tolist(), cosines.tolist(), labels.tolist(), strict=True
    ):
        theirs = [
            math.fsum(x * y for x, y in zip(vector, row, strict=True)) / math.hypot(*vector)
            for row in rows.tolist()
        ]
        p, q = (softmax([scale * c / t for c in logits]) for logits in (theirs, own))
        others = [place for place in range(len(p)) if place != label]
        rest_p, rest_q = (math.fsum(x[place] for place in others) for x in (p, q))
        target = divergence([p[label], rest_p], [q[label], rest_q])
        other = divergence([p[x] / rest_p for x in others], [q[x] / rest_q for x in others])
        parts.append((divergence(p, q), target, other, rest_p))
    return parts


@pytest.mark.parametrize(("scale", "temperature"), [(1.0, 1.0), (10.0, 1.0), (30.0, 4.0)])
def test_both_by_their_definitions(scale: float, temperature: float) -> None:
    rows, embedding, cosines, labels = some()
    settings = {"scale": scale, "temperature": temperature}
    parts = parts_by_definition(rows, embedding, cosines, labels, scale, temperature)
    square = temperature**2
    whole = square * math.fsum(part[0] for part in parts) / len(parts)
    term = make(LabelDistillation, rows, **settings)
    found = value(term, embedding, cosines, Target(labels))
    assert found.item() == pytest.approx(whole, rel=1e-4) and found.dtype == torch.float32
    decoupled = make(DecoupledLabelDistillation, rows, **settings, non_target_weight=0.5)
    expected = square * math.fsum(part[1] + 0.5 * part[2] for part in parts) / len(parts)
    found = value(decoupled, embedding, cosines, Target(labels))
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_the_whole_divergence_weighs_the_others_by_how_unsure_the_teacher_is() -> None:
    """Zhao et al.: what decoupling changes. By the terms themselves, a crop at a time."""
    rows, embedding, cosines, labels = some()
    for crop in range(len(labels)):
        arguments = embedding[[crop]], cosines[[crop]], Target(labels[[crop]])
        target, with_others = (
            value(
                make(DecoupledLabelDistillation, rows, scale=5.0, non_target_weight=w), *arguments
            )
            for w in (0.0, 1.0)
        )
        theirs = 5 * F.normalize(embedding[crop], dim=0) @ rows.T
        unsure = 1 - theirs.softmax(0)[labels[crop]]
        whole = value(make(LabelDistillation, rows, scale=5.0), *arguments)
        assert torch.allclose(whole, target + unsure * (with_others - target), atol=1e-5)


@BOTH
def test_a_student_that_has_the_teachers_rows_and_embedding_has_nothing_to_learn(
    kind: type[LabelDistillation],
) -> None:
    """The aligned classifier's start: the same rows for both."""
    rows, embedding, _, labels = some()
    classifier = Classifier(SIZE, out_neurons=SPEAKERS)
    with torch.no_grad():
        classifier.weight.copy_(rows)
    ours = (3 * embedding).requires_grad_()
    logits = classifier(ours.unsqueeze(1)).squeeze(1)
    term = make(kind, rows)
    loss = value(term, embedding, logits, Target(labels))
    loss.backward()
    assert loss.abs() < 1e-5 and ours.grad is not None and ours.grad.abs().max() < 1e-4
    far = value(term, -embedding, logits.detach(), Target(labels))
    assert far > 1


@BOTH
def test_gradient_of_the_divergence(kind: type[LabelDistillation]) -> None:
    rows, embedding, cosines, labels = some(3)
    term = make(kind, rows, scale=4.0, temperature=2.0)
    cosines.requires_grad_()
    value(term, embedding, cosines, Target(labels)).backward()
    assert cosines.grad is not None
    for place in ((0, 0), (1, 3), (2, int(labels[2]))):
        moved = []
        for step in (1e-2, -1e-2):
            changed = cosines.detach().clone()
            changed[place] += step
            moved.append(value(term, embedding, changed, Target(labels)).item())
        slope = (moved[0] - moved[1]) / 2e-2
        assert cosines.grad[place].item() == pytest.approx(slope, rel=2e-2, abs=2e-3)


def test_the_others_pull_where_the_teacher_is_sure() -> None:
    """At scale 30 the plain divergence hardly says which other speaker resembles this one."""
    rows = torch.eye(3)
    embedding = torch.tensor([[1.0, 0.3, 0.0]])
    gradients = {}
    for kind in (LabelDistillation, DecoupledLabelDistillation):
        cosines = torch.tensor([[0.9, 0.1, 0.1]], requires_grad=True)
        value(make(kind, rows), embedding, cosines, Target(torch.tensor([0]))).backward()
        assert cosines.grad is not None
        gradients[kind] = cosines.grad[0, 1].abs()
    assert gradients[DecoupledLabelDistillation] > 1000 * gradients[LabelDistillation]


@BOTH
def test_crops_without_a_label_are_left_out(kind: type[LabelDistillation]) -> None:
    rows, embedding, cosines, labels = some(6)
    unknown = torch.tensor([True, False, True, False, False, True])
    term = make(kind, rows)
    cosines.requires_grad_()
    target = Target(labels.masked_fill(unknown, -1))
    loss = value(term, embedding, cosines, target)
    known = value(term, embedding[~unknown], cosines[~unknown], Target(labels[~unknown]))
    assert torch.allclose(loss, known, atol=1e-6)
    loss.backward()
    assert cosines.grad is not None
    assert not cosines.grad[unknown].any() and cosines.grad[~unknown].abs().sum() > 0


@BOTH
def test_a_batch_without_labels_is_zero_without_gradient(kind: type[LabelDistillation]) -> None:
    rows, embedding, cosines, labels = some()
    cosines.requires_grad_()
    loss = value(make(kind, rows), embedding, cosines, Target(torch.full_like(labels, -1)))
    loss.backward()
    assert loss.item() == 0 and cosines.grad is not None and not cosines.grad.any()
    assert value(make(kind, rows), embedding, cosines).item() == 0  # nobody speaks of speakers


@BOTH
def test_mixed_crops_have_both_labels_by_their_shares(kind: type[LabelDistillation]) -> None:
    rows, embedding, cosines, labels = some()
    other = labels.roll(1)
    term = make(kind, rows, scale=3.0)
    mixed = value(term, embedding, cosines, Target(labels, 0.7), Target(other, 0.3))
    apart = [value(term, embedding, cosines, Target(each)) for each in (labels, other)]
    assert torch.allclose(mixed, 0.7 * apart[0] + 0.3 * apart[1], atol=1e-6)


@BOTH
def test_the_most_certain_are_finite(kind: type[LabelDistillation]) -> None:
    """Probabilities that are 0 and 1 in float32, for and against the label."""
    rows, labels = torch.eye(4), torch.tensor([0, 0, 1])
    embedding = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 1.0, 0, 0]])
    cosines = torch.tensor([[1.0, -1, -1, -1], [1.0, -1, -1, -1], [-1.0, -1, -1, -1]])
    cosines.requires_grad_()
    loss = value(make(kind, rows, scale=1000.0), embedding, cosines, Target(labels))
    loss.backward()
    assert loss.isfinite() and cosines.grad is not None and cosines.grad.isfinite().all()


@BOTH
def test_two_speakers_are_enough(kind: type[LabelDistillation]) -> None:
    term = make(kind, torch.eye(2), scale=2.0)
    embedding, cosines = torch.eye(2), torch.zeros(2, 2)
    expected = divergence(softmax([2.0, 0.0]), [0.5, 0.5])
    found = value(term, embedding, cosines, Target(torch.tensor([0, 1])))
    assert found.item() == pytest.approx(expected, abs=1e-6)


@BOTH
def test_under_amp_it_is_computed_in_float32(kind: type[LabelDistillation]) -> None:
    rows, embedding, cosines, labels = some()
    term = make(kind, rows)
    half = embedding.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = value(term, half, cosines, Target(labels))
    expected = value(term, half.float(), cosines, Target(labels))
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-6)


@BOTH
def test_it_is_no_part_of_a_checkpoint(kind: type[LabelDistillation]) -> None:
    rows, *_ = some()
    term = make(kind, rows)
    assert not term.state_dict() and not list(term.parameters()) and term.uses_teacher


def test_the_teachers_own_classifier(tmp_path: Path) -> None:
    classifier = Classifier(2, out_neurons=3)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0], [-5.0, 0.0]]))
    save_weights(tmp_path, classifier, {}, "classifier")
    labels = CategoricalEncoder()
    labels.update_from_iterable(["cy", "ann", "bob"])
    labels.save(tmp_path / "save" / "label_encoder.txt")
    term = LabelDistillation(TeacherClassifier(tmp_path), scale=1.0)
    term.prepare("train.csv", ["ann", "cy"])  # the student knows fewer, in another order
    p = softmax([1.0, 0.8])  # of the embedding (0, 7)
    found = value(term, torch.tensor([[0.0, 7.0]]), torch.zeros(1, 2), Target(torch.tensor([1])))
    assert found.item() == pytest.approx(divergence(p, [0.5, 0.5]), abs=1e-6)
    with pytest.raises(ValueError, match="not trained on ann@sp1.1"):
        term.prepare("train.csv", ["ann", "ann@sp1.1"])


@BOTH
def test_of_several_centres_the_nearest_counts(kind: type[LabelDistillation]) -> None:
    _, embedding, cosines, labels = some(1)
    centres = F.normalize(torch.randn(SPEAKERS, 3, SIZE), dim=-1)
    nearest = [row[int((row @ embedding[0]).argmax())] for row in centres]
    found, known = (
        value(make(kind, rows, scale=3.0), embedding, cosines, Target(labels))
        for rows in (centres, torch.stack(nearest))
    )
    assert torch.allclose(found, known, atol=1e-6)


@BOTH
def test_what_does_not_fit_is_a_sentence(kind: type[LabelDistillation]) -> None:
    rows, embedding, cosines, labels = some()
    term = make(kind, rows)
    with pytest.raises(ValueError, match="the student has none: leave the term out"):
        term(student(None, Target(labels)), TeacherOutput(embedding, {}))
    with pytest.raises(ValueError, match=f"embeddings have size 9 and its rows .* {SIZE}: make"):
        value(term, torch.randn(4, 9), cosines, Target(labels))
    with pytest.raises(ValueError, match=f"has 15 outputs, and there are {SPEAKERS} speakers"):
        value(term, embedding, torch.randn(4, 15), Target(labels))
    with pytest.raises(ValueError, match="train.csv has none: leave the term out"):
        term.prepare("train.csv", [])
    for setting in ("scale", "temperature"):
        with pytest.raises(ValueError, match=f"^{setting} must be positive, got 0"):
            make(kind, rows, **{setting: 0.0})


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="non_target_weight must be 0 or more, got -1"):
        make(DecoupledLabelDistillation, torch.eye(2), non_target_weight=-1.0)
