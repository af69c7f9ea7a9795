"""The audio files below a folder laid out as <speaker>/<session>/<utterance>."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from speechbrain_ext.audio import AUDIO
from speechbrain_ext.errors import UserError

LAYOUT = "<speaker>/<session>/<utterance>.{wav,flac,...}"


@dataclass(frozen=True)
class AudioTree:
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


def list_audio(root: str | os.PathLike[str]) -> AudioTree:
    """List the audio files three levels below a folder; links to folders are followed.

    Arguments
    ---------
    root : str or path
        A folder laid out as ``<speaker>/<session>/<utterance>.{wav,flac,...}``.

    Returns
    -------
    AudioTree

    Raises
    ------
    UserError
        When the folder is missing or cannot be read, or no audio file lies at that depth.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "id1" / "s1").mkdir(parents=True)
    >>> (root / "id1" / "s1" / "00001.wav").touch()
    >>> list_audio(root).paths
    ['id1/s1/00001.wav']
    """
    top = os.path.abspath(root)
    if not os.path.isdir(top):
        raise UserError(f"{root}: no such folder; give a folder laid out as {LAYOUT}.")
    digest = hashlib.sha256(os.fsencode(top) + b"\0")
    paths: list[str] = []
    elsewhere: list[str] = []
    try:
        with tqdm(desc=f"listing {Path(root).name}", unit=" files", disable=None) as progress:
            for path, depth, size, changed in _walk(top, "", 1):
                if depth != 3:
                    elsewhere.append(path)
                    continue
                paths.append(path)
                digest.update(os.fsencode(f"{path}\0{size}\0{changed}\n"))
                progress.update()
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be listed ({error.strerror}); mend its permissions."
        ) from None
    if not paths:
        found = f" (there is, for instance, {elsewhere[0]})" if elsewhere else ""
        raise UserError(
            f"{root}: no audio file lies at {LAYOUT} below it{found}; give the folder that holds "
            "the speakers' folders, or arrange the files that way."
        )
    return AudioTree(top, paths, digest.hexdigest(), len(elsewhere))


def _walk(top: str, below: str, depth: int) -> Iterator[tuple[str, int, int, int]]:
    """Give (path, depth, size in bytes, time of change in ns) of each audio file to depth 3."""
    with os.scandir(os.path.join(top, below)) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        # Hidden files are leftovers of systems and editors, such as macOS's ._00001.wav.
        if entry.name.startswith("."):
            continue
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.name.lower().endswith(AUDIO):
            try:
                status = entry.stat()
                is_folder = entry.is_dir()
            except OSError:  # a broken link: reported when it is opened
                yield path, depth, -1, 0
                continue
            if not is_folder:
                yield path, depth, status.st_size, status.st_mtime_ns
                continue
        if depth < 3 and entry.is_dir():
            yield from _walk(top, path, depth + 1)
