"""Trial lists: which utterance is compared with which, and whether one person speaks in both."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.files import atomic_path
from speechbrain_ext.verification.enrolment import Enrolment
from speechbrain_ext.verification.lists import (
    read_first_line,
    read_lines,
    split_line,
    utterance_name,
)

FORMATS = (
    "'label enrol test' or 'enrol test label', the same way on every line, with labels 0 and 1, "
    "nontarget and target, imp and tgt or false and true, or a table whose header names the "
    "columns enrol, test and label"
)
"""What :func:`read_trials` reads."""

# Non-target and target. A digit may be a name as well; the words are taken for labels first.
_DIGITS = ("0", "1")
_WORDS = (("nontarget", "target"), ("imp", "tgt"), ("false", "true"))
_COLUMNS = {
    "enrol": r"(enrol|enroll|enrolment|enrollment|model)",
    "test": r"(test|segment)",
    "label": r"(label|target|targettype|key)",
}
_OF_WHAT = r"([ _-]?(id|utt|utterance|file|path|wav|audio))?"


@dataclass(frozen=True, eq=False)
class TrialList:
    """Trials as indices into the names of the utterances.

    A list of 580,000 trials over 5,000 utterances holds each name once, so it takes 5 MB.

    Arguments
    ---------
    names : np.ndarray
        (U,) str, the names of the utterances.
    enrol_index, test_index : np.ndarray
        (N,) int32, the two sides of each trial as positions in ``names``.
    labels : np.ndarray
        (N,) bool, True for a target (the same speaker on both sides).
    models : mapping of str to tuple of str
        The names that stand for several utterances, and these; all others are utterances.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> len(trials), trials.names.tolist()
    (2, ['a', 'b', 'c'])
    >>> trials.test.tolist(), trials.labels.tolist()
    (['b', 'c'], [True, False])
    """

    names: np.ndarray
    enrol_index: np.ndarray
    test_index: np.ndarray
    labels: np.ndarray
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_names(
        cls,
        enrol: Iterable[str],
        test: Iterable[str],
        labels: Iterable[bool],
        models: Mapping[str, tuple[str, ...]] | None = None,
    ) -> TrialList:
        """Build a list from the names on the two sides of each trial, (N,) each."""
        positions: dict[str, int] = {}
        enrol_index = _positions(enrol, positions)
        test_index = _positions(test, positions)
        label_array = np.fromiter(labels, dtype=bool)
        if not len(enrol_index) == len(test_index) == len(label_array):
            raise ValueError(
                f"the sides of the trials differ in length: {len(enrol_index)} enrolment, "
                f"{len(test_index)} test, {len(label_array)} labels"
            )
        return cls(_name_array(positions), enrol_index, test_index, label_array, models or {})

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def enrol(self) -> np.ndarray:
        """(N,) str, the name on the enrolment side of each trial (made anew at each use)."""
        return self.names[self.enrol_index]

    @property
    def test(self) -> np.ndarray:
        """(N,) str, the name on the test side of each trial (made anew at each use)."""
        return self.names[self.test_index]

    @property
    def targets(self) -> int:
        """Number of target trials."""
        return int(np.count_nonzero(self.labels))

    @property
    def nontargets(self) -> int:
        """Number of non-target trials."""
        return len(self) - self.targets

    @property
    def utterances(self) -> list[str]:
        """All that is to be heard: the names that are no models, and what models consist of."""
        own = dict.fromkeys(name for name in self.names.tolist() if name not in self.models)
        return list(own | dict.fromkeys(name for each in self.models.values() for name in each))

    def speakers(self, speaker_of: Callable[[str], str]) -> list[str]:
        """The speaker of each of ``names``; a model's is that of its utterances.

        Arguments
        ---------
        speaker_of : callable
            Gives the speaker of an utterance.

        Returns
        -------
        list of str
            (U,)

        Raises
        ------
        UserError
            When a model has utterances of several speakers.

        Example
        -------
        >>> models = {"m": ("a/1", "a/2")}
        >>> trials = TrialList.from_names(["m"], ["b/1"], [False], models)
        >>> trials.speakers(lambda name: name.split("/")[0])
        ['a', 'b']
        """
        found: list[str] = []
        for name in self.names.tolist():
            own = dict.fromkeys(speaker_of(each) for each in self.models.get(name, (name,)))
            if len(own) > 1:
                raise UserError(
                    f"the model {name} has utterances of {len(own)} speakers "
                    f"({first_few(list(own))}); mend the list of models.",
                    code="bad-enrolment",
                )
            found += own
        return found

    def map_names(self, function: Callable[[str], str]) -> TrialList:
        """Give the same trials with the name of every utterance passed through ``function``.

        Example
        -------
        >>> trials = TrialList.from_names(["m"], ["x/2"], [True], {"m": ("x/1",)})
        >>> mapped = trials.map_names(str.upper)
        >>> mapped.names.tolist(), mapped.models
        (['m', 'X/2'], {'m': ('X/1',)})
        """
        models = {model: tuple(map(function, own)) for model, own in self.models.items()}
        names = [name if name in models else function(name) for name in self.names.tolist()]
        return replace(self, names=np.array(names, dtype=np.str_), models=models)


class _Layout(NamedTuple):
    """How the lines of a trial list are written."""

    delimiter: str | None
    enrol: int
    test: int
    label: int
    labels: tuple[str, str]
    columns: int
    first: int  # number of the first line with a trial


def read_trials(
    path: str | os.PathLike[str],
    roots: Sequence[str] = (),
    enrolment: Enrolment | None = None,
) -> TrialList:
    """Read a trial list in any of the field's formats.

    VoxCeleb writes ``label enrol test`` with label 1 (target) or 0, Kaldi ``enrol test
    target|nontarget``, CN-Celeb the label last, others a table with a header. What a list is, is
    told by its lines: by the first one whose label can be only one of its fields. Names are those
    of :func:`~speechbrain_ext.verification.lists.utterance_name`.

    Arguments
    ---------
    path : str or path
        The list, UTF-8 text.
    roots : sequence of str
        The folders that the names are below.
    enrolment : Enrolment, optional
        The utterances of models. Where the enrolment side of the list names none of them, its
        names are those of utterances.

    Returns
    -------
    TrialList
        The trials in the order of the file.

    Raises
    ------
    UserError
        When the file is missing, empty or not text, a line is written in another way, the list
        lacks targets or non-targets, or names a model that ``enrolment`` has not.

    Example
    -------
    >>> path = getfixture("tmp_path") / "trials.txt"
    >>> _ = path.write_text("a b target\\na c nontarget\\n")
    >>> read_trials(path).labels.tolist()
    [True, False]
    """
    layout = _layout(path)
    targets = {
        written: value
        for value, label in enumerate(layout.labels)
        for written in (label, label.upper(), label.capitalize())
    }
    positions: dict[str, int] = {}
    seen: dict[str, int] = {}  # by the names as they are written

    def place_of(name: str) -> int:
        if name not in seen:
            try:
                known = utterance_name(name, roots)
            except ValueError as error:
                raise UserError(f"{path}:{number}: {name!r} {error}.", code="bad-line") from None
            seen[name] = positions.setdefault(known, len(positions))
        return seen[name]

    enrol_index, test_index, labels = array("i"), array("i"), bytearray()
    for number, line in read_lines(path, "the trial list"):
        if number < layout.first:
            continue
        fields = split_line(line, layout.delimiter)
        if len(fields) != layout.columns or fields[layout.label] not in targets:
            raise _no_trial(path, number, line)
        enrol_index.append(place_of(fields[layout.enrol]))
        test_index.append(place_of(fields[layout.test]))
        labels.append(targets[fields[layout.label]])
    trials = TrialList(
        _name_array(positions),
        np.array(enrol_index, dtype=np.int32),
        np.array(test_index, dtype=np.int32),
        np.frombuffer(bytes(labels), dtype=np.bool_),
    )
    if not trials.targets or not trials.nontargets:
        missing = "non-target" if trials.targets else "target"
        raise UserError(
            f"{path}: has no {missing} trial, so no error rate can be computed; give a list with "
            "both.",
            code="one-sided-trials",
        )
    return trials if enrolment is None else _with_models(path, trials, enrolment)


def _layout(path: str | os.PathLike[str]) -> _Layout:
    """See how a list is written, reading no further than needed."""
    delimiter: str | None = None
    # Where the label can be, and which labels they are then.
    candidates: dict[int, tuple[str, str]] = {}
    header: dict[str, int] | None = None
    columns = first = 0
    for number, line in read_lines(path, "the trial list"):
        if not columns:
            header, delimiter = read_first_line(line, _header, 2)
            if header is not None:
                columns = len(split_line(line, delimiter))
                continue
        fields = split_line(line, delimiter)
        if not first:
            first = number
            columns = columns or 3
            places = [0, 2] if header is None else [header["label"]]
            if len(fields) == columns:
                candidates = _labels_in(fields, places)
        candidates = {
            place: labels
            for place, labels in candidates.items()
            if len(fields) == columns and fields[place].lower() in labels
        }
        if not candidates:
            raise _no_trial(path, number, line)
        if len(candidates) == 1:
            ((label, labels),) = candidates.items()
            others = [place for place in range(3) if place != label]
            enrol, test = (header["enrol"], header["test"]) if header else others
            return _Layout(delimiter, enrol, test, label, labels, columns, first)
    if not first:
        raise UserError(
            f"{path}: the trial list is empty; write one trial a line.", code="empty-list"
        )
    raise UserError(
        f"{path}:{first}: the first field and the last can both be labels, here and on every line; "
        "put a header 'enrol test label' above the lines, its words in the order of the columns.",
        code="unknown-format",
    )


def _labels_in(fields: Sequence[str], places: Sequence[int]) -> dict[int, tuple[str, str]]:
    for kinds in (_WORDS, (_DIGITS,)):
        found = {place: kind for place in places for kind in kinds if fields[place].lower() in kind}
        if found:
            return found
    return {}


def _header(fields: Sequence[str]) -> dict[str, int] | None:
    """Where enrolment, test and label are, if the fields are names of columns."""
    found = {}
    for name, pattern in _COLUMNS.items():
        matching = re.compile(pattern + _OF_WHAT, re.IGNORECASE)
        places = [place for place, each in enumerate(fields) if matching.fullmatch(each)]
        if len(places) != 1:
            return None
        found[name] = places[0]
    return found


def _no_trial(path: str | os.PathLike[str], number: int, line: str) -> UserError:
    return UserError(
        f"{path}:{number}: {line[:200]!r} is no trial; write {FORMATS}.", code="bad-line"
    )


def _with_models(
    path: str | os.PathLike[str], trials: TrialList, enrolment: Enrolment
) -> TrialList:
    names = trials.names.tolist()
    enrolled = [names[place] for place in np.unique(trials.enrol_index)]
    unknown = [name for name in enrolled if name not in enrolment.models]
    if len(unknown) == len(enrolled):
        return trials
    if unknown:
        raise UserError(
            f"{path}: {len(unknown)} of its {len(enrolled)} models are not in {enrolment.source}: "
            f"{first_few(unknown)}; add them there, or take their trials out.",
            code="bad-enrolment",
        )
    models = {name: enrolment.models[name] for name in enrolled}
    heard = {names[place] for place in np.unique(trials.test_index)}.union(*models.values())
    for name in enrolled:
        if models[name] == (name,):
            del models[name]
        elif name in heard:
            raise UserError(
                f"{path}: {name} is a model of {enrolment.source} and an utterance as well; give "
                "the model another name.",
                code="repeated-name",
            )
    return replace(trials, models=models)


def write_trials(path: str | os.PathLike[str], trials: TrialList) -> None:
    """Write ``label enrol test``, one trial a line; the file is whole or absent.

    Example
    -------
    >>> path = getfixture("tmp_path") / "trials.txt"
    >>> write_trials(path, TrialList.from_names(["a"], ["b"], [True]))
    >>> path.read_text()
    '1 a b\\n'
    """
    names = trials.names.tolist()
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(
            f"{label:d} {names[enrol]} {names[test]}\n"
            for label, enrol, test in zip(
                trials.labels, trials.enrol_index, trials.test_index, strict=True
            )
        )


def make_trials(
    ids: Sequence[str],
    speakers: Sequence[str],
    sessions: Sequence[str],
    groups: Sequence[str] | None = None,
) -> TrialList:
    """Pair every utterance with every later one.

    Two utterances of one session share room and microphone, and a system may recognise those; so a
    speaker heard in several sessions gives targets only across them, and the pairs within a session
    are left out. A speaker with a single session gives what there is.

    Arguments
    ---------
    ids, speakers, sessions : sequence of str
        (U,) each: the name of an utterance, its speaker, and its session within the speaker.
    groups : sequence of str, optional
        (U,) the group of its speaker: pairs of different groups are left out.

    Returns
    -------
    TrialList
        In the order of the utterances given: (0, 1), (0, 2), …, (1, 2), …

    Raises
    ------
    UserError
        When no target or no non-target can be formed.

    Example
    -------
    >>> trials = make_trials(["a1", "a2", "b1"], ["a", "a", "b"], ["s1", "s2", "s1"])
    >>> list(zip(trials.enrol.tolist(), trials.test.tolist(), trials.labels.tolist()))
    [('a1', 'a2', True), ('a1', 'b1', False), ('a2', 'b1', False)]
    """
    groups = [""] * len(ids) if groups is None else groups
    if not len(ids) == len(speakers) == len(sessions) == len(groups):
        raise ValueError(
            f"ids, speakers, sessions and groups differ in length: {len(ids)}, {len(speakers)}, "
            f"{len(sessions)}, {len(groups)}"
        )
    speaker_codes: dict[str, int] = {}
    session_codes: dict[tuple[str, str], int] = {}
    sessions_of: dict[str, set[str]] = {}
    for speaker, session in zip(speakers, sessions, strict=True):
        speaker_codes.setdefault(speaker, len(speaker_codes))
        session_codes.setdefault((speaker, session), len(session_codes))
        sessions_of.setdefault(speaker, set()).add(session)
    speaker_of = np.array([speaker_codes[speaker] for speaker in speakers], dtype=np.int32)
    session_of = np.array(
        [session_codes[pair] for pair in zip(speakers, sessions, strict=True)], dtype=np.int32
    )
    several = np.array([len(sessions_of[speaker]) > 1 for speaker in speakers], dtype=bool)
    group_of = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)[1].astype(np.int32)

    first, second = (index.astype(np.int32) for index in np.triu_indices(len(ids), k=1))
    same_session = session_of[first] == session_of[second]
    kept = ~(same_session & several[first]) & (group_of[first] == group_of[second])
    first, second = first[kept], second[kept]
    labels = speaker_of[first] == speaker_of[second]
    if not labels.any() or labels.all():
        missing = "non-target" if labels.any() else "target"
        raise UserError(
            f"{len(ids)} utterances of {len(speaker_codes)} speakers form no {missing} trial: at "
            "least two speakers of a group are needed, and one with two or more utterances; hold "
            "out more speakers or give more recordings of each.",
            code="one-sided-trials",
        )
    return TrialList(np.array(ids, dtype=np.str_), first, second, labels)


def _positions(names: Iterable[str], positions: dict[str, int]) -> np.ndarray:
    """Number the names, adding new ones to ``positions``."""
    # str(): items of a numpy string array hash slower and would stay numpy objects.
    return np.array(
        array("i", (positions.setdefault(str(name), len(positions)) for name in names)),
        dtype=np.int32,
    )


def _name_array(positions: dict[str, int]) -> np.ndarray:
    return np.array(list(positions), dtype=np.str_)
