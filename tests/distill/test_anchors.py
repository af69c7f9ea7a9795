"""Distillation by anchors against its formula, and which of the teacher's embeddings they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.distill import anchors as module
from speechbrain_ext.distill.anchors import AnchorDistillation, Anchors
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

SIZE = 6


class Rows(Anchors):
    """The anchors that it is given."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def vectors(self, *_: Any) -> Tensor:
        return self.rows


def make(rows: Tensor, temperature: float = 0.05, **settings: Any) -> AnchorDistillation:
    term = AnchorDistillation(Rows(rows), temperature, **settings)
    term.prepare("train.csv", [])
    return term


def value(term: AnchorDistillation, student: Tensor, teacher: Tensor) -> Tensor:
    return term(StudentOutput(student, {}, student), TeacherOutput(teacher, {}))


def some(crops: int = 3, anchors: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    return (
        F.normalize(torch.randn(anchors, SIZE)),
        torch.randn(crops, SIZE),
        torch.randn(crops, SIZE),
    )


def probabilities(vector: list[float], rows: list[list[float]], t: float) -> list[float]:
    cosines = [
        math.fsum(x * y for x, y in zip(vector, row, strict=True)) / math.hypot(*vector)
        for row in rows
    ]
    exponentials = [math.exp((c - max(cosines)) / t) for c in cosines]
    return [x / math.fsum(exponentials) for x in exponentials]


@pytest.mark.parametrize("temperature", [1.0, 0.2, 0.05])
def test_by_its_definition(temperature: float) -> None:
    rows, student, teacher = some()
    divergences = []
    for own, taught in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = (probabilities(x, rows.tolist(), temperature) for x in (own, taught))
        divergences.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    found = value(make(rows, temperature), student, teacher)
    expected = math.fsum(divergences) / len(divergences)
    assert found.item() == pytest.approx(expected, rel=1e-4) and found.dtype == torch.float32


def test_a_student_with_the_teachers_directions_has_nothing_to_learn() -> None:
    rows, _, teacher = some()
    student = (3 * teacher).requires_grad_()
    loss = value(make(rows), student, teacher.requires_grad_())
    loss.backward()
    assert loss.abs() < 1e-5 and student.grad is not None and student.grad.abs().max() < 1e-4
    assert teacher.grad is None


def test_its_steps_lead_to_the_teacher() -> None:
    """More anchors than dimensions say where the teacher is."""
    rows, student, teacher = some(anchors=40)
    term = make(rows, 0.2)
    student.requires_grad_()
    optimiser = torch.optim.Adam([student], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        value(term, student, teacher).backward()
        optimiser.step()
    assert F.cosine_similarity(student, teacher).min() > 0.99


def test_the_most_certain_are_finite() -> None:
    rows = torch.cat([torch.eye(4), -torch.eye(4)])
    student = (-torch.eye(4)).requires_grad_()
    loss = value(make(rows, 0.001), student, torch.eye(4))
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_under_amp_it_is_computed_in_float32() -> None:
    rows, student, teacher = some()
    term = make(rows)
    with torch.autocast("cpu", torch.bfloat16):
        found = value(term, student.bfloat16(), teacher)
    expected = value(term, student.bfloat16().float(), teacher)
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-6)


def test_a_projection_takes_the_student_there() -> None:
    rows, student, teacher = some()
    projection = nn.Linear(SIZE + 2, SIZE)
    wide = torch.randn(3, SIZE + 2)
    found = value(make(rows, projection=projection), wide, teacher)
    assert torch.allclose(found, value(make(rows), projection(wide), teacher), atol=1e-6)
    with pytest.raises(ValueError, match=f"size {SIZE + 2} and the teacher's {SIZE}: set lin_"):
        value(make(rows), wide, teacher)


def test_anchors_of_another_teacher_are_refused() -> None:
    rows, student, _ = some()
    with pytest.raises(ValueError, match=f"embeddings have size 9 and the anchors {SIZE}: make"):
        value(make(rows), student, torch.randn(3, 9))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        make(torch.eye(2), 0.0)
    with pytest.raises(ValueError, match="most must be 2 or more, got 1"):
        Anchors(nn.Identity(), "cache", most=1)  # type: ignore[arg-type]


def test_it_is_no_part_of_a_checkpoint() -> None:
    rows, *_ = some()
    term = make(rows)
    assert not term.state_dict() and not list(term.parameters()) and term.uses_teacher


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The embeddings of 20 utterances at two speeds, whose lengths tell them apart."""
    vectors = np.random.default_rng(3).standard_normal((40, SIZE)).astype(np.float32)
    monkeypatch.setattr(module, "cached_embeddings", lambda *_: vectors)
    return vectors


def write_manifest(folder: Path) -> Path:
    rows = [f"id{n},1.0,{n}.wav,0,16000," for n in range(20)]
    path = folder / "train.csv"
    path.write_text("\n".join(["ID,duration,wav,start,stop,spk_id", *rows]) + "\n")
    return path


def anchors(most: int) -> Anchors:
    return Anchors(nn.Identity(), "cache", most, speeds=[1.0, 0.9])  # type: ignore[arg-type]


def test_all_utterances_at_every_speed_are_anchors(table: np.ndarray, tmp_path: Path) -> None:
    found = anchors(100).vectors(write_manifest(tmp_path))
    assert torch.allclose(found, F.normalize(torch.from_numpy(table)))


def test_of_more_they_are_drawn_and_the_same_each_time(table: np.ndarray, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    found, again = anchors(15).vectors(manifest), anchors(15).vectors(manifest)
    assert torch.equal(found, again) and len(found) == 15
    cosines = found @ F.normalize(torch.from_numpy(table)).T
    own = cosines.argmax(1)
    assert torch.allclose(cosines.amax(1), torch.ones(15)) and len(own.unique()) == 15
    steps = own.diff()
    assert (steps > 0).all() and len(steps.unique()) > 1  # in order, and not every so many
