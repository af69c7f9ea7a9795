"""Pairs of test recordings to compare."""

from __future__ import annotations

import itertools

import numpy as np

from speechbrain_ext.corpora.mini.options import (
    MiniOptions,
    SpeakerTask,
    speaker_tasks,
    utterance_path,
)
from speechbrain_ext.corpora.mini.render import random_generator

_MOST_TARGETS = 100  # of one speaker
_SAME_SEX_SHARE = 0.6  # of the non-targets: pitch shall not solve the task


def _recordings(options: MiniOptions, task: SpeakerTask) -> list[tuple[int, str]]:
    """All (session, path) of a speaker."""
    return [
        (session, utterance_path(task.name, session, utterance))
        for session in range(options.sessions)
        for utterance in range(options.utterances)
    ]


def draw_trials(options: MiniOptions) -> list[str]:
    """Draw the test trials.

    Targets always compare two sessions of a speaker; there are as many non-targets as targets, save
    a few that were drawn twice.

    Arguments
    ---------
    options : MiniOptions
        Size and seed.

    Returns
    -------
    list of str
        Lines `label enrol test`, label 1 for a target; paths are relative to the test folder.

    Example
    -------
    >>> lines = draw_trials(MiniOptions())
    >>> 7000 < len(lines) < 8000
    True
    """
    people = [task for task in speaker_tasks(options) if task.split == "test"]
    files = {task: _recordings(options, task) for task in people}
    lines: list[str] = []
    seen: set[frozenset[str]] = set()
    for task in people:
        rng = random_generator(options, "trials", task.index)
        pairs = [
            (a, b)
            for (day, a), (other_day, b) in itertools.combinations(files[task], 2)
            if day != other_day
        ]
        chosen = rng.permutation(len(pairs))[:_MOST_TARGETS]
        # The later session is as often enrolled as tested.
        lines += [
            "1 " + " ".join(pairs[i] if rng.random() < 0.5 else pairs[i][::-1])
            for i in sorted(chosen)
        ]
        same_sex = [other for other in people if other.sex == task.sex and other != task]
        other_sex = [other for other in people if other.sex != task.sex]
        for _ in chosen:
            group = same_sex if same_sex and rng.random() < _SAME_SEX_SHARE else other_sex
            other = group[rng.integers(len(group))]
            enrol = files[task][rng.integers(len(files[task]))][1]
            test = files[other][rng.integers(len(files[other]))][1]
            if frozenset((enrol, test)) not in seen:
                seen.add(frozenset((enrol, test)))
                lines.append(f"0 {enrol} {test}")
    order = np.argsort([line[0] == "0" for line in lines], kind="stable")
    return [lines[i] for i in order]
