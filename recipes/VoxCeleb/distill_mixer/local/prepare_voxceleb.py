#!/usr/bin/env python3
"""Check VoxCeleb as it was downloaded and bring it into the recipe's shape.

    python local/prepare_voxceleb.py --voxceleb1 DIR --voxceleb2 DIR --out data/voxceleb

makes `dev/<speaker>` (VoxCeleb1's and VoxCeleb2's development speakers), `test/<speaker>`
(VoxCeleb1's test speakers), `trials/` and `corpus.json`. wav trees are linked to, m4a files
are converted by ffmpeg; see `convert_audio.py`. Speakers are sorted by their names, so both
VoxCeleb1's usual layouts, dev and test apart or together in one `wav` folder, will do. Run again,
it follows what has changed there; the trial lists are always those of the last run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speechbrain_ext.audio import READABLE
from speechbrain_ext.corpora.folder import begin, finish
from speechbrain_ext.corpora.mirror.make import (
    MAX_FAILED,
    add_job_options,
    mirror_speakers,
    tell,
)
from speechbrain_ext.corpora.mirror.recordings import speaker_of_folder
from speechbrain_ext.corpora.mirror.speaker import Outcome
from speechbrain_ext.corpora.trial_lists import check_names, read_corpus_lists
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import replaced_folder

HOME = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"
_SPEAKER = re.compile(r"id\d{5}")
_FIRST_OF_VOXCELEB1 = "id10001"  # VoxCeleb2's end at id09272
VOXCELEB1_TEST = frozenset(f"id{number}" for number in range(10270, 10310))
# Speakers that the releases hold, to tell a partial download.
_COMPLETE = {"VoxCeleb1 training": 1211, "VoxCeleb1 test": 40, "VoxCeleb2 training": 5994}
_TEST_LIST = "veri_test2.txt"
_LISTS_OF_ALL = (_TEST_LIST, "list_test_all2.txt", "list_test_hard2.txt")


@dataclass
class VoxCeleb:
    """The speakers' folders by what they are for, and what became of them in dev and test."""

    train: list[Path] = field(default_factory=list)
    test: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    outcomes: dict[Path, Outcome] = field(default_factory=dict)


def _holds_audio(speaker: Path) -> bool:
    """Look at one file: VoxCeleb has folders of the same names for face tracks and videos."""
    for _, folders, files in os.walk(speaker, followlinks=True):
        folders.sort()
        visible = [name for name in files if not name.startswith(".")]
        for name in visible:
            if name.lower().endswith((*READABLE, ".m4a")):
                return True
        if visible:
            return False
    return False


def _speaker_roots(folder: Path, out: Path, depth: int = 3) -> Iterator[Path]:
    """Find the folders, down to a depth, whose children are speakers with audio."""
    if folder.resolve() == out.resolve():
        return
    children = sorted(path for path in folder.iterdir() if path.is_dir())
    speakers = [path for path in children if _SPEAKER.fullmatch(path.name)]
    if speakers:
        if any(_holds_audio(speaker) for speaker in speakers[:3]):
            yield folder
    elif depth:
        for child in children:
            yield from _speaker_roots(child, out, depth - 1)


def _speakers(option: str, folder: Path, out: Path, leave_out_test: bool) -> dict[str, Path]:
    """Map each speaker of a tree to their folder."""
    if not folder.is_dir():
        raise UserError(f"--{option} {folder}: no such folder; VoxCeleb is had from {HOME}.")
    speakers: dict[str, Path] = {}
    for root in _speaker_roots(folder, out):
        parts = root.relative_to(folder).parts
        if leave_out_test and any(part == "test" or part.startswith("vox2_test") for part in parts):
            continue
        for path in sorted(root.iterdir()):
            if not (_SPEAKER.fullmatch(path.name) and path.is_dir()):
                continue
            if path.name in speakers:
                raise UserError(
                    f"--{option} {folder} holds {path.name} twice, as {speakers[path.name]} and "
                    f"as {path}; give a folder that has it once."
                )
            speakers[path.name] = path
    if not speakers:
        raise UserError(
            f"--{option} {folder}: no folders id00000 with wav or m4a files were found there, "
            f"three levels deep; VoxCeleb is had from {HOME}."
        )
    stranger = next(
        (s for s in speakers if (s >= _FIRST_OF_VOXCELEB1) != (option == "voxceleb1")), None
    )
    if stranger:
        other = {"voxceleb1": "voxceleb2", "voxceleb2": "voxceleb1"}[option]
        raise UserError(
            f"--{option} {folder} holds {stranger}, a speaker of the other VoxCeleb; give that "
            f"one as --{other}."
        )
    return speakers


def find_voxceleb(
    voxceleb1: Path | None, voxceleb2: Path | None, out: Path, voxceleb1_test_only: bool = False
) -> VoxCeleb:
    """Sort the speakers of both corpora into training and test.

    Arguments
    ---------
    voxceleb1, voxceleb2 : Path or None
        The trees, as downloaded and unpacked.
    out : Path
        Where the result is to be, in case that is inside one of them.
    voxceleb1_test_only : bool
        Whether all of VoxCeleb1 is for testing.

    Raises
    ------
    UserError
        When training or test speakers are missing, or a tree is not what it should be.
    """
    first = _speakers("voxceleb1", voxceleb1, out, False) if voxceleb1 else {}
    second = _speakers("voxceleb2", voxceleb2, out, True) if voxceleb2 else {}
    found = VoxCeleb()
    held_out = set(first) if voxceleb1_test_only else set(first) & VOXCELEB1_TEST
    train = {s: p for s, p in first.items() if s not in held_out}
    found.train = [*train.values(), *second.values()]
    found.test = [first[s] for s in sorted(held_out)]
    found.counts = {
        "VoxCeleb1 training": len(train),
        "VoxCeleb1 test": len(set(first) & VOXCELEB1_TEST),
        "VoxCeleb2 training": len(second),
    }
    if not found.train:
        wanted = (
            "VoxCeleb2 (--voxceleb2)"
            if voxceleb1_test_only
            else "the development part of VoxCeleb1 (--voxceleb1) or VoxCeleb2 (--voxceleb2)"
        )
        raise UserError(
            f"there are no training speakers: {wanted} is missing; it is had from {HOME}."
        )
    if not found.test:
        raise UserError(
            "there are no test speakers: VoxCeleb1's test part (id10270 to id10309; --voxceleb1) "
            f"is missing; it is had from {HOME}; to train without it, give the speech "
            "as --data of run.sh."
        )
    return found


def _trial_lists(given: list[Path], voxceleb1: Path | None, all_speakers: bool) -> list[Path]:
    """Take the lists given, or else those that lie in VoxCeleb1's folder."""
    for path in given:
        if not path.is_file():
            raise UserError(f"--trials {path}: no such file; VoxCeleb's lists are had from {HOME}.")
    if given or voxceleb1 is None:
        return given
    names = _LISTS_OF_ALL if all_speakers else (_TEST_LIST,)
    places = [voxceleb1 / part / name for name in names for part in (".", "meta", "trials")]
    lists = [path for path in places if path.is_file()]
    if not lists:
        raise UserError(
            f"there is no trial list: download {' or '.join(names)} from {HOME} into {voxceleb1}, "
            "or name one with --trials."
        )
    return lists


def prepare_voxceleb(
    voxceleb1: Path | None,
    voxceleb2: Path | None,
    out: Path,
    trials: list[Path],
    jobs: int,
    voxceleb1_test_only: bool = False,
    max_failed: float = MAX_FAILED,
) -> VoxCeleb:
    """Bring VoxCeleb into the recipe's shape; run again, it does what is still to do.

    Arguments
    ---------
    voxceleb1, voxceleb2 : Path or None
        The trees, as downloaded and unpacked; they stay as they are.
    out : Path
        The corpus folder.
    trials : list of Path
        Trial lists; when empty, those in VoxCeleb1's folder.
    jobs : int
        Conversions at a time.
    voxceleb1_test_only : bool
        Whether all of VoxCeleb1 is for testing, as VoxCeleb1-E and -H need it.
    max_failed : float
        The share of the files to convert that may fail.

    Returns
    -------
    VoxCeleb
        What was found.

    Raises
    ------
    UserError
        When something is missing, a list cannot be used, or ``out`` was made from other trees.
    """
    found = find_voxceleb(voxceleb1, voxceleb2, out, voxceleb1_test_only)
    lists = _trial_lists(trials, voxceleb1, voxceleb1_test_only)
    names = [str(path) for path in lists]
    check_names(names)
    read_corpus_lists(names)  # refused now rather than after hours of conversion
    description = {
        "name": "voxceleb",
        "title": "VoxCeleb",
        "synthetic": False,
        "voxceleb1": str(voxceleb1.resolve()) if voxceleb1 else None,
        "voxceleb2": str(voxceleb2.resolve()) if voxceleb2 else None,
        "voxceleb1_test_only": voxceleb1_test_only,
        "train": ["dev"],
        "test_root": "test",
    }
    begin(out, description)
    for folders, mirror in ((found.train, out / "dev"), (found.test, out / "test")):
        speakers = [speaker_of_folder(path, path.parent, out) for path in folders]
        found.outcomes[mirror] = mirror_speakers(speakers, mirror, jobs, max_failed)
    with replaced_folder(out / "trials") as folder:
        for path in lists:
            shutil.copyfile(path, folder / path.name)
    finish(out, description)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``arguments`` are those of the command line unless given."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog=f"VoxCeleb and its trial lists: {HOME}"
    )
    parser.add_argument("--voxceleb1", type=Path, help="folder of VoxCeleb1 (wav)")
    parser.add_argument("--voxceleb2", type=Path, help="folder of VoxCeleb2 (m4a, or wav)")
    parser.add_argument("--out", type=Path, required=True, help="the corpus folder")
    parser.add_argument(
        "--trials",
        type=Path,
        nargs="+",
        default=[],
        help=f"trial lists (default: {_TEST_LIST} in VoxCeleb1's folder)",
    )
    parser.add_argument(
        "--voxceleb1_test_only",
        action="store_true",
        help="test on all of VoxCeleb1 and train without it, for VoxCeleb1-E and -H",
    )
    add_job_options(parser)
    given = parser.parse_args(arguments)
    with friendly_exit():
        found = prepare_voxceleb(**vars(given))
        for name, count in found.counts.items():
            complete = _COMPLETE[name]
            note = "" if count in (0, complete) else f" of {complete}: the download is not complete"
            if count:
                print(f"{name}: {count} speakers{note}")
        for mirror, outcome in found.outcomes.items():
            tell(outcome, mirror)


if __name__ == "__main__":
    main()
