"""Utterances that can be used, and the manifests that list them."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from speechbrain_ext.corpora.manifest import COLUMNS
from speechbrain_ext.corpora.manifest_settings import ManifestSettings
from speechbrain_ext.corpora.scan import CAUSES, Skipped, conversion, scan_files
from speechbrain_ext.corpora.tree import SpeakerTree, name_of
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import DECODED, SAMPLE_RATE

# Seconds of each half of a long file.
LONGEST_HALF = 30


class Utterance(NamedTuple):
    """One usable file: its folder's root, its path below it, and its length in samples."""

    root: str
    path: str
    frames: int
    start: int = 0

    @property
    def id(self) -> str:
        """Name of the path, e.g. ``id10001/s01/00001``."""
        return name_of(self.path)

    @property
    def speaker(self) -> str:
        """First part of the name."""
        return self.id.split("/", 1)[0]

    @property
    def session(self) -> str:
        """Second of three parts of the path; utterances beside the sessions share one, ``""``."""
        return self.path.partition("/")[2].rpartition("/")[0]


class UnlabelledFile(NamedTuple):
    """One usable file of which nobody knows who speaks: as an :class:`Utterance`.

    Example
    -------
    >>> file = UnlabelledFile("/data/calls", "monday/1.wav", 32000)
    >>> file.id, [(half.id, half.start, half.frames) for half in file.halves()]
    ('monday%2F1', [('monday%2F1/1', 0, 16000), ('monday%2F1/2', 16000, 16000)])
    """

    root: str
    path: str
    frames: int
    start: int = 0

    @property
    def id(self) -> str:
        """Name of the path in one part, as no labelled utterance's is."""
        return name_of(self.path).replace("/", "%2F")

    @property
    def speaker(self) -> str:
        """Nobody."""
        return ""

    def halves(self) -> tuple[Half, Half]:
        """Two parts of the same length, of a long file the two in its middle."""
        middle = self.frames // 2
        length = min(middle, LONGEST_HALF * SAMPLE_RATE)
        return (
            Half(self.root, self.path, length, middle - length, f"{self.id}/1"),
            Half(self.root, self.path, length, middle, f"{self.id}/2"),
        )


class Half(NamedTuple):
    """A part of a file; in the place of its unknown speaker stands the file."""

    root: str
    path: str
    frames: int
    start: int
    id: str

    @property
    def speaker(self) -> str:
        """The file's name."""
        return self.id.rpartition("/")[0]


Row = Utterance | UnlabelledFile | Half
"""What a manifest has a row of."""


class SkippedFile(NamedTuple):
    """One line of skipped.tsv."""

    path: str
    cause: str
    detail: str


def scan_utterances(
    root: str, files: Mapping[str, Sequence[str]], settings: ManifestSettings, jobs: int
) -> tuple[list[Utterance], list[SkippedFile]]:
    """Check the files of utterances, and take of each the first one that can be used.

    Arguments
    ---------
    root : str
        Folder that the paths are below.
    files : mapping of str to sequence of str
        Name of an utterance -> its files, in the order to try them; see
        :meth:`~speechbrain_ext.corpora.tree.SpeakerTree.by_name`.
    settings : ManifestSettings
        What a usable file is.
    jobs : int
        Number of processes.

    Returns
    -------
    utterances : list of Utterance
        Those with a usable file, in the order of their paths' parts.
    skipped : list of SkippedFile
        The files that are not used. What ffmpeg would have to decode is passed over without a word
        beside a file that is used: that was made from it.
    """
    utterances: list[Utterance] = []
    skipped: list[SkippedFile] = []
    left = {name: list(paths) for name, paths in files.items()}
    while left:  # once, and again for those whose first file cannot be used
        tried = {name: paths.pop(0) for name, paths in left.items()}
        results = scan_files(root, list(tried.values()), settings, jobs)
        for name, (path, result) in zip(tried, results, strict=True):
            if isinstance(result, Skipped):
                skipped.append(SkippedFile(os.path.join(root, path), *result))
                continue
            utterances.append(Utterance(root, path, result))
            for other in left.pop(name):
                if not other.lower().endswith(DECODED):
                    detail = f"{path} is used, the first usable of wav, flac, ogg and so on"
                    skipped.append(SkippedFile(os.path.join(root, other), "duplicate", detail))
        left = {name: paths for name, paths in left.items() if paths}
    utterances.sort(key=_parts)
    return utterances, skipped


def _parts(utterance: Utterance) -> str:
    # So that "a-b/1" comes after "a/1"; split() would take three times the memory.
    return utterance.path.replace("/", "\0")


def scan_trees(
    trees: Sequence[SpeakerTree], excluded: frozenset[str], settings: ManifestSettings, jobs: int
) -> tuple[list[Utterance], list[SkippedFile]]:
    """Check all files of the training folders.

    Arguments
    ---------
    trees : sequence of SpeakerTree
        The folders.
    excluded : frozenset of str
        Speakers to pass over.
    settings : ManifestSettings
        What a usable file is.
    jobs : int
        Number of processes.

    Returns
    -------
    utterances : list of Utterance
        The usable files, in the order of their IDs' parts.
    skipped : list of SkippedFile
        The others.

    Raises
    ------
    UserError
        When an utterance lies in two of the folders.
    """
    utterances: list[Utterance] = []
    skipped: list[SkippedFile] = []
    origin: dict[str, str] = {}
    for tree in trees:
        files = tree.by_name(without=excluded)
        if len(trees) > 1:
            for name, paths in files.items():
                full = os.path.join(tree.root, paths[0])
                if origin.setdefault(name, full) != full:
                    raise UserError(
                        f"{full} and {origin[name]} have the same name below their "
                        "folders; rename the speakers of one, or give only one of the folders.",
                        code="repeated-name",
                    )
        usable, others = scan_utterances(tree.root, files, settings, jobs)
        utterances += usable
        skipped += others
    utterances.sort(key=_parts)
    skipped.sort()
    return utterances, skipped


def scan_unlabelled(
    tree: SpeakerTree, settings: ManifestSettings, jobs: int
) -> tuple[list[UnlabelledFile], list[SkippedFile]]:
    """Check all files of a folder of unlabelled speech; as :func:`scan_utterances`."""
    usable, skipped = scan_utterances(tree.root, tree.by_name(), settings, jobs)
    return [UnlabelledFile(*utterance) for utterance in usable], skipped


def count_causes(skipped: Iterable[SkippedFile]) -> dict[str, int]:
    """Count the skipped files, with a number for every cause."""
    counts = Counter(file.cause for file in skipped)
    return {cause: counts[cause] for cause in CAUSES}


def skipped_sentence(
    skipped: Sequence[SkippedFile], options: Mapping[str, str], table: Path
) -> str:
    """Tell how many files are not used and why, the most frequent cause with what helps.

    Arguments
    ---------
    skipped : sequence of SkippedFile
        The files.
    options : mapping of str to str
        The folders that they are below, each with the option that named it.
    table : Path
        Where they are listed, in the folder of the corpus.
    """
    counts = Counter(file.cause for file in skipped).most_common()
    cause = counts[0][0]
    first = next(file for file in skipped if file.cause == cause)
    root = next(root for root in options if first.path.startswith(os.path.join(root, "")))
    remedy = conversion(cause, root, table.parent, options[root]) or CAUSES[cause]
    return (
        f"{len(skipped)} audio files to train on cannot be used "
        f"({', '.join(f'{number} {name}' for name, number in counts)}), listed in {table}; "
        f"{first.path}: {first.detail}; {remedy}."
    )


def write_manifest(path: Path, utterances: Iterable[Row]) -> None:
    """Write a SpeechBrain CSV with the columns that :func:`read_manifest` reads.

    Arguments
    ---------
    path : Path
        The file.
    utterances : iterable of Row
        Its rows.
    """
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for item in utterances:
            wav = os.path.join(item.root, item.path)
            duration = f"{item.frames / SAMPLE_RATE:.4f}"
            stop = item.start + item.frames
            writer.writerow([item.id, duration, wav, item.start, stop, item.speaker])


def write_skipped(path: Path, skipped: Iterable[SkippedFile]) -> None:
    """Write ``path, cause, detail``, separated by tabs, with a header line."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        stream.write("path\tcause\tdetail\n")
        for file in skipped:
            name = file.path.replace("\t", "\\t").replace("\n", "\\n")
            stream.write(f"{name}\t{file.cause}\t{file.detail}\n")


def totals(utterances: Sequence[Row]) -> dict[str, float]:
    """Count utterances, speakers and hours; and utterances without a label, where there are any."""
    samples = sum(utterance.frames for utterance in utterances)
    labelled = [utterance for utterance in utterances if isinstance(utterance, Utterance)]
    counts = {
        "utterances": len(utterances),
        "speakers": len({utterance.speaker for utterance in labelled}),
        "hours": round(samples / SAMPLE_RATE / 3600, 4),
    }
    unlabelled = len(utterances) - len(labelled)
    return counts | ({"unlabelled": unlabelled} if unlabelled else {})
