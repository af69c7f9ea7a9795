"""Trial lists to evaluate on, and the audio files that their names mean, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechbrain_ext.corpora.voxceleb_lists import published_title
from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.formats import DECODED, SAMPLE_RATE, preference, strip_audio_extension
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.sound import AudioFault, open_audio, read_header
from speechbrain_ext.verification.enrolment import Enrolment, read_enrolment, refuse_unused_models
from speechbrain_ext.verification.lists import (
    NORMALIZED,
    check_names,
    composed,
    on_disk,
    root_paths,
)
from speechbrain_ext.verification.trials import TrialList, read_trials
from speechbrain_ext.workers import in_threads

#: The audio files of an utterance, in the order to try them: absolute paths without links.
Files = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EvaluationList:
    """A trial list and its audio.

    Arguments
    ---------
    path : Path
        The list.
    root : Path
        Folder that its names are below.
    trials : TrialList
        The trials.
    files : list of tuple of Files
        For each of ``trials.names`` the files of its utterance, or of every one of a model.
    speakers : np.ndarray, optional
        A number for the speaker of each name; None where the names do not tell.
    """

    path: Path
    root: Path
    trials: TrialList
    files: list[tuple[Files, ...]]
    speakers: np.ndarray | None

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem

    @property
    def title(self) -> str:
        """Published name of the list where it is known, or the file's."""
        first = {name.split("/", 1)[0] for name in self.trials.utterances}
        return published_title(len(self.trials), first) or self.name

    def by_row(self, row_of: Mapping[Files, str]) -> TrialList:
        """The trials, with utterances named by the rows of their files' embeddings."""
        trials = self.trials
        names: list[str] = []
        models: dict[str, tuple[str, ...]] = {}
        for name, files in zip(trials.names.tolist(), self.files, strict=True):
            rows = tuple(row_of[own] for own in files)
            if name in trials.models:
                names.append(f"model {len(models)}")
                models[names[-1]] = rows
            else:
                names.append(rows[0])
        sides = trials.enrol_index, trials.test_index
        return TrialList(np.array(names), *sides, trials.labels, models)


def read_evaluation_lists(
    given: Sequence[Sequence[str]], enrol: Sequence[str] | None = None
) -> list[EvaluationList]:
    """Read the lists of a command line and find their audio.

    Arguments
    ---------
    given : sequence of sequences of str
        For each ``--trials`` the root, then one list or more.
    enrol : sequence of str, optional
        The root and the file of ``--enrol``: the utterances that models were enrolled with.

    Returns
    -------
    list of EvaluationList

    Raises
    ------
    UserError
        When a root or a list cannot be used, two lists have one name, or files are missing.
    """
    pairs = []
    for root, *paths in given:
        if not paths:
            raise UserError(
                f"--trials {root}: no list is given; write --trials ROOT LIST, the folder that the "
                "names are below and then the lists.",
                code="bad-command",
            )
        _check_root("--trials", root)
        pairs += [(Path(root), Path(path)) for path in paths]
    check_names([path for _, path in pairs])
    for _, path in pairs:
        if path.stem.endswith(NORMALIZED):
            raise UserError(
                f"{path}: normalised scores are filed under the name {path.stem!r}; rename the "
                "list.",
                code="bad-name",
            )
    enrolment = None
    if enrol is not None:
        _check_root("--enrol", enrol[0])
        enrolment = read_enrolment(enrol[1], root_paths(enrol[0]))
    folders: dict[str, _Folder] = {}
    enrol_root = Path(enrol[0]) if enrol is not None else None
    lists = [_read_list(root, path, enrolment, enrol_root, folders) for root, path in pairs]
    if enrolment is not None:
        refuse_unused_models(enrolment, [each.trials.models for each in lists])
    return lists


def speakers_of_trials(trials: TrialList) -> np.ndarray | None:
    """Number the speakers of a list, where the first part of a name is its speaker.

    That is so when every target pair shares the first part, and no non-target pair does.

    Arguments
    ---------
    trials : TrialList
        The trials.

    Returns
    -------
    np.ndarray, optional
        (U,) int64, or None.

    Example
    -------
    >>> labels = [True, False]
    >>> speakers_of_trials(TrialList.from_names(["a/1", "a/1"], ["a/2", "b/1"], labels)).tolist()
    [0, 0, 1]
    >>> speakers_of_trials(TrialList.from_names(["x/1", "x/1"], ["x/2", "x/3"], labels)) is None
    True
    """
    try:
        first = trials.speakers(lambda name: name.split("/", 1)[0])
    except UserError:  # of a model's utterances
        return None
    _, numbers = np.unique(first, return_inverse=True)
    same = numbers[trials.enrol_index] == numbers[trials.test_index]
    return numbers if np.array_equal(same, trials.labels) else None


def _check_root(option: str, root: str) -> None:
    if not os.path.isdir(root):
        raise UserError(
            f"{option} {root}: there is no such folder; write {option} ROOT LIST, first the folder "
            "that the names are below.",
            code="missing-folder",
        )


def _read_list(
    root: Path,
    path: Path,
    enrolment: Enrolment | None,
    enrol_root: Path | None,
    folders: dict[str, _Folder],
) -> EvaluationList:
    trials = read_trials(path, root_paths(root), enrolment)
    names = trials.names.tolist()
    alone = [name for name in names if name not in trials.models]
    found = _find("--trials", root, path, alone, folders)
    files: dict[str, tuple[Files, ...]] = {name: (own,) for name, own in found.items()}
    if enrolment is not None and enrol_root is not None:
        enrolled = dict.fromkeys(name for each in trials.models.values() for name in each)
        found = _find("--enrol", enrol_root, Path(enrolment.source), list(enrolled), folders)
        for model, utterances in trials.models.items():
            files[model] = tuple(found[name] for name in utterances)
    return EvaluationList(
        path, root, trials, [files[name] for name in names], speakers_of_trials(trials)
    )


class _Folder(NamedTuple):
    """A folder without links, and its audio files by their names without ending."""

    path: str
    files: dict[str, list[str]]


def _find(
    option: str, root: Path, source: Path, names: Sequence[str], folders: dict[str, _Folder]
) -> dict[str, Files]:
    """The files that each name may mean, in any format; folders are listed once."""
    found: dict[str, Files] = {}
    for name in names:
        parent, base = os.path.split(name)
        key = os.path.join(root, parent)
        if key not in folders:
            folders[key] = _list(on_disk(key))
        folder = folders[key]
        files = sorted(folder.files.get(base, ()), key=preference)
        if files:
            paths = [os.path.join(folder.path, file) for file in files]
            found[name] = tuple(os.path.realpath(p) if os.path.islink(p) else p for p in paths)
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of its {len(names)} audio files are not below {root} "
            f"({first_few(missing)}): give the folder that the names are below, as in "
            f"{option} ROOT LIST.",
            code="missing-audio",
        )
    return found


def _list(folder: str) -> _Folder:
    files: dict[str, list[str]] = {}
    try:
        for name in os.listdir(folder):
            stem = strip_audio_extension(name)
            if stem != name:
                files.setdefault(composed(stem), []).append(name)
    except OSError:  # not there, or no folder: its files are missing
        pass
    return _Folder(os.path.realpath(folder), files)


class Audio(NamedTuple):
    """A file that can be embedded: path, seconds, and its size and time of change.

    The seconds are infinite where only decoding tells them.
    """

    path: str
    seconds: float
    stamp: tuple[int, int]

    @property
    def row(self) -> dict[str, Any]:
        """For :func:`~speechbrain_ext.inference.extraction.utterance_loader`."""
        return {"ID": self.path, "wav": self.path, "duration": self.seconds}


def check_audio(
    utterances: Sequence[tuple[str, ...]], least_samples: int, threads: int
) -> list[Audio]:
    """Find a file of every utterance that can be embedded.

    The header of a file, its first sound and its end decide.

    Arguments
    ---------
    utterances : sequence of tuple of str
        The files of each, in the order to try them.
    least_samples : int
        How many the model needs, at 16 kHz.
    threads : int
        Number of files that are looked at at once.

    Returns
    -------
    list of Audio
        The first file of each that can be embedded. Where it is not the very first, a line says so.

    Raises
    ------
    UserError
        When an utterance has none. The sentence names the most frequent fault, files that have
        it, and what helps.
    """
    faults: dict[str, list[tuple[str, str]]] = {}
    good = []
    replaced = []

    def look(paths: tuple[str, ...]) -> tuple[Audio | None, AudioFault | None]:
        """A file that can be embedded, and what is wrong with those before it."""
        first = None
        for path in paths:
            found = _look(path, least_samples)
            if isinstance(found, Audio):
                return found, first
            first = first or found
        return None, first

    with (
        in_threads(look, utterances, threads) as results,
        progress_bar(desc="checking audio", total=len(utterances), unit=" files") as bar,
    ):
        for paths, (audio, fault) in zip(utterances, results, strict=True):
            bar.update()
            if audio is not None:
                good.append(audio)
                if fault is not None:
                    replaced.append(f"{audio.path} in the place of {paths[0]}")
            elif fault is not None:
                faults.setdefault(fault.cause, []).append((paths[0], fault.detail))
    if faults:
        cause, files = max(faults.items(), key=lambda item: len(item[1]))
        if cause == "too_short":
            what = f"are shorter than the {least_samples} samples that the model needs: take"
        else:
            what = f"cannot be used (the first: {files[0][1]}): mend them or take"
        named = first_few([path for path, _ in files])
        raise UserError(
            f"{len(files)} of {len(utterances)} audio files ({named}) {what} them out of the "
            "lists.",
            code="unusable-audio",
        )
    if replaced:
        print(f"of files that cannot be used another format is: {first_few(replaced)}")
    return good


def _look(path: str, least_samples: int) -> Audio | AudioFault:
    """The file's facts, or what is wrong with it."""
    try:
        status = os.stat(path)
        if path.lower().endswith(DECODED):
            header = read_header(path)
        else:
            with open_audio(path) as sound:
                sound.check_speech()
                sound.check_end()
                header = sound.header
    except AudioFault as fault:
        return fault
    except OSError as error:
        return AudioFault("unreadable", error.strerror or str(error))
    seconds = math.inf
    if header is not None and header.frames is not None:
        seconds = header.frames / header.sample_rate
        if seconds * SAMPLE_RATE < least_samples:
            return AudioFault("too_short", f"{seconds:.3f} s")
    return Audio(path, seconds, (status.st_size, status.st_mtime_ns))
