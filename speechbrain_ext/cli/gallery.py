"""``spk enroll``, ``identify``, ``list`` and ``remove``: speakers in a gallery."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from speechbrain_ext.cli.options import (
    Audio,
    DecisionsFile,
    FalseAlarm,
    GalleryFile,
    Json,
    Model,
    Precision,
    Threads,
    Threshold,
    given_audio,
    number,
    open_model,
    percent,
    tell,
)
from speechbrain_ext.errors import UserError
from speechbrain_ext.failures import Failure, tell_failures, write_failures
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.runtime import Gallery, Identification
from speechbrain_ext.runtime.decision import COSINE
from speechbrain_ext.runtime.gallery import LEAST_SPEECH
from speechbrain_ext.runtime.speakers import Enrolled, checked_name
from speechbrain_ext.terminal import print_table
from speechbrain_ext.verification.lists import read_lines


def enroll(
    gallery: GalleryFile,
    name: Annotated[str | None, typer.Argument(help="The speaker's name.")] = None,
    audio: Annotated[
        list[str] | None, typer.Argument(help="The speaker's recordings; - is standard input.")
    ] = None,
    speaker_file: Annotated[
        Path | None,
        typer.Option(help="In place of them a list: a name and the path of a recording a line."),
    ] = None,
    least_speech: Annotated[
        float,
        typer.Option(help="Seconds of speech that there have to be of a speaker.", parser=number),
    ] = LEAST_SPEECH,
    teacher: Annotated[
        Path | None,
        typer.Option("--with", help="The model's teacher, a folder, which enrols in its place."),
    ] = None,
    model: Model = None,
    precision: Precision = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Enrol a speaker, or add recordings to one. A name has any letters; it is never a path."""
    if (speaker_file is None) == (name is None):
        raise UserError(
            "give a speaker's name and recordings, or a list by --speaker-file",
            code="bad-command",
        )
    speaker_model = open_model(model, precision, threads)
    enroller = None if teacher is None else open_model(teacher, precision, threads)
    opened = Gallery.open(gallery, speaker_model, enroll_with=enroller)
    if speaker_file is not None:
        _enroll_list(opened, speaker_file, least_speech, as_json)
        return
    assert name is not None
    with given_audio(*(audio or ())) as paths:
        enrolled = opened.enroll(name, paths, least_speech=least_speech)
    tell(as_json, asdict(enrolled), _line(enrolled))


def _line(enrolled: Enrolled) -> str:
    number = "1 recording" if enrolled.recordings == 1 else f"{enrolled.recordings} recordings"
    speech = f"{enrolled.seconds_of_speech:.1f} s of speech (by {enrolled.vad})"
    return f"{enrolled.name}: {number}, {speech}"


def _enroll_list(gallery: Gallery, path: Path, least_speech: float, as_json: bool) -> None:
    """Enrol the speakers of a list one by one; those who cannot be are told at the end."""
    speakers: dict[str, list[str]] = {}
    for place, line in read_lines(path, "the list of speakers"):
        name, _, recording = line.partition(" " if "\t" not in line else "\t")
        if not recording.strip():
            raise UserError(
                f"{path}:{place}: {line[:200]!r} has no recording: write a name and a path",
                code="bad-line",
            )
        speakers.setdefault(checked_name(name), []).append(recording.strip())
    if not speakers:
        raise UserError(f"{path} names no speaker: write a name and a path", code="empty-list")
    done: list[Enrolled] = []
    failures: list[Failure] = []
    for name, recordings in progress_bar(speakers.items(), desc="enrolling", unit=" speakers"):
        try:
            done.append(gallery.enroll(name, recordings, least_speech=least_speech))
        except UserError as error:
            if error.code not in ("unusable-audio", "little-speech", "bad-embedding", "bad-model"):
                raise
            failures.append(Failure(name, error.code, str(error)))
    facts = {
        "enrolled": [asdict(each) for each in done],
        "failures": [each._asdict() for each in failures],
    }
    table = gallery.path.with_suffix(".failures.tsv")
    tell(as_json, facts, f"enrolled: {len(done)}, not enrolled: {len(failures)}")
    write_failures(table, failures)
    tell_failures(failures, table)
    raise typer.Exit(1 if failures else 0)


def identify(
    audio: Audio,
    gallery: GalleryFile,
    top: Annotated[int, typer.Option(help="How many speakers are ranked.")] = 5,
    false_alarm: FalseAlarm = 0.01,
    threshold: Threshold = None,
    decisions: DecisionsFile = None,
    model: Model = None,
    precision: Precision = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Say who of a gallery speaks. Ends with 0 for somebody, 1 for nobody who is enrolled."""
    opened = Gallery.open(gallery, open_model(model, precision, threads, decisions))
    with given_audio(audio) as (path,):
        found = opened.identify(path, false_alarm, top, threshold=threshold)
    if as_json:
        tell(True, {**asdict(found), "scale": COSINE})
    else:
        _show(found, false_alarm)
    raise typer.Exit(1 if found.name is None else 0)


def _show(found: Identification, false_alarm: float) -> None:
    print(found.name or "nobody who is enrolled")
    table = Table("speaker", "cosine", box=None)
    for name, score in found.ranked:
        table.add_row(Text(name), f"{score:.3f}")
    print_table(table)
    print(f"threshold: cosine {found.threshold:.3f}, of -1 to 1 ({found.operating_point})")
    if found.operating_point != "given":
        strangers = percent(min(1.0, false_alarm * found.speakers))
        print(
            f"{found.speakers} speakers are compared: up to {strangers} of strangers are taken for "
            "one of them"
        )
    print(f"speech: {found.seconds_of_speech:.1f} s (by {found.vad})")


def list_speakers(
    gallery: GalleryFile,
    model: Model = None,
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """List who is enrolled."""
    if not gallery.exists():
        raise UserError(f"{gallery}: there is no gallery; give another path", code="missing-file")
    opened = Gallery.open(gallery, open_model(model, precision, 1))
    speakers = [opened.enrolled(name) for name in opened.names()]
    if as_json:
        kept = ("name", "recordings", "seconds_of_speech")
        tell(True, [{key: getattr(each, key) for key in kept} for each in speakers])
        return
    table = Table("speaker", "recordings", "s of speech", box=None)
    for each in speakers:
        table.add_row(Text(each.name), str(each.recordings), f"{each.seconds_of_speech:.1f}")
    print_table(table)


def remove(
    name: Annotated[str, typer.Argument(help="The speaker's name.")],
    gallery: GalleryFile,
    model: Model = None,
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """Remove a speaker and all embeddings of the voice."""
    opened = Gallery.open(gallery, open_model(model, precision, 1))
    opened.remove(name)
    tell(as_json, {"removed": name, "speakers": len(opened.names())}, f"{name} is removed")
