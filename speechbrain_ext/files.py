"""Files and folders that are either whole or absent, one process at a time, known by digests."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError

MANIFEST = "manifest.json"
LOCK = ".lock"


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well.

    Arguments
    ---------
    path : str or path
        The file to write; its folder is made when missing.

    Yields
    ------
    Path
        Where to write. When the block raises, it is removed and ``path`` stays as it was.

    Example
    -------
    >>> target = getfixture("tmp_path") / "a" / "numbers.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers choose the format by it.
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it, where no other writes it now."""
    name = re.compile(rf"\.{re.escape(path.stem)}\.\d+{re.escape(path.suffix)}")
    for beside in path.parent.iterdir():
        if name.fullmatch(beside.name):
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time work on a folder; others wait."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def claimed(folder: str | os.PathLike[str], refusal: str) -> Iterator[None]:
    """Let one process at a time work in a folder; refuse others.

    Arguments
    ---------
    folder : str or path
        The folder; it is made when missing, and keeps a hidden file.
    refusal : str
        What another process is told.

    Raises
    ------
    UserError
        When another process is in such a block.

    Example
    -------
    >>> with claimed(getfixture("tmp_path"), "somebody else trains there: wait"):
    ...     print("alone")
    alone
    """
    os.makedirs(folder, exist_ok=True)
    handle = os.open(Path(folder) / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        # A record lock: a worker that outlives its killed parent for some seconds does not hold it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(handle)
        raise UserError(refusal, code="busy-folder") from None
    except OSError:  # some network file systems know no locks
        pass
    try:
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of ``target`` when the block ends well.

    Arguments
    ---------
    target : Path
        The folder to replace; it need not exist.

    Yields
    ------
    Path
        A folder beside it. When the block raises, it is removed and ``target`` stays.

    Example
    -------
    >>> target = getfixture("tmp_path") / "manifests"
    >>> with replaced_folder(target) as folder:
    ...     _ = (folder / "train.csv").write_text("ID")
    >>> [path.name for path in target.iterdir()]
    ['train.csv']
    """
    new, old = _new(target), _old(target)
    restore(target)
    new.mkdir(parents=True)
    try:
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        restore(target)


def restore(target: Path) -> None:
    """Put right what a killed run left: the earlier folder stays, half-made ones go."""
    if _old(target).exists() and not target.exists():
        _old(target).rename(target)
    for leftover in (_new(target), _old(target)):
        if leftover.exists():
            shutil.rmtree(leftover)


def _new(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def fingerprint(made_from: dict[str, Any]) -> str:
    """Give the SHA-256 of facts that JSON can hold, by their names."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Give the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def written_files(folder: Path) -> dict[str, str]:
    """Give the digest of every file in the folder but ``manifest.json``."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def flush(folder: Path) -> None:
    """Wait until the disk has the files of a folder: after a power cut they are still whole."""
    for path in folder.iterdir():
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())


def is_current(folder: Path, wanted: str) -> bool:
    """Tell whether the folder is whole, unaltered, and has this fingerprint."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["fingerprint"] != wanted:
            return False
        return all(
            file_digest(folder / name) == digest for name, digest in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
