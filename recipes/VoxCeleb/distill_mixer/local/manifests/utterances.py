"""Utterances that can be used, and the manifests that list them."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from local.manifests.scan import CAUSES, Skipped, scan_files
from local.manifests.settings import Settings
from local.manifests.tree import AudioTree
from speechbrain_ext.audio import DECODED
from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.trials import strip_audio_extension


class Utterance(NamedTuple):
    """One usable file: its folder's root, its path below it, and its length in samples."""

    root: str
    path: str
    frames: int

    @property
    def id(self) -> str:
        """Path without the extension, e.g. ``id10001/s01/00001``."""
        return strip_audio_extension(self.path)

    @property
    def speaker(self) -> str:
        """First part of the path."""
        return self.path.split("/", 1)[0]

    @property
    def session(self) -> str:
        """Second part of the path."""
        return self.path.split("/", 2)[1]


class SkippedFile(NamedTuple):
    """One line of skipped.tsv."""

    path: str
    cause: str
    detail: str


def one_file_each(paths: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, Skipped]]]:
    """Choose one file where an utterance lies there in several formats.

    A file for ffmpeg, such as m4a, beside the file it was converted to is passed over without a
    word; of other duplicates the first by extension is used.

    Arguments
    ---------
    paths : sequence of str
        Files below one root, sorted.

    Returns
    -------
    chosen : dict of str to str
        Path without extension -> file, in the order of the paths.
    skipped : list of (str, Skipped)
        The files left out.

    Example
    -------
    >>> one_file_each(["a/b/1.m4a", "a/b/1.wav", "a/b/2.m4a"])
    ({'a/b/1': 'a/b/1.wav', 'a/b/2': 'a/b/2.m4a'}, [])
    """
    chosen: dict[str, str] = {}
    skipped = []
    for path in paths:
        name = strip_audio_extension(path)
        earlier = chosen.get(name)
        if earlier is None or earlier.lower().endswith(DECODED):
            chosen[name] = path
        elif not path.lower().endswith(DECODED):
            skipped.append((path, Skipped("duplicate", f"{earlier} is used")))
    return chosen, skipped


def scan_trees(
    trees: Sequence[AudioTree], excluded: frozenset[str], settings: Settings, jobs: int
) -> tuple[list[Utterance], list[SkippedFile]]:
    """Check all files of the training folders.

    Arguments
    ---------
    trees : sequence of AudioTree
        The folders.
    excluded : frozenset of str
        Speakers to pass over.
    settings : Settings
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
        When an utterance lies in two of the folders, or none can be used.
    """
    utterances: list[Utterance] = []
    skipped: list[SkippedFile] = []
    origin: dict[str, str] = {}
    for tree in trees:
        paths = [path for path in tree.paths if path.split("/", 1)[0] not in excluded]
        chosen, duplicates = one_file_each(paths)
        if len(trees) > 1:
            for name, path in chosen.items():
                full = os.path.join(tree.root, path)
                if origin.setdefault(name, full) != full:
                    raise UserError(
                        f"{full} and {origin[name]} have the same name below their --train "
                        "folders; rename the speakers of one, or give only one of the folders."
                    )
        found = list(duplicates)
        for path, result in scan_files(tree.root, list(chosen.values()), settings, jobs):
            if isinstance(result, Skipped):
                found.append((path, result))
            else:
                utterances.append(Utterance(tree.root, path, result))
        skipped += [SkippedFile(os.path.join(tree.root, path), *why) for path, why in found]
    if not utterances:
        raise UserError(_nothing_usable(skipped, settings))
    # Part by part, so that "a-b/1" comes after "a/1"; split() would take three times the memory.
    utterances.sort(key=lambda utterance: utterance.path.replace("/", "\0"))
    skipped.sort()
    return utterances, skipped


def _nothing_usable(skipped: list[SkippedFile], settings: Settings) -> str:
    if not skipped:
        return "no training speaker is left; --exclude_speakers names all of those below --train."
    cause, _ = Counter(file.cause for file in skipped).most_common(1)[0]
    first = next(file for file in skipped if file.cause == cause)
    counts = count_causes(skipped)
    return (
        f"none of the {len(skipped)} audio files below --train can be used "
        f"({', '.join(f'{number} {name}' for name, number in counts.items() if number)}; "
        f"{first.path}: {first.detail}); {remedy(cause, settings)}."
    )


def count_causes(skipped: Iterable[SkippedFile]) -> dict[str, int]:
    """Count the skipped files, with a number for every cause."""
    counts = Counter(file.cause for file in skipped)
    return {cause: counts[cause] for cause in CAUSES}


def remedy(cause: str, settings: Settings) -> str:
    """Tell what helps against a cause."""
    return CAUSES[cause].format(sample_rate=settings.sample_rate)


def write_manifest(path: Path, utterances: Iterable[Utterance], sample_rate: int) -> None:
    """Write a SpeechBrain CSV: ``ID,duration,wav,start,stop,spk_id``.

    Arguments
    ---------
    path : Path
        The file.
    utterances : iterable of Utterance
        Its rows.
    sample_rate : int
        Samples a second, for the durations.
    """
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["ID", "duration", "wav", "start", "stop", "spk_id"])
        for item in utterances:
            wav = os.path.join(item.root, item.path)
            duration = f"{item.frames / sample_rate:.4f}"
            writer.writerow([item.id, duration, wav, 0, item.frames, item.speaker])


def write_skipped(path: Path, skipped: Iterable[SkippedFile]) -> None:
    """Write ``path, cause, detail``, separated by tabs, with a header line."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        stream.write("path\tcause\tdetail\n")
        for file in skipped:
            name = file.path.replace("\t", "\\t").replace("\n", "\\n")
            stream.write(f"{name}\t{file.cause}\t{file.detail}\n")


def summary(utterances: Sequence[Utterance], sample_rate: int) -> dict[str, float]:
    """Count utterances, speakers and hours."""
    samples = sum(utterance.frames for utterance in utterances)
    return {
        "utterances": len(utterances),
        "speakers": len({utterance.speaker for utterance in utterances}),
        "hours": round(samples / sample_rate / 3600, 4),
    }
