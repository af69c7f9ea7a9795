"""One speaker's folder in the mirror, made to follow what there is now."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.flac import write_speech
from speechbrain_ext.corpora.mirror.recordings import Cut, SourceRecording, SourceSpeaker
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import DECODED, SAMPLE_RATE, preference
from speechbrain_ext.sound import AudioFault, AudioHeader, read_header

# What training reads as it is, where it is mono and of SAMPLE_RATE.
_READY = (".wav", ".flac")
# Kaldi lets the end of a segment lie so far behind the end of its recording, in seconds.
_OVERSHOOT = 0.5
# And some lists give the length of a file in hundredths of a second.
_ROUNDED = 0.01


@dataclass
class Outcome:
    """What became of a speaker's recordings, or of those of several speakers.

    Arguments
    ---------
    linked, converted : int
        Recordings that are used as they are, and those that there is a conversion of.
    converted_now : int
        Those of the latter that were made by this run.
    failed : list of (str, str)
        Files that cannot be converted, with the reason.
    others : Counter
        Number of files that are no audio by their ending.
    """

    linked: int = 0
    converted: int = 0
    converted_now: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, other: Outcome) -> None:
        """Add what became of others."""
        self.linked += other.linked
        self.converted += other.converted
        self.converted_now += other.converted_now
        self.failed += other.failed
        self.others.update(other.others)


class _Plan(NamedTuple):
    """By path below the speaker's folder: the file to link to, or those that may be converted."""

    links: dict[str, str]
    conversions: dict[str, list[SourceRecording]]


def mirror_speaker(
    speaker: SourceSpeaker, place: Path, record: Path, stopped: Callable[[], bool]
) -> Outcome:
    """Make a folder, or a link, that holds the speaker's recordings as mono files of 16 kHz.

    WAV and FLAC files that are so already are linked to, and a speaker who has no others with one
    link; of other files, FLAC files are made. What ``place`` holds besides is removed: links
    and conversions whose source is gone or is another file now. WAV and FLAC files that cannot be
    read are linked to, so that stage 1 tells why.

    Arguments
    ---------
    speaker : SourceSpeaker
        The speaker.
    place : Path
        The folder or the link to make.
    record : Path
        File that remembers what was seen of each source and what each conversion was made from.
    stopped : callable
        Whether to make no more conversions.

    Returns
    -------
    Outcome

    Raises
    ------
    UserError
        When ffmpeg is needed and missing, or a file cannot be written.
    """
    listing = speaker.find()
    known = _read_record(record)
    sources = _Sources(known.get("seen", {}))
    plan = _plan(listing.recordings, sources)
    outcome = Outcome(linked=len(plan.links), others=listing.others)
    made: dict[str, Any] = {}
    if speaker.folder and not plan.conversions:
        _link(place, speaker.folder)
    else:
        _forget(place, {*plan.links, *plan.conversions})
        for target, source in plan.links.items():
            _link(place / target, Path(source))
        wanted = {
            target: [sources.stamped(recording) for recording in recordings]
            for target, recordings in plan.conversions.items()
        }
        before = known.get("made", {})
        made = {
            target: made_from
            for target, made_from in wanted.items()
            if before.get(target) == made_from and _is_file(place / target)
        }
        # First, so that a run that is killed leaves no record of what is another file by then.
        known = _write_record(record, known, {"seen": known.get("seen", {}), "made": dict(made)})
        outcome.converted = len(made)
        for target in [target for target in wanted if target not in made]:
            if stopped():
                break
            (place / target).unlink(missing_ok=True)
            problem = _convert_one_of(plan.conversions[target], place / target)
            if problem:
                outcome.failed.append(problem)
            else:
                made[target] = wanted[target]
                outcome.converted_now += 1
        outcome.converted += outcome.converted_now
    _write_record(record, known, {"seen": sources.seen, "made": made})
    return outcome


def forget_speaker(place: Path, record: Path) -> None:
    """Remove a speaker's folder or link, and what was remembered of it."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)  # which follows no link
    record.unlink(missing_ok=True)


class _Sources:
    """What is known of the sources: size, time of change, and what the headers of some say."""

    def __init__(self, before: dict[str, list[Any]]) -> None:
        self._before = before
        self.seen: dict[str, list[Any]] = {}

    def stamp(self, source: str) -> list[int]:
        """Size and time of change in ns; of a broken link, -1 and 0."""
        try:
            status = os.stat(source)
        except OSError:
            return [-1, 0]
        return [status.st_size, status.st_mtime_ns]

    def stamped(self, recording: SourceRecording) -> list[Any]:
        """What a conversion is made from, as JSON gives it back."""
        cut = None if recording.cut is None else list(recording.cut)
        return [recording.source, *self.stamp(recording.source), cut]

    def header(self, source: str) -> AudioHeader | None:
        """Header of a file, read unless it is known; None where it cannot be read."""
        stamp = self.stamp(source)
        before = self._before.get(source, [])
        if before[:2] == stamp:
            self.seen[source] = before
            return AudioHeader(*before[2])
        try:
            header = read_header(source)
        except AudioFault:
            return None
        if header is not None:
            self.seen[source] = [*stamp, list(header)]
        return header


def _plan(recordings: Sequence[SourceRecording], sources: _Sources) -> _Plan:
    plan = _Plan({}, {})
    by_name: dict[str, list[SourceRecording]] = {}
    for recording in recordings:
        by_name.setdefault(recording.name, []).append(recording)
    for name, several in by_name.items():
        links, to_convert, ready = {}, [], False
        for recording in sorted(several, key=lambda recording: preference(recording.source)):
            ending = os.path.splitext(recording.source)[1]
            if ending.lower() not in _READY:
                to_convert.append(recording)
                continue
            header = sources.header(recording.source)
            if header is None and recording.cut is None:
                links[name + ending] = recording.source
            elif header is not None and _is_ready(header, recording.cut):
                links[name + ending] = recording.source
                ready = True
            else:
                to_convert.append(recording)
        if to_convert and not ready:  # beside a file that is ready, the others were its originals
            target = f"{name}.flac"
            links.pop(target, None)
            plan.conversions[target] = to_convert
        plan.links.update(links)
    return plan


def _is_ready(header: AudioHeader, cut: Cut | None) -> bool:
    if header.frames is None or header.sample_rate != SAMPLE_RATE or header.channels != 1:
        return False
    if cut is None:
        return True
    start, stop = _ends(cut, header)
    whole = stop is None or abs(stop - header.frames) < _ROUNDED * SAMPLE_RATE
    return start == 0 and whole


def _ends(cut: Cut, header: AudioHeader | None) -> tuple[int, int | None]:
    """First sample of a part at 16 kHz, and the one after its last; None is the file's end."""
    rate = SAMPLE_RATE if header is None else header.sample_rate
    unit = SAMPLE_RATE / rate if cut.in_samples else SAMPLE_RATE
    stop = None if cut.stop is None else round(cut.stop * unit)
    if stop is not None and header is not None and header.frames is not None:
        frames = math.ceil(header.frames * SAMPLE_RATE / rate)
        if frames < stop <= frames + _OVERSHOOT * SAMPLE_RATE:
            stop = frames
    return round(cut.start * unit), stop


def _convert_one_of(recordings: Sequence[SourceRecording], target: Path) -> tuple[str, str] | None:
    """Convert the first that can be; else give the first and what is wrong with it."""
    problems = []
    for recording in recordings:
        try:
            wav = _read(recording)
        except AudioFault as fault:
            problems.append((recording.source, fault.detail))
            continue
        write_speech(target, wav.numpy())
        return None
    return problems[0]


def _read(recording: SourceRecording) -> Tensor:
    path = recording.source
    if path.lower().endswith(DECODED) and shutil.which("ffmpeg") is None:
        raise UserError(
            f"{path} must be converted, but there is no ffmpeg on PATH; install it (for instance "
            "`apt-get install ffmpeg`) and run this again.",
            code="missing-program",
        )
    start, stop = (0, None) if recording.cut is None else _ends(recording.cut, read_header(path))
    wav = read_audio(path, start, stop)
    if not len(wav):
        raise AudioFault("empty", f"ends before {start / SAMPLE_RATE:.2f} s")
    return wav


def _link(link: Path, target: Path) -> None:
    """Make a link, in place of whatever of the mirror is there."""
    destination = os.path.abspath(target)
    if link.is_symlink():
        if os.readlink(link) == destination:
            return
        link.unlink()
    elif link.is_dir():
        shutil.rmtree(link)
    else:
        link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(destination)
    except OSError as error:
        raise UserError(
            f"cannot make the link {link}: {error.strerror}; choose a disk that can hold symbolic "
            "links.",
            code="unwritable",
        ) from error


def _forget(folder: Path, wanted: set[str]) -> None:
    """Remove what is not wanted, and every link in the place of a folder; follow none."""
    folders = {""}
    for path in wanted:
        while (path := os.path.dirname(path)) not in folders:
            folders.add(path)

    def clean(below: str) -> None:
        here = folder / below
        if here.is_symlink() or not here.is_dir():
            here.unlink(missing_ok=True)
            return
        for entry in list(os.scandir(here)):
            path = f"{below}/{entry.name}" if below else entry.name
            if path in folders:
                clean(path)
            elif entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif path not in wanted:
                os.unlink(entry.path)

    clean("")


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # without it, all is looked at and made again
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(path: Path, written: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Write a record unless that is what was written last; give it."""
    if record != written:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(record), encoding="utf-8")
    return record
