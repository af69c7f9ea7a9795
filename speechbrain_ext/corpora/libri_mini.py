"""libri_mini: a small corpus of real read speech, made of LibriSpeech's train-clean-100.

docs/libri_mini.md says what it is, and what its results are worth.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.folder import claim_corpus
from speechbrain_ext.corpora.maker import CorpusMaker
from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.sound import AudioFault, read_header

HOME = "https://www.openslr.org/12"
SUBSET = "train-clean-100"
LEAST_SECONDS = 12


class Cutting(NamedTuple):
    """How an utterance is cut: its first seconds, into so many parts of one length."""

    most_seconds: int
    parts: int


CUTTINGS = {"dev": Cutting(12, 3), "test": Cutting(14, 4)}
"""By the part of the corpus: training speech, and speech that the trials name."""


class Chapter(NamedTuple):
    """A chapter that one speaker read.

    Arguments
    ---------
    part : str
        Where it is put, ``dev`` or ``test``.
    speaker, chapter : str
        LibriSpeech's numbers.
    """

    part: str
    speaker: str
    chapter: str

    @property
    def folder(self) -> str:
        """Where its parts are put, below the corpus folder.

        Example
        -------
        >>> Chapter("dev", "19", "198").folder
        'dev/id00019/198'
        """
        return f"{self.part}/id{int(self.speaker):05d}/{self.chapter}"


def chapters() -> list[Chapter]:
    """The chapters of the corpus, one of each speaker.

    Example
    -------
    >>> len(chapters()), chapters()[0]
    (251, Chapter(part='dev', speaker='19', chapter='198'))
    """
    text = Path(__file__).with_name("libri_mini_chapters.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [Chapter(*line.split()) for line in lines]


def choose_utterance(folder: Path) -> Path:
    """Give the first utterance of a chapter that lasts 12 s or more; where none does, the longest.

    Arguments
    ---------
    folder : Path
        The chapter's folder in LibriSpeech; it has one utterance or more.
    """
    longest, most = Path(), 0
    for path in sorted(folder.glob("*.flac")):
        try:
            header = read_header(path)
        except AudioFault as fault:
            raise _damaged(path, fault) from None
        frames = (header.frames if header else None) or 0
        if frames >= LEAST_SECONDS * SAMPLE_RATE:
            return path
        if frames > most:
            longest, most = path, frames
    return longest


def write_parts(utterance: Path, folder: Path, cutting: Cutting) -> None:
    """Write the parts of an utterance as ``00001.flac`` and so on.

    Arguments
    ---------
    utterance : Path
        A file of LibriSpeech: 16 kHz, mono, 16 bits, which the parts have as well.
    folder : Path
        Where to write them.
    cutting : Cutting
        How long the utterance may be, and the number of parts.
    """
    try:
        wav = read_audio(utterance)[: cutting.most_seconds * SAMPLE_RATE]
    except AudioFault as fault:
        raise _damaged(utterance, fault) from None
    samples = (wav * 32768).to(torch.int16).numpy()  # what the file holds, to the bit
    length = len(samples) // cutting.parts
    for number in range(cutting.parts):
        part = samples[number * length : (number + 1) * length]
        with atomic_path(folder / f"{number + 1:05d}.flac") as temporary:
            soundfile.write(temporary, part, SAMPLE_RATE, subtype="PCM_16")


def trial_lines(paths: Sequence[str]) -> list[str]:
    """Give every pair of files as a line ``label enrol test``; 1 is a pair of one speaker.

    Example
    -------
    >>> trial_lines(["id1/5/1.flac", "id1/5/2.flac", "id2/7/1.flac"])[:2]
    ['1 id1/5/1.flac id1/5/2.flac', '0 id1/5/1.flac id2/7/1.flac']
    """
    return [
        f"{int(enrol.split('/')[0] == test.split('/')[0])} {enrol} {test}"
        for enrol, test in itertools.combinations(paths, 2)
    ]


class LibriMini(CorpusMaker):
    """libri_mini: one utterance of each of 251 speakers of LibriSpeech's train-clean-100.

    211 speakers are there to train on, 40 others for the trials. A committed list names a chapter
    of each. The first utterance of the chapter that lasts 12 s or more is cut into parts of one
    length: the first 12 s into three to train on, the first 14 s into four for the trials.

    The results on libri_mini that this repository holds are of a corpus of the same speakers and
    chapters; its files need not be these.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.epilog = f"LibriSpeech: {HOME}"
        parser.add_argument(
            "--librispeech",
            type=Path,
            required=True,
            help=f"folder of LibriSpeech, with {SUBSET}; it stays as it is",
        )

    def prepare(self, out: Path, options: argparse.Namespace) -> dict[str, Any]:
        """Cut what is not cut yet, and write the trials."""
        source = _subset(options.librispeech)
        wanted = chapters()
        folders = [source / item.speaker / item.chapter for item in wanted]
        missing = [str(folder) for folder in folders if not any(folder.glob("*.flac"))]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(wanted)} chapters are not below {source} "
                f"({first_few(missing)}): give all of "
                f"{SUBSET}, which is had from {HOME}.",
                code="missing-audio",
            )
        description = {
            "name": "libri_mini",
            "title": "libri_mini",
            "synthetic": False,
            "librispeech": str(source.resolve()),
        }
        claim_corpus(out, description)
        paths = []
        for item, folder in zip(
            progress_bar(wanted, desc="libri_mini", unit=" speakers"), folders, strict=True
        ):
            cutting = CUTTINGS[item.part]
            files = [f"{item.folder}/{number + 1:05d}.flac" for number in range(cutting.parts)]
            if not all((out / file).is_file() for file in files):
                write_parts(choose_utterance(folder), out / item.folder, cutting)
            if item.part == "test":
                paths += [file.removeprefix("test/") for file in files]
        with atomic_path(out / "trials" / "dev.txt") as temporary:  # the name of the results
            temporary.write_text("\n".join(trial_lines(paths)) + "\n", encoding="utf-8")
        print(f"{out}: {len(wanted)} speakers of LibriSpeech")
        return description


def _subset(librispeech: Path) -> Path:
    """The folder of the speakers, where LibriSpeech, what holds it, or the subset is given."""
    for folder in (librispeech, librispeech / SUBSET, librispeech / "LibriSpeech" / SUBSET):
        if folder.name == SUBSET and folder.is_dir():
            return folder
    raise UserError(
        f"--librispeech {librispeech}: there is no folder {SUBSET}; it is had from {HOME}.",
        code="missing-folder",
    )


def _damaged(path: Path, fault: AudioFault) -> UserError:
    return UserError(
        f"{path} cannot be read ({fault.detail}): LibriSpeech is had from {HOME}.",
        code="unusable-audio",
    )


CORPUS = LibriMini()
