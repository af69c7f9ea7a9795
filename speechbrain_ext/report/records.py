"""What the report knows of an experiment: systems, their scores and speed, and the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechbrain_ext.systems.experiment import teacher_name


@dataclass(frozen=True)
class Score:
    """How one system does on one trial list; error rate and interval are percentages."""

    system: str
    trials: str
    title: str
    targets: int
    nontargets: int
    eer: float
    interval: tuple[float, float] | None
    threshold: float
    min_dcf: dict[str, float]
    false_alarm: list[float]
    miss: list[float]
    edges: list[float]
    target: list[float]
    nontarget: list[float]
    weights: str
    synthetic: bool
    corpus: str
    scale: str  # cosine, or how a cohort normalised it
    # Of a fusion: the student's EER less the teacher's, with its interval if there is one.
    difference: tuple[float, tuple[float, float] | None] | None = None
    # What verification/calibrated.py measured, where the scores are calibrated.
    calibrated: dict[str, Any] | None = None

    @property
    def norm(self) -> str:
        """The scale in a word."""
        return self.scale.partition(",")[0]


@dataclass(frozen=True)
class MeasuredSpeed:
    """One system's size and speed as the benchmark measured them."""

    name: str
    parameters: int | None
    macs: float | None
    utterances_per_second: float
    spread: tuple[float, float]
    relative: float
    from_waveform: float | None
    relative_from_waveform: float | None


@dataclass(frozen=True)
class Benchmark:
    """All systems measured side by side, and under which conditions."""

    device: str
    threads: int
    batch: int
    seconds_of_speech: float
    rounds: int
    systems: list[MeasuredSpeed]

    def of(self, *names: str) -> MeasuredSpeed | None:
        """Give the system known by the first of ``names`` that was measured, or None."""
        measured = {s.name: s for s in self.systems}
        return next((measured[n] for n in names if n in measured), None)


@dataclass(frozen=True)
class TrialCounts:
    """A trial list as the manifest describes it."""

    name: str
    title: str
    set: str
    targets: int
    nontargets: int


@dataclass(frozen=True)
class CorpusSummary:
    """A corpus as its manifest describes it."""

    name: str
    title: str
    synthetic: bool
    sets: dict[str, dict[str, float]]
    trials: list[TrialCounts]
    skipped: dict[str, int]

    @property
    def label(self) -> str:
        """The corpus's name as it stands beside every figure: synthetic speech is called so."""
        return self._labelled(self.name)

    @property
    def described(self) -> str:
        """The corpus's title, with the same label."""
        return self._labelled(self.title)

    def _labelled(self, text: str) -> str:
        says_so = "synthetic" in text.lower()
        return f"{text} (synthetic speech)" if self.synthetic and not says_so else text


@dataclass(frozen=True)
class TrainedSystem:
    """A trained network: its folder, settings, one log entry an epoch, a score per trial list.

    Where a cohort normalised its scores, there are these of each list as well.
    """

    role: str
    name: str
    folder: Path
    settings: dict[str, str]
    log: list[dict[str, Any]]
    scores: dict[str, Score]
    normalized: dict[str, Score]

    @property
    def names(self) -> tuple[str, ...]:
        """What a benchmark calls it, by folder or setting."""
        return str(self.folder), self.settings.get("system", self.name), self.name

    def speed(self, benchmark: Benchmark | None) -> MeasuredSpeed | None:
        """Find this system in a benchmark."""
        return None if benchmark is None else benchmark.of(*self.names, self.role)


@dataclass(frozen=True)
class Engines:
    """What stage 5 measured: a row a system, engine and input, and the files of the export."""

    rows: list[dict[str, Any]]
    files: list[dict[str, Any]]

    @property
    def place(self) -> str:
        """Where the speeds that are shown were measured, in words."""
        row = self.rows[0]
        threads = "one thread" if row["threads"] == 1 else f"{row['threads']} threads"
        several = "an utterance" if row["batch"] == 1 else f"{row['batch']} utterances"
        return f"{several} of {row['seconds_of_speech']:g} s from the waveform on, {threads}"


@dataclass(frozen=True)
class Experiment:
    """Everything the report is made from."""

    folder: Path
    corpus: CorpusSummary
    teacher: TrainedSystem | None  # None when the teacher is no experiment
    student: TrainedSystem
    fusion: dict[str, Score]
    enrolled: dict[str, Score]  # by the teacher, and verified by the student
    benchmark: Benchmark | None
    engines: Engines | None
    set: str
    lists: list[str]
    conditions: list[dict[str, Any]]  # of the student, a card of each list it was tried on

    @property
    def systems(self) -> list[TrainedSystem]:
        """The experiments: the teacher's, where it has one, and the student's."""
        return [self.student] if self.teacher is None else [self.teacher, self.student]

    @property
    def source(self) -> str | None:
        """The name of a teacher that is no experiment: a self-supervised model."""
        settings = self.student.settings
        if self.teacher is not None or settings.get("teacher") in ("", "null"):
            return None
        return teacher_name(settings)

    @property
    def taught_by(self) -> str | None:
        """The name of the teacher; None when the student had none."""
        return self.source if self.teacher is None else self.teacher.name

    @property
    def title(self) -> str:
        """What the report is about."""
        teacher = f" distilled from {self.taught_by}" if self.taught_by else ""
        return f"{self.student.name}{teacher}"

    @property
    def teacher_speed(self) -> MeasuredSpeed | None:
        """Size and speed of the teacher, whatever it is."""
        if self.teacher is not None:
            return self.teacher.speed(self.benchmark)
        if self.source is None or self.benchmark is None:
            return None
        return self.benchmark.of(self.source)

    def scores(self, trials: str) -> dict[str, Score]:
        """Give the scores on one trial list of teacher, student and fusion, where it has them."""
        found = {system.role: system.scores[trials] for system in self.systems}
        return found | ({"fusion": self.fusion[trials]} if trials in self.fusion else {})

    def rows(self, trials: str) -> dict[str, Score]:
        """Give the same, normalised scores, and those of a student for whom the teacher enrols."""
        found = self.scores(trials)
        for system in self.systems:
            if trials in system.normalized:
                found[f"{system.role}, normalized"] = system.normalized[trials]
        return found | ({"enrolled": self.enrolled[trials]} if trials in self.enrolled else {})
