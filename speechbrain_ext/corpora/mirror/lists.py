"""Lists of one's own: Kaldi's data folder, SpeechBrain's CSV, JSON lines of WeSpeaker or NeMo."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from speechbrain_ext.corpora.mirror.recordings import Cut, Listing, SourceRecording, SourceSpeaker
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import AUDIO, strip_audio_extension
from speechbrain_ext.verification.lists import on_disk
from speechbrain_ext.workers import in_threads

FORMATS = (
    "a folder with Kaldi's wav.scp and utt2spk, a CSV with the columns ID, wav and spk_id, or JSON "
    "lines with key, wav and spk, or audio_filepath and label"
)
_THREADS = 16
# What the same thing is called in WeSpeaker's and SpeechBrain's lists, and in NeMo's.
_PATH, _SPEAKER, _KEY = ("wav", "audio_filepath"), ("spk", "spk_id", "label"), ("key", "ID")


class _Line(NamedTuple):
    """What a line says, and where it stands."""

    place: str
    key: str
    speaker: str
    path: str
    cut: Cut | None


def is_list(source: Path) -> bool:
    """Tell a list from a tree of speakers: it is a file, or a folder with ``wav.scp``."""
    return source.is_file() or (source / "wav.scp").is_file()


def speakers_of_list(source: Path) -> list[SourceSpeaker]:
    """Give the speakers that a list names.

    An utterance's name in the mirror is its key below its speaker: ``anna/anna-001``, or, where the
    key is a path that begins with the speaker, as ``anna/monday/001.wav`` does, that path. NeMo's
    lists have no keys: the path of the file stands for it, from the speaker's folder on.

    Arguments
    ---------
    source : Path
        A folder with ``wav.scp`` and ``utt2spk`` (and ``segments``), a CSV, or JSON lines. Paths of
        files are absolute, or relative to the list's folder.

    Returns
    -------
    list of SourceSpeaker
        By name.

    Raises
    ------
    UserError
        Naming the line that cannot be used.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "1.wav").touch()
    >>> _ = (folder / "raw.list").write_text('{"key": "anna-1", "wav": "1.wav", "spk": "anna"}')
    >>> (anna,) = speakers_of_list(folder / "raw.list")
    >>> anna.name, anna.find().recordings
    ('anna', [SourceRecording(name='anna-1', source='.../1.wav', cut=None)])
    """
    lines = list(_kaldi(source) if source.is_dir() else _file(source))
    names: list[str] = []
    places: dict[tuple[str, str], str] = {}
    for line in lines:
        _check(line)
        names.append(_name(line))
        earlier = places.setdefault((line.speaker, names[-1]), line.place)
        if earlier != line.place:
            raise UserError(
                f"{line.place}: {line.speaker}/{names[-1]} stands at {earlier} as well; give every "
                "utterance of a speaker a name of its own.",
                code="repeated-name",
            )
    found: dict[str, list[SourceRecording]] = {}
    # Many at a time, as a far disk takes long to answer.
    with in_threads(_found, [line.path for line in lines], _THREADS) as paths:
        for line, name, path in zip(lines, names, paths, strict=True):
            if path is None:
                raise UserError(
                    f"{line.place}: there is no file {line.path}; write absolute paths, or paths "
                    "relative to the list's folder.",
                    code="missing-audio",
                )
            found.setdefault(line.speaker, []).append(SourceRecording(name, path, line.cut))
    if not found:
        raise UserError(f"{source}: names no utterances; give {FORMATS}.", code="empty-list")
    return [
        SourceSpeaker(name, partial(Listing, recordings))
        for name, recordings in sorted(found.items())
    ]


def _found(path: str) -> str | None:
    path = on_disk(path)
    return path if os.path.isfile(path) else None


def _check(line: _Line) -> None:
    speaker, path = line.speaker, line.path
    if not speaker or speaker.startswith(".") or "/" in speaker or len(speaker.split()) != 1:
        raise UserError(
            f"{line.place}: the speaker {speaker!r} cannot name a folder; write a name without "
            "blanks and slashes that begins with no dot.",
            code="bad-name",
        )
    if "$" in path:
        raise UserError(
            f"{line.place}: {path!r} holds a variable; write the path itself.", code="bad-line"
        )
    if not path.lower().endswith(AUDIO):
        raise UserError(
            f"{line.place}: {path!r} is no file of a known audio format.", code="bad-line"
        )
    if line.cut is not None:
        start, stop = line.cut.start, line.cut.stop
        if not (0 <= start < (math.inf if stop is None else stop)):
            raise UserError(
                f"{line.place}: there is nothing from {start:g} to {stop}.", code="bad-line"
            )


def _name(line: _Line) -> str:
    """``<utterance>`` or ``<session>/<utterance>``."""
    parts = [part for part in strip_audio_extension(line.key).split("/") if part not in ("", ".")]
    if len(parts) > 1 and parts[0] == line.speaker:
        del parts[0]
    if not parts or any(part.startswith(".") for part in parts):
        raise UserError(
            f"{line.place}: {line.key!r} cannot name an utterance; write another key.",
            code="bad-name",
        )
    session = "-".join(parts[:-1])
    return f"{session}/{parts[-1]}" if session else parts[-1]


def _file(source: Path) -> Iterator[_Line]:
    first = next((text for _, text in _lines(source)), "")
    if first.startswith("{"):
        return _json(source)
    if {"wav", "spk_id"} <= {name.strip() for name in first.split(",")}:
        return _csv(source)
    raise UserError(
        f"{source}: begins with {first[:80]!r}, which is no list known here: {FORMATS}.",
        code="unknown-format",
    )


def _text(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            yield from stream
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; give {FORMATS}.", code="not-utf8") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}).", code="unreadable-file"
        ) from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank."""
    for number, line in enumerate(_text(path), 1):
        if line.strip():
            yield number, line.strip()


def _json(path: Path) -> Iterator[_Line]:
    for number, text in _lines(path):
        place = f"{path}:{number}"
        try:
            entry = json.loads(text)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise UserError(
                f"{place}: {text[:80]!r} is no JSON object; write one on each line.",
                code="bad-line",
            )
        wav, speaker = _of(entry, _PATH, place), _of(entry, _SPEAKER, place)
        cut = None
        if entry.get("offset") is not None:
            start = _number(entry["offset"], place)
            cut = Cut(start, start + _number(entry.get("duration"), place), False)
        if any(name in entry for name in _KEY):
            key = _of(entry, _KEY, place)
        else:
            key = _key_of(wav, speaker) + (f"-{round(1000 * cut.start):08}" if cut else "")
        yield _Line(place, key, speaker, _absolute(path, wav), cut)


def _key_of(wav: str, speaker: str) -> str:
    """Path of a file from the speaker's folder on; where there is none, the last two parts."""
    folders, name = os.path.split(strip_audio_extension(wav))
    parts = folders.split("/")
    if speaker in parts:
        return "/".join([*parts[parts.index(speaker) :], name])
    return f"{parts[-1]}/{name}" if parts[-1] not in ("", ".", "..") else name


def _csv(path: Path) -> Iterator[_Line]:
    rows = csv.DictReader(_text(path), skipinitialspace=True)
    if "ID" not in (rows.fieldnames or ()):
        raise UserError(
            f"{path}:1: has no column ID; write ID, wav and spk_id.", code="missing-column"
        )
    for row in _rows(rows, path):
        place = f"{path}:{rows.line_num}"
        if any(value and "\n" in value for value in row.values()):
            raise UserError(
                f"{place}: ends a field that has several lines; mend the quotes.", code="bad-line"
            )
        if None in row or None in row.values():
            raise UserError(
                f"{place}: has {'more' if None in row else 'fewer'} fields than the header has.",
                code="bad-line",
            )
        cut = None
        if row.get("start") or row.get("stop"):
            stop = _number(row["stop"], place) if row.get("stop") else None
            cut = Cut(_number(row.get("start") or 0, place), stop, True)
        wav = _of(row, _PATH, place)
        yield _Line(
            place, _of(row, ("ID",), place), _of(row, ("spk_id",), place), _absolute(path, wav), cut
        )


def _rows(rows: csv.DictReader[str], path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from rows
    except csv.Error as error:  # a quote that is never closed takes in all that follows
        place = f"{path}:{rows.line_num + 1}"
        raise UserError(f"{place}: {error}; mend its quotes.", code="bad-line") from None


def _kaldi(folder: Path) -> Iterator[_Line]:
    files = {}
    for place, (recording, wav) in _pairs(folder / "wav.scp"):
        if wav.endswith("|") or wav == "-":
            raise UserError(
                f"{place}: {wav!r} is a command, which is not run here; write its output to a file "
                "and name that.",
                code="bad-line",
            )
        files[recording] = _absolute(folder / "wav.scp", wav)
    segments = folder / "segments"
    parts: dict[str, tuple[str, Cut | None]] = {}
    if segments.is_file():
        for place, (utterance, text) in _pairs(segments):
            fields = text.split()
            if len(fields) != 3:
                raise UserError(
                    f"{place}: is not 'utterance recording start end'.", code="bad-line"
                )
            start, stop = _number(fields[1], place), _number(fields[2], place)
            # An end of -1 is the recording's.
            parts[utterance] = fields[0], Cut(start, None if stop < 0 else stop, False)
    else:
        parts = {recording: (recording, None) for recording in files}
    unnamed = dict.fromkeys(parts)
    for place, (utterance, speaker) in _pairs(folder / "utt2spk"):
        if utterance not in parts or parts[utterance][0] not in files:
            if utterance in parts:
                utterance, lacking = parts[utterance][0], "wav.scp"
            else:
                lacking = "segments" if segments.is_file() else "wav.scp"
            raise UserError(
                f"{place}: there is no {utterance} in {folder / lacking}.", code="unknown-utterance"
            )
        unnamed.pop(utterance, None)
        recording, cut = parts[utterance]
        yield _Line(place, utterance, speaker, files[recording], cut)
    if unnamed:
        others = f" and {len(unnamed) - 1} others" if len(unnamed) > 1 else ""
        raise UserError(
            f"{folder / 'utt2spk'}: names no speaker of {next(iter(unnamed))}{others}; add them or "
            "take them out of the other files.",
            code="unknown-name",
        )


def _pairs(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    numbers: dict[str, int] = {}
    for number, text in _lines(path):
        fields = text.split(maxsplit=1)
        if len(fields) != 2:
            raise UserError(
                f"{path}:{number}: {text[:80]!r} has nothing after its first word.", code="bad-line"
            )
        earlier = numbers.setdefault(fields[0], number)
        if earlier != number:
            raise UserError(
                f"{path}:{number}: {fields[0]} stands at {path}:{earlier} as well; leave one out.",
                code="repeated-name",
            )
        yield f"{path}:{number}", (fields[0], fields[1])


def _absolute(list_file: Path, wav: str) -> str:
    return os.path.abspath(os.path.join(list_file.parent, wav))


def _of(entry: dict[str, Any], names: tuple[str, ...], place: str) -> str:
    for name in names:
        if isinstance(entry.get(name), str | int) and entry[name] != "":
            return str(entry[name])
    raise UserError(f"{place}: has no {' or '.join(names)}.", code="missing-column")


def _number(value: object, place: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{place}: {value!r} is no number.", code="bad-line")
    return number
