"""Lists that a user brings: the lines of a text file, and the names of utterances in it."""

from __future__ import annotations

import csv
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import strip_audio_extension

_COLUMN_MARKS = ("\t", ",", ";", None)
Header = TypeVar("Header")

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:/")

# After a list's name in the names of further results: of scores that a cohort normalises, of two
# systems' mean score, and of a system for which another enrols.
FURTHER = NORMALIZED, FUSION, ENROLLED = "_normalized", "_fusion", "_enrolled"


def read_lines(path: str | os.PathLike[str], what: str) -> Iterator[tuple[int, str]]:
    """Give the lines of a text file, without those that are blank or begin with ``#``.

    Arguments
    ---------
    path : str or path
        UTF-8 text, with or without a byte-order mark, with the line ends of any system.
    what : str
        What the file is, for the errors: ``the trial list``.

    Yields
    ------
    (int, str)
        The number of a line, from 1, and its text without the white space around it.

    Raises
    ------
    UserError
        When the file cannot be read or is no UTF-8 text.

    Example
    -------
    >>> path = getfixture("tmp_path") / "names.txt"
    >>> _ = path.write_bytes(b"\\xef\\xbb\\xbf# who\\r\\n\\r\\nanna \\r\\n")
    >>> list(read_lines(path, "the list"))
    [(3, 'anna')]
    """
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:  # UTF-16 without its mark, or no text: no file has such a name
                    raise UserError(
                        f"{path}:{number}: {what} has a zero byte; save it as UTF-8.",
                        code="not-utf8",
                    )
                line = line.strip()
                if line and not line.startswith("#"):
                    yield number, line
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: {what} is not UTF-8 text; save it as UTF-8.", code="not-utf8"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: {what} cannot be read ({reason}).", code="unreadable-file"
        ) from None


def delimiter_of(line: str, least: int) -> str | None:
    """The comma or semicolon that comes ``least`` times in a line; None where white space divides.

    It does where there are more than ``least`` words and none ends with the mark: names may hold
    commas.

    Example
    -------
    >>> delimiter_of("a,b, 1", 2), delimiter_of("1 smith,j/1 jones,k/1", 2) is None
    (',', True)
    """
    words = line.split()
    for mark in ",;":
        apart = len(words) > least and not any(word.endswith(mark) for word in words)
        if line.count(mark) >= least and not apart:
            return mark
    return None


def read_first_line(
    line: str, header_of: Callable[[Sequence[str]], Header | None], least: int
) -> tuple[Header | None, str | None]:
    """What the first line of a list says as a header, if it is one, and what divides the lines.

    Arguments
    ---------
    line : str
        The line.
    header_of : callable
        Gives what names of columns say, or None for fields that are no such names.
    least : int
        For :func:`delimiter_of`, which tells the mark where there is no header.

    Returns
    -------
    header : object or None
    delimiter : str or None
        For :func:`split_line`.

    Example
    -------
    >>> read_first_line("a;b c", lambda fields: len(fields) if "b c" in fields else None, 1)
    (2, ';')
    """
    for mark in _COLUMN_MARKS:
        header = header_of(split_line(line, mark))
        if header is not None:
            return header, mark
    return None, delimiter_of(line, least)


def split_line(line: str, delimiter: str | None) -> list[str]:
    """The fields of a line, divided by a delimiter or, without one, by white space.

    Example
    -------
    >>> split_line('1, "a", b', ","), split_line("1 a\\tb", None)
    (['1', 'a', 'b'], ['1', 'a', 'b'])
    """
    if delimiter is None:
        return line.split()
    try:
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except csv.Error:  # a field of more than 128 kB, or a zero byte
        return [line]
    return [field.strip() for field in row]


def composed(name: str) -> str:
    """A name as it counts: é is one letter, whether it was written as one or as e and an accent.

    Example
    -------
    >>> composed("Rene\\u0301") == "Ren\\u00e9"
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def on_disk(path: str) -> str:
    """The path of a file or folder whose letters the disk may have in the other form.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "Rene\\u0301").touch()
    >>> on_disk(f"{folder}/Ren\\u00e9") == f"{folder}/Rene\\u0301"
    True
    """
    if path.isascii() or os.path.exists(path):
        return path
    parent, base = os.path.split(path)
    above = on_disk(parent)
    try:
        names = os.listdir(above or ".")
    except OSError:  # not there, or no folder: nothing is below it
        return path
    return os.path.join(above, next((n for n in names if composed(n) == composed(base)), base))


def check_names(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse lists whose results would be filed under one name, the stem of the file.

    Raises
    ------
    UserError
        Naming the first two that share one, which may be the same list given twice.

    Example
    -------
    >>> check_names(["a/test.txt", "b/dev.txt"])
    """
    seen: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.stem in seen:
            raise UserError(
                f"{seen[path.stem]} and {path} are both called {path.stem!r}, and results are "
                "filed under that name; rename one of the lists, or leave one out.",
                code="repeated-name",
            )
        seen[path.stem] = path


def root_paths(*folders: str | os.PathLike[str]) -> tuple[str, ...]:
    """The paths that absolute names may begin with: folders as given, and without links.

    Example
    -------
    >>> root_paths("/")
    ('/',)
    """
    paths = [path(folder) for folder in folders for path in (os.path.abspath, os.path.realpath)]
    return tuple(dict.fromkeys(posixpath.join(composed(path), "") for path in paths))


def utterance_name(name: str, roots: Sequence[str] = ()) -> str:
    """Name an utterance: the path below its root, without the extension of audio.

    Every command that reads a list goes by this name, so ``./id1/s/1.wav``, ``id1\\s\\1``, and
    ``/data/id1/s/1.flac`` below ``/data`` are one utterance.

    Arguments
    ---------
    name : str
        As a list gives it.
    roots : sequence of str
        From :func:`root_paths`, the folders that names are below; without any, a path stays as
        absolute as it is.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        When it names nothing below the roots; the text goes on from the name.

    Example
    -------
    >>> utterance_name("id1\\\\s.1//1.WAV"), utterance_name("/data/id1/s/1", ["/data/"])
    ('id1/s.1/1', 'id1/s/1')
    """
    if len(name.split()) != 1:
        raise ValueError("holds white space or nothing: rename the file, and name it so")
    path = composed(name).replace("\\", "/")
    if roots and (path.startswith("/") or _WINDOWS_DRIVE.match(path)):
        path = posixpath.normpath(path)
        root = next((root for root in roots if path.startswith(root)), None)
        if root is None:
            raise ValueError(f"is not below {roots[0]}: give the folder that it is below")
        path = path[len(root) :]
    path = posixpath.normpath(path)
    if path == "." or (roots and path.split("/", 1)[0] == ".."):
        raise ValueError(f"is no file below {roots[0] if roots else 'any folder'}: mend the name")
    return strip_audio_extension(path)
