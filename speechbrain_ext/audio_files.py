"""The audio files below a folder, at any depth."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from speechbrain_ext.formats import AUDIO


@dataclass
class AudioFiles:
    """What lies below a folder.

    Arguments
    ---------
    files : list of str
        Audio files as paths below the folder, with ``/`` between the parts, sorted.
    ignored : Counter
        Number of other files by their ending, hidden files under ``hidden``, links to nothing and
        to themselves under ``broken link``.
    unlisted : list of (str, str)
        Folders that cannot be listed, with the reason.
    """

    files: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unlisted: list[tuple[str, str]] = field(default_factory=list)


def list_audio_files(root: str | os.PathLike[str], *excluded: str | os.PathLike[str]) -> AudioFiles:
    """List every audio file below a folder, at any depth.

    Links are followed, but not into a folder that holds the link. Hidden files and folders are
    passed over: they are leftovers of systems and editors, such as macOS's ``._00001.wav``.

    Arguments
    ---------
    root : str or path
        The folder.
    excluded : str or path
        Folders not to look into, such as one for the results; the root itself always is.

    Returns
    -------
    AudioFiles

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "a" / "b").mkdir(parents=True)
    >>> for name in ("a/b/1.FLAC", "2.wav", "a/notes.txt"):
    ...     (root / name).touch()
    >>> (root / "a" / "loop").symlink_to(root)
    >>> found = list_audio_files(root, root / "out")
    >>> found.files, dict(found.ignored)
    (['2.wav', 'a/b/1.FLAC'], {'.txt': 1})
    """
    found = AudioFiles()
    avoided = tuple(_identity(folder) for folder in excluded if os.path.isdir(folder))
    _walk(os.path.abspath(root), "", avoided, found)
    # Part by part; split() would take three times the memory.
    found.files.sort(key=lambda name: name.replace("/", "\0"))
    return found


def _identity(folder: str | os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _walk(folder: str, below: str, avoided: tuple[tuple[int, int], ...], found: AudioFiles) -> None:
    """List a folder, unless it is among those to avoid: the ones above it, and the excluded."""
    try:
        here = _identity(folder)
        if below and here in avoided:
            return
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.unlisted.append((below, error.strerror or str(error)))
        return
    for entry in ordered:
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.name.startswith("."):
            found.ignored["hidden"] += 1
        elif _is_folder(entry):
            _walk(entry.path, name, (*avoided, here), found)
        elif entry.name.lower().endswith(AUDIO):
            found.files.append(name)
        elif not os.path.exists(entry.path):
            found.ignored["broken link"] += 1
        else:
            found.ignored[PurePosixPath(entry.name).suffix.lower() or "no ending"] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: its name decides, and reading it will tell
        return False
