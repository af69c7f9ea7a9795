"""Trial lists: which utterance is compared with which, and whether one person speaks in both."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import strip_audio_extension as strip_audio_extension

_VOXCELEB_LABELS = {"0": False, "1": True}
_KALDI_LABELS = {"nontarget": False, "target": True}


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

    @classmethod
    def from_names(
        cls, enrol: Iterable[str], test: Iterable[str], labels: Iterable[bool]
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
        return cls(_name_array(positions), enrol_index, test_index, label_array)

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

    def map_names(self, function: Callable[[str], str]) -> TrialList:
        """Give the same trials with every distinct name passed once through ``function``.

        Example
        -------
        >>> trials = TrialList.from_names(["x/1.wav"], ["x/2.flac"], [True])
        >>> trials.map_names(strip_audio_extension).names.tolist()
        ['x/1', 'x/2']
        """
        names = np.array([function(name) for name in self.names.tolist()], dtype=np.str_)
        return TrialList(names, self.enrol_index, self.test_index, self.labels)


def read_trials(path: str | os.PathLike[str]) -> TrialList:
    """Read a trial list in VoxCeleb's or in Kaldi's format, told apart by the first line.

    VoxCeleb writes ``label enrol test`` with label 1 (target) or 0; Kaldi writes
    ``enrol test target|nontarget``. Blank lines are passed over.

    Arguments
    ---------
    path : str or path
        The list, UTF-8 text.

    Returns
    -------
    TrialList
        The trials in the order of the file.

    Raises
    ------
    UserError
        When the file is missing, empty, not text, or a line is in another format.

    Example
    -------
    >>> path = getfixture("tmp_path") / "trials.txt"
    >>> _ = path.write_text("a b target\\na c nontarget\\n")
    >>> read_trials(path).labels.tolist()
    [True, False]
    """
    positions: dict[str, int] = {}
    enrol_index, test_index, labels = array("i"), array("i"), bytearray()
    kaldi: bool | None = None
    number, line = 0, ""
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):  # noqa: B007 - named in the errors
                fields = line.split()
                if not fields:
                    continue
                if kaldi is None:
                    kaldi = fields[-1] in _KALDI_LABELS
                if kaldi:
                    enrol, test, label = fields
                    labels.append(_KALDI_LABELS[label])
                else:
                    label, enrol, test = fields
                    labels.append(_VOXCELEB_LABELS[label])
                enrol_index.append(positions.setdefault(enrol, len(positions)))
                test_index.append(positions.setdefault(test, len(positions)))
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: the trial list is not UTF-8 text; give a text file with one trial a line."
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: the trial list cannot be read ({reason}).") from None
    except (ValueError, KeyError):  # wrong number of fields, unknown label
        raise UserError(
            f"{path}, line {number}: {line.strip()[:200]!r} is no trial; write 'label enrol test' "
            "with label 0 or 1, or 'enrol test target|nontarget', the same way on every line."
        ) from None
    if not labels:
        raise UserError(f"{path}: the trial list is empty; write one trial a line.")
    return TrialList(
        _name_array(positions),
        np.array(enrol_index, dtype=np.int32),
        np.array(test_index, dtype=np.int32),
        np.frombuffer(bytes(labels), dtype=np.bool_),
    )


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


def make_trials(ids: Sequence[str], speakers: Sequence[str], sessions: Sequence[str]) -> TrialList:
    """Pair every utterance with every later one.

    Two utterances of one session share room and microphone, and a system may recognise those; so a
    speaker heard in several sessions gives targets only across them, and the pairs within a session
    are left out. A speaker with a single session gives what there is.

    Arguments
    ---------
    ids, speakers, sessions : sequence of str
        (U,) each: the name of an utterance, its speaker, and its session within the speaker.

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
    if not len(ids) == len(speakers) == len(sessions):
        raise ValueError(
            f"ids, speakers and sessions differ in length: {len(ids)}, {len(speakers)}, "
            f"{len(sessions)}"
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

    first, second = (index.astype(np.int32) for index in np.triu_indices(len(ids), k=1))
    same_session = session_of[first] == session_of[second]
    kept = ~(same_session & several[first])
    first, second = first[kept], second[kept]
    labels = speaker_of[first] == speaker_of[second]
    if not labels.any() or labels.all():
        missing = "non-target" if labels.any() else "target"
        raise UserError(
            f"{len(ids)} utterances of {len(speaker_codes)} speakers form no {missing} trial: at "
            "least two speakers are needed, and one of them with two or more utterances; hold out "
            "more speakers or give more recordings of each."
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
