"""What the report knows of an experiment: systems, their scores and speed, and the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Score:
    """How one system does on one trial list; error rate and interval are percentages."""

    system: str
    trials: str
    title: str
    targets: int
    nontargets: int
    eer: float
    interval: tuple[float, float]
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


@dataclass(frozen=True)
class Speed:
    """One system's size and speed as the benchmark measured them."""

    name: str
    parameters: int
    macs: float
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
    systems: list[Speed]

    def of(self, *names: str) -> Speed | None:
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
class Corpus:
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
        told = "synthetic" in text.lower()
        return f"{text} (synthetic speech)" if self.synthetic and not told else text


@dataclass(frozen=True)
class System:
    """A trained network: its folder, settings, one log entry an epoch, a score per trial list."""

    role: str
    name: str
    folder: Path
    settings: dict[str, str]
    log: list[dict[str, Any]]
    scores: dict[str, Score]

    def speed(self, benchmark: Benchmark | None) -> Speed | None:
        """Find this system in a benchmark, which names systems by folder or setting."""
        if benchmark is None:
            return None
        names = (str(self.folder), self.settings.get("system", self.name), self.name, self.role)
        return benchmark.of(*names)


@dataclass(frozen=True)
class Experiment:
    """Everything the report is made from."""

    folder: Path
    corpus: Corpus
    teacher: System
    student: System
    fusion: dict[str, Score]
    benchmark: Benchmark | None
    set: str
    lists: list[str]

    def scores(self, trials: str) -> dict[str, Score]:
        """Give the scores of teacher, student and fusion on one trial list, in this order."""
        return {
            "teacher": self.teacher.scores[trials],
            "student": self.student.scores[trials],
            "fusion": self.fusion[trials],
        }
