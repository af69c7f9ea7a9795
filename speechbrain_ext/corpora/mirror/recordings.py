"""What there is to mirror: the recordings of each speaker, in a tree of folders."""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from speechbrain_ext.audio_files import list_audio_files
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import strip_audio_extension


class Cut(NamedTuple):
    """A part of a file: its ends in seconds, or in samples of the file; None is the file's end."""

    start: float
    stop: float | None
    in_samples: bool


class SourceRecording(NamedTuple):
    """One utterance.

    Arguments
    ---------
    name : str
        ``<utterance>`` or ``<session>/<utterance>``, without the audio extension.
    source : str
        Absolute path of the file.
    cut : Cut or None
        The part of it; None for the whole.
    """

    name: str
    source: str
    cut: Cut | None = None


@dataclass
class Listing:
    """What was found of a speaker: recordings, and the number of other files by their ending."""

    recordings: list[SourceRecording]
    others: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class SourceSpeaker:
    """A speaker to mirror.

    Arguments
    ---------
    name : str
        Name of the folder in the mirror.
    find : callable
        Gives the :class:`Listing`.
    folder : Path or None
        The folder that holds the recordings under their names, and may be linked to as a whole.
    """

    name: str
    find: Callable[[], Listing]
    folder: Path | None = None


def speaker_of_folder(folder: Path, *avoided: Path) -> SourceSpeaker:
    """Take a folder's name for the speaker's, and the audio files below it for the recordings.

    Arguments
    ---------
    folder : Path
        The folder; links below it are followed, but not into a folder that holds the link.
    *avoided : Path
        Folders that no link is followed into, such as the one that holds the speakers'.

    Returns
    -------
    SourceSpeaker

    Example
    -------
    >>> folder = getfixture("tmp_path") / "anna"
    >>> folder.mkdir()
    >>> for name in ("1.wav", "notes.txt"):
    ...     (folder / name).touch()
    >>> listing = speaker_of_folder(folder).find()
    >>> [recording.name for recording in listing.recordings], dict(listing.others)
    (['1'], {'.txt': 1})
    """

    def find() -> Listing:
        found = list_audio_files(folder, *avoided)
        for below, reason in found.unlisted:  # what cannot be seen is not gone
            raise UserError(
                f"{folder / below}: cannot be listed ({reason}); mend its permissions.",
                code="unreadable-file",
            )
        top = os.path.abspath(folder)
        return Listing(
            [SourceRecording(strip_audio_extension(path), f"{top}/{path}") for path in found.files],
            found.ignored,
        )

    return SourceSpeaker(folder.name, find, folder)


def speakers_of_tree(root: Path, mirror: Path) -> tuple[list[SourceSpeaker], Counter[str]]:
    """Give the speakers of a folder that holds one folder for each.

    Arguments
    ---------
    root : Path
        Laid out as ``<speaker>/<session>/<utterance>`` or ``<speaker>/<utterance>``.
    mirror : Path
        A folder that no link is followed into.

    Returns
    -------
    speakers : list of SourceSpeaker
        By name.
    others : Counter
        Number of files beside the speakers' folders by their ending.

    Raises
    ------
    UserError
        When there is no folder of a speaker.
    """
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; give one laid out as <speaker>/<session>/<utterance> or "
            "<speaker>/<utterance>.",
            code="missing-folder",
        )
    speakers, others = [], Counter[str]()
    top = root.resolve()
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if not os.path.exists(path):
            others["broken link"] += 1
        elif not path.is_dir():
            others[path.suffix.lower() or "no ending"] += 1
        elif top.is_relative_to(path.resolve()):
            others["link to a folder above"] += 1
        else:
            speakers.append(speaker_of_folder(path, root, mirror))
    if not speakers:
        raise UserError(
            f"{root} holds no folders; it should hold one for each speaker.", code="bad-layout"
        )
    return speakers, others


# What neither a trial list nor a manifest can take in a name, and the mark that stands for it.
_UNUSABLE = re.compile(r"[\s$%\\\udc80-\udcff]")
# Folders that unlabelled recordings are dealt out to, which are made several at a time.
_GROUPS = 100


def groups_of_tree(root: Path, mirror: Path) -> tuple[list[SourceSpeaker], Counter[str]]:
    """Give the recordings of a folder in groups, whoever speaks in them.

    A recording keeps its path, at any depth. What no name of an utterance can hold, such as blanks,
    stands there as ``%20``.

    Arguments
    ---------
    root : Path
        The folder.
    mirror : Path
        A folder that no link is followed into.

    Returns
    -------
    groups : list of SourceSpeaker
        A hundred at most, by name: which one a recording is in follows from its path alone.
    others : Counter
        Number of other files by their ending.

    Raises
    ------
    UserError
        When the folder is missing, cannot be listed or holds no audio.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "calls"
    >>> (folder / "on monday").mkdir(parents=True)
    >>> (folder / "on monday" / "1.mp3").touch()
    >>> (group,), _ = groups_of_tree(folder, folder / "mirror")
    >>> [recording.name for recording in group.find().recordings]
    ['on%20monday/1']
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one with recordings.", code="missing-folder")
    listing = speaker_of_folder(root, mirror).find()
    if not listing.recordings:
        raise UserError(f"{root}: there is no audio file in it; give another.", code="no-audio")
    groups: dict[str, list[SourceRecording]] = {}
    for recording in listing.recordings:
        name = _UNUSABLE.sub(_quoted, recording.name)
        number = zlib.crc32(name.encode()) % _GROUPS
        groups.setdefault(f"{number:02}", []).append(recording._replace(name=name))
    return [
        SourceSpeaker(name, partial(Listing, recordings))
        for name, recordings in sorted(groups.items())
    ], listing.others


def _quoted(sign: re.Match[str]) -> str:
    return quote(sign[0], errors="surrogateescape")
