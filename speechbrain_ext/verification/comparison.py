"""EERs of systems with several seeds, and their differences, with intervals.

Two things could have come out otherwise: who was tested, and how the training went. Speakers are
drawn anew, the same for every run. Two or three seeds are too few to draw from, but what a training
varies by is much the same for all systems, so it is estimated from all that have several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from speechbrain_ext.verification.bootstrap import eer_draws
from speechbrain_ext.verification.draws import few_speakers
from speechbrain_ext.verification.metrics import equal_error_rate

FUSED = "+"  # joins the names of systems whose scores are averaged


class TrainingNoise(NamedTuple):
    """Standard deviation of the EER (points) between seeds of one system, pooled over systems."""

    deviation: float
    degrees: int
    systems: int


class Difference(NamedTuple):
    """EER of one system less that of another, in points, with its 95 % interval if it has one."""

    value: float
    low: float | None
    high: float | None
    seeds: int


class Comparison:
    """All systems on one trial list.

    Arguments
    ---------
    scores : mapping
        The scores (N,) of every run, by system and seed.
    labels : np.ndarray
        (N,) bool, True for a target.
    enrol_speakers, test_speakers : np.ndarray
        (N,) each, the speaker on each side.
    fused : sequence of str
        Names such as ``v2+teacher``: runs of the same seed whose scores are averaged.
    samples : int
        Draws of speakers.
    """

    def __init__(
        self,
        scores: Mapping[str, Mapping[int, np.ndarray]],
        labels: np.ndarray,
        enrol_speakers: np.ndarray,
        test_speakers: np.ndarray,
        fused: Sequence[str] = (),
        samples: int = 1000,
    ) -> None:
        every = {**scores, **{name: _fuse(scores, name.split(FUSED)) for name in fused}}
        runs = [(name, seed) for name, own in every.items() for seed in own]
        #: Whether there are intervals.
        self.decides = not few_speakers(enrol_speakers, test_speakers)
        self._draws: dict[tuple[str, int], np.ndarray] = {}
        if self.decides:
            draws = eer_draws(
                [every[name][seed] for name, seed in runs],
                labels,
                enrol_speakers,
                test_speakers,
                samples,
            )
            self._draws = {run: 100 * draws[:, column] for column, run in enumerate(runs)}
        self.eers: dict[str, dict[int, float]] = {name: {} for name in every}
        for name, seed in runs:
            self.eers[name][seed] = 100 * equal_error_rate(every[name][seed], labels)[0]
        self.noise = training_noise([list(self.eers[name].values()) for name in scores])

    def interval(self, name: str) -> tuple[float, float] | None:
        """95 % interval of the mean over seeds of a system's EER, for other speakers.

        None where the list has too few for one.
        """
        if not self.decides:
            return None
        draws = np.mean([self._draws[name, seed] for seed in self.eers[name]], axis=0)
        low, high = np.quantile(draws, (0.025, 0.975))
        return float(low), float(high)

    def difference(self, first: str, second: str) -> Difference | None:
        """EER of the first less that of the second, over the seeds both have; None without any.

        To every draw of speakers is added an error of training: Student's t, with the deviation of
        a difference of two means over these seeds.
        """
        seeds = sorted(set(self.eers.get(first, {})) & set(self.eers.get(second, {})))
        if not seeds:
            return None
        value = np.mean([self.eers[first][s] - self.eers[second][s] for s in seeds])
        if not self.decides:
            return Difference(float(value), None, None, len(seeds))
        draws = np.mean([self._draws[first, s] - self._draws[second, s] for s in seeds], axis=0)
        if self.noise is not None and first != second:
            error = np.random.default_rng(1).standard_t(self.noise.degrees, size=len(draws))
            draws = draws + error * self.noise.deviation * math.sqrt(2 / len(seeds))
        low, high = np.quantile(draws, (0.025, 0.975))
        return Difference(float(value), float(low), float(high), len(seeds))


def training_noise(eers: Sequence[Sequence[float]]) -> TrainingNoise | None:
    """Pool the deviation within systems; None when none has two seeds.

    Arguments
    ---------
    eers : sequence of sequence of float
        For each system its EERs.

    Example
    -------
    >>> training_noise([[4.0, 6.0], [9.0, 9.0], [3.0]])  # squares 2 and 0, one degree each
    TrainingNoise(deviation=1.0, degrees=2, systems=2)
    """
    several = [np.asarray(own) for own in eers if len(own) > 1]
    degrees = sum(len(own) - 1 for own in several)
    if not degrees:
        return None
    squares = sum(float(((own - own.mean()) ** 2).sum()) for own in several)
    return TrainingNoise(math.sqrt(squares / degrees), degrees, len(several))


def _fuse(
    scores: Mapping[str, Mapping[int, np.ndarray]], names: Sequence[str]
) -> dict[int, np.ndarray]:
    seeds = set.intersection(*(set(scores.get(name, {})) for name in names))
    return {s: np.mean([scores[name][s] for name in names], axis=0) for s in sorted(seeds)}
