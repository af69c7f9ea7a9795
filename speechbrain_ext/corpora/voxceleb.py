"""VoxCeleb1 and VoxCeleb2, checked as they were downloaded and brought into the recipe's shape."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechbrain_ext.corpora.folder import claim_corpus
from speechbrain_ext.corpora.maker import CorpusMaker
from speechbrain_ext.corpora.mirror.make import mirror_speakers, print_outcome
from speechbrain_ext.corpora.mirror.recordings import speaker_of_folder
from speechbrain_ext.corpora.trial_lists import check_corpus_names, read_corpus_lists
from speechbrain_ext.corpora.voxceleb_lists import VOXCELEB1_TEST
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import replaced_folder
from speechbrain_ext.formats import READABLE

HOME = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"
_SPEAKER = re.compile(r"id\d{5}")
_FIRST_OF_VOXCELEB1 = "id10001"  # VoxCeleb2's end at id09272
# Speakers that the releases hold, to tell a partial download.
_COMPLETE = {"VoxCeleb1 training": 1211, "VoxCeleb1 test": 40, "VoxCeleb2 training": 5994}
_TEST_LIST = "veri_test2.txt"
_LISTS_OF_ALL = (_TEST_LIST, "list_test_all2.txt", "list_test_hard2.txt")


@dataclass
class FoundSpeakers:
    """The folders of the speakers by what they are for, and the number of speakers by part."""

    train: list[Path] = field(default_factory=list)
    test: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def _holds_audio(speaker: Path) -> bool:
    """Look at one file, since face tracks and videos lie in folders of the same names."""
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
        raise UserError(
            f"--{option} {folder}: no such folder; VoxCeleb is had from {HOME}.",
            code="missing-folder",
        )
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
                    f"as {path}; give a folder that has it once.",
                    code="repeated-name",
                )
            speakers[path.name] = path
    if not speakers:
        raise UserError(
            f"--{option} {folder}: no folders id00000 with wav or m4a files were found there, "
            f"three levels deep; VoxCeleb is had from {HOME}.",
            code="bad-layout",
        )
    stranger = next(
        (s for s in speakers if (s >= _FIRST_OF_VOXCELEB1) != (option == "voxceleb1")), None
    )
    if stranger:
        other = {"voxceleb1": "voxceleb2", "voxceleb2": "voxceleb1"}[option]
        raise UserError(
            f"--{option} {folder} holds {stranger}, a speaker of the other VoxCeleb; give that "
            f"one as --{other}.",
            code="other-corpus",
        )
    return speakers


def find_voxceleb(
    voxceleb1: Path | None, voxceleb2: Path | None, out: Path, voxceleb1_test_only: bool = False
) -> FoundSpeakers:
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
    found = FoundSpeakers()
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
            f"there are no training speakers: {wanted} is missing; it is had from {HOME}.",
            code="few-speakers",
        )
    if not found.test:
        raise UserError(
            "there are no test speakers: VoxCeleb1's test part (id10270 to id10309; --voxceleb1) "
            f"is missing; it is had from {HOME}; to train without it, give the speech "
            "as --data of run.sh.",
            code="few-speakers",
        )
    return found


def _trial_lists(given: list[Path], voxceleb1: Path | None, all_speakers: bool) -> list[Path]:
    """Take the lists given, or else those that lie in VoxCeleb1's folder."""
    for path in given:
        if not path.is_file():
            raise UserError(
                f"--trials {path}: no such file; VoxCeleb's lists are had from {HOME}.",
                code="missing-file",
            )
    if given or voxceleb1 is None:
        return given
    names = _LISTS_OF_ALL if all_speakers else (_TEST_LIST,)
    places = [voxceleb1 / part / name for name in names for part in (".", "meta", "trials")]
    lists = [path for path in places if path.is_file()]
    if not lists:
        raise UserError(
            f"there is no trial list: download {' or '.join(names)} from {HOME} into {voxceleb1}, "
            "or name one with --trials.",
            code="no-trials",
        )
    return lists


class VoxCeleb(CorpusMaker):
    """VoxCeleb, as it was downloaded and unpacked; its own folders stay as they are.

    Wav files are linked to; m4a files are converted by ffmpeg. Speakers are sorted by their names,
    so VoxCeleb1 may have its parts dev and test apart or together in one folder. Run again, the
    command follows what has changed there; the trial lists are always those of the last run.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.epilog = f"VoxCeleb and its trial lists: {HOME}"
        parser.add_argument("--voxceleb1", type=Path, help="folder of VoxCeleb1 (wav)")
        parser.add_argument("--voxceleb2", type=Path, help="folder of VoxCeleb2 (m4a, or wav)")
        parser.add_argument(
            "--trials",
            type=Path,
            nargs="+",
            default=[],
            help=f"trial lists (default: {_TEST_LIST} in VoxCeleb1's folder)",
        )
        parser.add_argument(
            "--voxceleb1_test_only",
            nargs="?",
            choices=["true", "false"],
            const="true",
            default="false",
            help="test on all of VoxCeleb1 and train without it, for VoxCeleb1-E and -H",
        )

    def prepare(self, out: Path, options: argparse.Namespace) -> dict[str, Any]:
        """Link or convert the speech, and copy the trial lists."""
        first, second = options.voxceleb1, options.voxceleb2
        test_only = options.voxceleb1_test_only == "true"
        found = find_voxceleb(first, second, out, test_only)
        lists = _trial_lists(options.trials, first, test_only)
        names = [str(path) for path in lists]
        check_corpus_names(names)
        read_corpus_lists(names)  # refused now rather than after hours of conversion
        description = {
            "name": "voxceleb",
            "title": "VoxCeleb",
            "synthetic": False,
            "voxceleb1": str(first.resolve()) if first else None,
            "voxceleb2": str(second.resolve()) if second else None,
            "voxceleb1_test_only": test_only,
            "train": ["dev"],
            "test_root": "test",
        }
        claim_corpus(out, description)
        outcomes = {}
        for folders, mirror in ((found.train, out / "dev"), (found.test, out / "test")):
            speakers = [speaker_of_folder(path, path.parent, out) for path in folders]
            outcomes[mirror] = mirror_speakers(speakers, mirror, options.jobs, options.max_failed)
        with replaced_folder(out / "trials") as folder:
            for path in lists:
                shutil.copyfile(path, folder / path.name)
        _print_counts(found)
        for mirror, outcome in outcomes.items():
            print_outcome(outcome, mirror)
        return description


def _print_counts(found: FoundSpeakers) -> None:
    for name, count in found.counts.items():
        complete = _COMPLETE[name]
        note = "" if count in (0, complete) else f" of {complete}: the download is not complete"
        if count:
            print(f"{name}: {count} speakers{note}")


CORPUS = VoxCeleb()
