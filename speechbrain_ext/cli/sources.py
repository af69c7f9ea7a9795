"""What ``spk embed`` is given: files, folders and lists, as recordings by their names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from speechbrain_ext.audio_files import list_audio_files
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import AUDIO, preference, strip_audio_extension
from speechbrain_ext.verification.lists import composed, read_lines

_GLANCE = 4096  # bytes by which a text is told from sound


class Recordings(NamedTuple):
    """Recordings by their names, and how many files hold the same in other formats."""

    paths: dict[str, Path]
    other_formats: int


def find_recordings(sources: Sequence[str], root: Path = Path()) -> Recordings:
    """Find the recordings of files, folders, ``wav.scp`` and lists.

    Arguments
    ---------
    sources : sequence of str
        Each a folder, a file of audio, or a text: of ``name path`` a line as Kaldi's ``wav.scp``,
        or of one path a line. Its commands, which end with ``|``, are not run.
    root : Path
        The folder that relative paths of lists are below.

    Returns
    -------
    Recordings
        The names are those of a ``wav.scp``, else paths without their endings, below their folder.
        Of one that lies there in several formats it is the file that other commands take, too.

    Raises
    ------
    UserError
        When a source is not there or holds nothing, or two recordings have one name.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("a.wav", "b.flac"):
    ...     (folder / name).touch()
    >>> _ = (folder / "wav.scp").write_text("anna a.wav\\nben b.flac\\n")
    >>> sorted(find_recordings([str(folder)]).paths)
    ['a', 'b']
    >>> sorted(find_recordings([str(folder / "wav.scp")], folder).paths)
    ['anna', 'ben']
    """
    found: dict[str, Path] = {}
    others = 0
    for source in map(Path, sources):
        below = _below(source) if source.is_dir() else None
        others += below.other_formats if below else 0
        for name, path in below.paths.items() if below else _of_file(source, root):
            name = composed(name)
            if found.setdefault(name, path) != path:
                raise UserError(
                    f"{found[name]} and {path} are both called {name}: give them one by one, or "
                    "a wav.scp that names them",
                    code="repeated-name",
                )
    return Recordings(found, others)


def holds_recordings(source: Path) -> bool:
    """Whether a path is a folder or a list of recordings, and no recording itself."""
    return source.is_dir() or not (
        source.suffix.lower() in AUDIO or (source.is_file() and not _is_text(source))
    )


def _of_file(source: Path, root: Path) -> Iterator[tuple[str, Path]]:
    if not holds_recordings(source):
        yield strip_audio_extension(os.fspath(source)), source
        return
    lines = list(read_lines(source, "the list of recordings"))
    if not lines:
        raise UserError(f"{source} names no recording: give a list with lines", code="empty-list")
    for number, line in lines:
        yield _listed(source, number, line, root)


def _below(folder: Path) -> Recordings:
    """Every audio file at any depth; of one in several formats the first by preference."""
    tree = list_audio_files(folder)
    if tree.unlisted:
        below, why = tree.unlisted[0]
        raise UserError(
            f"{folder / below} cannot be listed ({why}): mend that, or give what is below it",
            code="unreadable-file",
        )
    if not tree.files:
        raise UserError(f"{folder} holds no audio file: give another folder", code="no-audio")
    chosen: dict[str, Path] = {}
    for file in sorted(tree.files, key=lambda file: (preference(file), file)):
        chosen.setdefault(strip_audio_extension(file), folder / file)
    return Recordings(dict(sorted(chosen.items())), len(tree.files) - len(chosen))


def _is_text(path: Path) -> bool:
    with open(path, "rb") as stream:
        return b"\0" not in stream.read(_GLANCE)


def _listed(source: Path, number: int, line: str, root: Path) -> tuple[str, Path]:
    if line.endswith("|"):
        raise UserError(
            f"{source}:{number}: {line[:200]!r} is a command, and none is run: write a path",
            code="bad-line",
        )
    name, _, path = line.partition("\t" if "\t" in line else " ")
    if path.strip() and not (root / line).is_file():
        return name, root / path.strip()
    return strip_audio_extension(line), root / line
