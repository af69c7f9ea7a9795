"""Trial lists to evaluate on: checked, and each name with the audio file that it means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from local.manifests.voxceleb import recognise
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import preference, strip_audio_extension
from speechbrain_ext.verification.trials import TrialList, read_trials


@dataclass(frozen=True, eq=False)
class EvaluatedList:
    """A trial list and its audio.

    Arguments
    ---------
    path : Path
        The list.
    root : Path
        Folder that its names are below.
    trials : TrialList
        The trials, by the list's own names.
    files : list of tuple of str
        The audio files of each of ``trials.names``, in the order to try them: absolute paths
        without links.
    speakers : np.ndarray, optional
        A number for the speaker of each name; None where the names do not tell.
    """

    path: Path
    root: Path
    trials: TrialList
    files: list[tuple[str, ...]]
    speakers: np.ndarray | None

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem

    @property
    def title(self) -> str:
        """Published name of the list where it is known, or the file's."""
        first = {name.split("/", 1)[0] for name in self.trials.names.tolist()}
        return recognise(len(self.trials), first) or self.name


def read_lists(given: Sequence[Sequence[str]]) -> list[EvaluatedList]:
    """Read the lists of a command line and find their audio.

    Arguments
    ---------
    given : sequence of sequences of str
        For each ``--trials`` the root, then one list or more.

    Returns
    -------
    list of EvaluatedList

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
                "names are below and then the lists."
            )
        if not os.path.isdir(root):
            raise UserError(
                f"--trials {root}: there is no such folder; write --trials ROOT LIST, the folder "
                "that the names are below and then the lists."
            )
        pairs += [(Path(root), Path(path)) for path in paths]
    _check_names([path for _, path in pairs])
    folders: dict[str, _Folder] = {}
    return [_read_list(root, path, folders) for root, path in pairs]


def speakers_of(trials: TrialList) -> np.ndarray | None:
    """A number for the speaker of each name, where the first part of the names tells.

    It tells when every target pair shares it and no non-target pair does.

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
    >>> speakers_of(TrialList.from_names(["a/1", "a/1"], ["a/2", "b/1"], labels)).tolist()
    [0, 0, 1]
    >>> speakers_of(TrialList.from_names(["x/1", "x/1"], ["x/2", "x/3"], labels)) is None
    True
    """
    first = np.array([name.split("/", 1)[0] for name in trials.names.tolist()])
    _, numbers = np.unique(first, return_inverse=True)
    same = numbers[trials.enrol_index] == numbers[trials.test_index]
    return numbers if np.array_equal(same, trials.labels) else None


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Write up to five names.

    Example
    -------
    >>> some("abcdefg")
    'a, b, c, d, e, …'
    """
    return separator.join(names[:5]) + (f"{separator}…" if len(names) > 5 else "")


def _check_names(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise UserError(
                f"{seen[path.stem]} and {path} are both called {path.stem!r}, and results are "
                "filed under that name: rename one of the lists, or leave one out."
            )
        seen[path.stem] = path


def _read_list(root: Path, path: Path, folders: dict[str, _Folder]) -> EvaluatedList:
    trials = read_trials(path)
    if not trials.targets or not trials.nontargets:
        kind = "non-target" if trials.targets else "target"
        raise UserError(
            f"{path} has no {kind} trial, so no error rate can be computed: give a list with "
            "both."
        )
    names = trials.names.tolist()
    files = _find(root, names, folders)
    missing = [name for name, found in zip(names, files, strict=True) if not found]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of its {len(names)} audio files are not below {root} "
            f"({some(missing)}): give the folder that the names are below, as in "
            "--trials ROOT LIST."
        )
    return EvaluatedList(path, root, trials, files, speakers_of(trials))


class _Folder(NamedTuple):
    """A folder without links, and its audio files by their names without ending."""

    path: str
    files: dict[str, list[str]]


def _find(
    root: Path, names: Iterable[str], folders: dict[str, _Folder]
) -> list[tuple[str, ...]]:
    """The files that each name may mean, in any format; folders are listed once."""
    found = []
    for name in names:
        parent, base = os.path.split(os.path.join(root, name))
        if parent not in folders:
            folders[parent] = _list(parent)
        folder = folders[parent]
        files = sorted(folder.files.get(strip_audio_extension(base), ()), key=preference)
        paths = [os.path.join(folder.path, file) for file in files]
        found.append(tuple(os.path.realpath(p) if os.path.islink(p) else p for p in paths))
    return found


def _list(folder: str) -> _Folder:
    files: dict[str, list[str]] = {}
    try:
        for name in os.listdir(folder):
            stem = strip_audio_extension(name)
            if stem != name:
                files.setdefault(stem, []).append(name)
    except OSError:  # not there, or no folder: its files are missing
        pass
    return _Folder(os.path.realpath(folder), files)
