#!/usr/bin/env python3
"""Mirror a tree of speech so that every file in the mirror can be read.

    python local/convert_audio.py --src /data/speech --dst data/speech/dev

`src` is laid out as <speaker>/<session>/<utterance>.{wav,flac,mp3,m4a,...}. What the recipe's audio
library cannot read, such as m4a, is converted by ffmpeg to 16 kHz mono FLAC. A speaker without such
files becomes one link in `dst`; a speaker with some becomes a folder of converted files, and of
links to the others. Such a file beside a readable file of the same name was converted by somebody
before, and is passed over. Nothing below `src` is written to. Conversions already in `dst` are
kept, so a killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `local`, from any folder

from speechbrain_ext.audio import DECODED, READABLE  # noqa: E402
from speechbrain_ext.errors import UserError, friendly_exit  # noqa: E402
from speechbrain_ext.files import atomic_path  # noqa: E402

MAX_FAILED = 0.05
_SOURCE_NOTE = ".source"


def _files(folder: Path) -> Iterator[Path]:
    """Give every file below a folder that is not hidden; links are followed."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path))
            else:
                yield Path(entry.path)


def _link(link: Path, target: Path) -> None:
    target = target.absolute()
    if link.is_symlink():
        if os.readlink(link) == str(target):
            return
        link.unlink()
    try:
        link.symlink_to(target)
    except OSError as error:
        raise UserError(
            f"cannot make the link {link}: {error.strerror}; choose a disk that can hold symbolic "
            "links."
        ) from error


def _mirror_speaker(source: Path, mirror: Path) -> list[tuple[Path, Path]]:
    """Link what is readable; list what is to be converted as (source, target)."""
    files = list(_files(source))
    readable = [path for path in files if path.suffix.lower() in READABLE]
    known = {path.with_suffix("") for path in readable}
    others = [
        path
        for path in files
        if path.suffix.lower() in DECODED and path.with_suffix("") not in known
    ]
    if not others and (mirror.is_symlink() or not mirror.exists()):
        _link(mirror, source)
        return []
    if mirror.is_symlink():
        mirror.unlink()  # or the conversions would be written among the originals
    for path in readable:
        link = mirror / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists() or link.is_symlink():
            _link(link, path)
    return [(path, (mirror / path.relative_to(source)).with_suffix(".flac")) for path in others]


class _ConversionError(Exception):
    """What ffmpeg said about a file."""


def _convert(ffmpeg: str, source: Path, target: Path) -> str:
    """Convert one file; return what went wrong, or nothing."""
    command = [ffmpeg, "-nostdin", "-loglevel", "error", "-y", "-threads", "1"]
    command += ["-i", os.path.abspath(source), "-vn", "-ac", "1", "-ar", "16000"]
    command += ["-c:a", "flac", "-sample_fmt", "s16"]
    try:
        with atomic_path(target.absolute()) as temporary:
            done = subprocess.run(
                [*command, str(temporary)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if done.returncode:
                lines = done.stderr.decode(errors="replace").split("\n")
                said = [" ".join(line.split()) for line in lines if line.strip()]
                raise _ConversionError(said[-1] if said else f"status {done.returncode}")
    except (_ConversionError, OSError) as error:
        return str(error)
    return ""


def _find_ffmpeg(needed_for: Path) -> str:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise UserError(
            f"{needed_for} and others must be converted, but there is no ffmpeg on PATH; install "
            "it (for instance `apt-get install ffmpeg`) and run this again."
        )
    return ffmpeg


def _convert_all(pairs: list[tuple[Path, Path]], jobs: int) -> list[tuple[Path, str]]:
    """Convert in parallel; return (source, what went wrong) of those that failed."""
    from tqdm import tqdm

    ffmpeg = _find_ffmpeg(pairs[0][0])
    failed: list[tuple[Path, str]] = []
    disk_full = os.strerror(errno.ENOSPC)

    def convert(pair: tuple[Path, Path]) -> tuple[Path, str]:
        return pair[0], _convert(ffmpeg, *pair)

    # Threads suffice: ffmpeg is a process of its own.
    with ThreadPool(jobs) as pool:
        done = pool.imap_unordered(convert, pairs)
        for source, problem in tqdm(
            done, total=len(pairs), desc="converting", unit=" files", disable=None
        ):
            if disk_full in problem:
                raise UserError(f"{source}: {problem}; make room and run this again to go on.")
            if problem:
                failed.append((source, problem))
    return sorted(failed)


def _remember_failures(table: Path, failed: list[tuple[Path, str]]) -> None:
    if not failed:
        table.unlink(missing_ok=True)
        return
    with atomic_path(table) as temporary:
        lines = ["path\tdetail"] + [f"{path}\t{detail}" for path, detail in failed]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")


def mirror_speakers(
    speakers: Sequence[Path], mirror: Path, jobs: int, max_failed: float = MAX_FAILED
) -> int:
    """Mirror the folders of speakers.

    Arguments
    ---------
    speakers : sequence of Path
        Folders named like their speakers, from any number of trees.
    mirror : Path
        Where to put ``<mirror>/<speaker>/...``; files that ffmpeg cannot convert are listed beside
        it, in ``<mirror>_failed.tsv``.
    jobs : int
        Conversions at a time.
    max_failed : float
        The share of the files to convert, 0 to 1, that may fail.

    Returns
    -------
    int
        Number of files that could not be converted.

    Raises
    ------
    UserError
        When ffmpeg is needed but missing, too many conversions fail, or a link cannot be made.
    """
    if jobs < 1:
        raise UserError(f"--jobs is {jobs} but must be at least 1.")
    mirror.mkdir(parents=True, exist_ok=True)
    pairs = [
        pair for speaker in speakers for pair in _mirror_speaker(speaker, mirror / speaker.name)
    ]
    remaining = [pair for pair in pairs if not pair[1].exists()]
    failed = _convert_all(remaining, jobs) if remaining else []
    table = failure_table(mirror)
    _remember_failures(table, failed)
    if len(failed) > max_failed * len(pairs):
        raise UserError(
            f"{len(failed)} of {len(pairs)} files could not be converted, more than the "
            f"{max_failed:.0%} that --max_failed allows; {table} says why."
        )
    return len(failed)


def failure_table(mirror: Path) -> Path:
    """Where the failed conversions of a mirror are listed.

    Example
    -------
    >>> failure_table(Path("data/voxceleb/dev")).as_posix()
    'data/voxceleb/dev_failed.tsv'
    """
    return mirror.with_name(f"{mirror.name}_failed.tsv")


def _claim(mirror: Path, source: Path) -> None:
    """Let a mirror reflect one tree only."""
    note = mirror / _SOURCE_NOTE
    path = str(source.resolve())
    if note.exists():
        previous = note.read_text(encoding="utf-8").strip()
        if previous != path:
            raise UserError(
                f"{mirror} was made from {previous}, not {path}; choose another --dst, or delete "
                "that folder."
            )
    elif mirror.exists() and any(mirror.iterdir()):
        raise UserError(
            f"{mirror} holds files that this command did not make; choose another --dst."
        )
    else:
        with atomic_path(note) as temporary:
            temporary.write_text(path + "\n", encoding="utf-8")


def mirror_tree(source: Path, mirror: Path, jobs: int, max_failed: float = MAX_FAILED) -> int:
    """Mirror a whole tree; see :func:`mirror_speakers` for the rest.

    Raises
    ------
    UserError
        Also when ``source`` holds no speakers, or ``mirror`` reflects another tree.
    """
    if not source.is_dir():
        raise UserError(
            f"{source}: no such folder; give one laid out as <speaker>/<session>/<utterance>."
        )
    if mirror.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"--dst {mirror} lies inside --src {source}; choose a folder outside of it."
        )
    speakers = sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not speakers:
        raise UserError(f"{source} holds no folders; it should hold one for each speaker.")
    _claim(mirror, source)
    return mirror_speakers(speakers, mirror, jobs, max_failed)


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to convert."""
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="conversions at a time (default: one for each CPU)",
    )
    parser.add_argument(
        "--max_failed",
        type=float,
        default=MAX_FAILED,
        help="share of the files to convert that may fail (default: %(default)s)",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``arguments`` are those of the command line unless given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--src", type=Path, required=True, help="the tree; it stays as it is")
    parser.add_argument("--dst", type=Path, required=True, help="the mirror")
    add_job_options(parser)
    given = parser.parse_args(arguments)
    with friendly_exit():
        failed = mirror_tree(given.src, given.dst, given.jobs, given.max_failed)
        if failed:
            print(f"{failed} files could not be converted: see {failure_table(given.dst)}")


if __name__ == "__main__":
    main()
