"""The audio files below a folder laid out as <speaker>/<session>/<utterance>."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from speechbrain_ext.audio_files import list_audio_files
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import preference, strip_audio_extension
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.verification.lists import composed

LAYOUT = "<speaker>/<session>/<utterance>.{wav,flac,...} or <speaker>/<utterance>.{wav,flac,...}"


@dataclass(frozen=True)
class SpeakerTree:
    """The files of one folder.

    Arguments
    ---------
    root : str
        Absolute path of the folder.
    paths : list of str
        Files as paths below ``root``, with ``/`` between the parts, sorted part by part.
    digest : str
        SHA-256 over root, paths, sizes and times of change.
    elsewhere : int
        Audio files seen at another depth, which are not in ``paths``.
    """

    root: str
    paths: list[str]
    digest: str
    elsewhere: int

    def by_name(self, without: frozenset[str] = frozenset()) -> dict[str, list[str]]:
        """Give the files of each utterance in the order to try them.

        It is that of the list of formats: 1.wav, then 1.flac, then 1.m4a.

        Arguments
        ---------
        without : frozenset of str
            Speakers to leave out.

        Returns
        -------
        dict of str to list of str
            Name of an utterance -> its paths, in the order of ``paths``.

        Example
        -------
        >>> SpeakerTree("/x", ["a/1.flac", "a/1.wav", "b/1.mp3"], "", 0).by_name(frozenset("b"))
        {'a/1': ['a/1.wav', 'a/1.flac']}
        """
        found: dict[str, list[str]] = {}
        for path in self.paths:
            name = name_of(path)
            if name.split("/", 1)[0] not in without:
                found.setdefault(name, []).append(path)
        for files in found.values():
            if len(files) > 1:
                files.sort(key=preference)
        return found


def name_of(path: str) -> str:
    """The name of an utterance: its path below the root, without audio extension.

    Letters with accents are one letter each, as in lists: some systems keep é as e and an accent.

    Example
    -------
    >>> name_of("Rene\u0301/s01/00001.wav") == "Ren\u00e9/s01/00001"
    True
    """
    return composed(strip_audio_extension(path))


def list_speaker_tree(root: str | os.PathLike[str], labelled: bool = True) -> SpeakerTree:
    """List the audio files two or three levels below a folder, or at any depth.

    Links to folders are followed, but not into a folder that holds the link.

    Arguments
    ---------
    root : str or path
        A folder laid out as ``<speaker>/<session>/<utterance>.{wav,flac,...}``, or without
        sessions, ``<speaker>/<utterance>``.
    labelled : bool
        Whether it is laid out like that; otherwise files may lie anywhere below it.

    Returns
    -------
    SpeakerTree

    Raises
    ------
    UserError
        When the folder is missing or cannot be read, or no audio file lies there.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "id1" / "s1").mkdir(parents=True)
    >>> (root / "id1" / "s1" / "00001.wav").touch()
    >>> (root / "id2").mkdir()
    >>> (root / "id2" / "00001.wav").touch()
    >>> list_speaker_tree(root).paths
    ['id1/s1/00001.wav', 'id2/00001.wav']
    """
    top = os.path.abspath(root)
    if not os.path.isdir(top):
        layout = f"laid out as {LAYOUT}" if labelled else "with audio"
        raise UserError(f"{root}: no such folder; give a folder {layout}.", code="missing-folder")
    found = list_audio_files(top)
    for folder, reason in found.unlisted:
        raise UserError(
            f"{os.path.join(top, folder)}: cannot be listed ({reason}); mend its permissions.",
            code="unreadable-file",
        )
    paths = [path for path in found.files if not labelled or path.count("/") in (1, 2)]
    elsewhere = len(found.files) - len(paths)
    if not paths and not labelled:
        raise UserError(f"{root}: there is no audio file in it; give another.", code="no-audio")
    if not paths:
        example = f" (there is, for instance, {found.files[0]})" if elsewhere else ""
        raise UserError(
            f"{root}: no audio file lies at {LAYOUT} below it{example}; give the folder that holds "
            "the speakers' folders, or arrange the files that way.",
            code="bad-layout",
        )
    digest = hashlib.sha256(os.fsencode(top) + b"\0")
    for path in progress_bar(paths, desc=f"listing {Path(root).name}", unit=" files"):
        try:
            status = os.stat(os.path.join(top, path))
            stamp = status.st_size, status.st_mtime_ns
        except OSError:  # a broken link: reported when it is opened
            stamp = -1, 0
        digest.update(os.fsencode(f"{path}\0{stamp[0]}\0{stamp[1]}\n"))
    return SpeakerTree(top, paths, digest.hexdigest(), elsewhere)
