"""Manifests in columns: what is known of a million utterances, in a few blocks of memory."""

from __future__ import annotations

import csv
import functools
import hashlib
import operator
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechbrain_ext.errors import UserError

COLUMNS = ("ID", "duration", "wav", "start", "stop", "spk_id")
"""The columns that every manifest has; ``spk_id`` is empty where nobody knows the speaker."""
WITH_VOICES = "train_voices.csv"
"""The manifest of the training speech in other voices too."""


class Texts:
    """Strings in one block of bytes.

    A list of as many strings takes several times the memory. A worker process would copy it besides
    when it reads it, since Python counts references within the strings; here it copies nothing.

    Arguments
    ---------
    texts : iterable of str
        The strings; read once.

    Example
    -------
    >>> texts = Texts(["ann/1", "bob/1", "bob/2"])
    >>> len(texts), texts[1], list(texts)
    (3, 'bob/1', ['ann/1', 'bob/1', 'bob/2'])
    >>> texts.find(["bob/2", "eve/1"]).tolist()
    [2, -1]
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._begins = array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a string at the end."""
        # As os.fsencode does, since the name of a file need not be UTF-8.
        self._bytes += text.encode("utf-8", "surrogateescape")
        self._begins.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._begins) - 1

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        begin, end = self._begins[index], self._begins[index + 1]
        return self._bytes[begin:end].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def find(self, texts: Iterable[str]) -> np.ndarray:
        """The first place (N,) int64 of each of N strings; -1 for one that is not here."""
        ranked, order = self._by_hash
        wanted = list(texts)
        hashes = np.fromiter(map(hash, wanted), np.int64, len(wanted))
        places = np.full(len(wanted), -1)
        begins = np.searchsorted(ranked, hashes, "left").tolist()
        ends = np.searchsorted(ranked, hashes, "right").tolist()
        for number, (text, begin, end) in enumerate(zip(wanted, begins, ends, strict=True)):
            same = (place for place in order[begin:end].tolist() if self[place] == text)
            places[number] = next(same, -1)
        return places

    def repeated(self) -> str | None:
        """A string that stands twice, if there is one."""
        ranked, order = self._by_hash
        for place in np.flatnonzero(ranked[1:] == ranked[:-1]).tolist():
            if self[order[place]] == (text := self[order[place + 1]]):
                return text
        return None

    def hash_into(self, digest: hashlib._Hash) -> None:
        """Update a digest of ``hashlib`` with all strings and where each ends."""
        digest.update(self._begins)
        digest.update(self._bytes)

    @functools.cached_property
    def _by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes, sorted, and where each is from; a dictionary would be ten times as large."""
        hashes = np.fromiter(map(hash, self), np.int64, len(self))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return hashes[order], order


@dataclass(frozen=True, eq=False)
class Manifest:
    """The utterances of a manifest; iterated, it gives its rows, each made when it is asked for.

    1.1 million utterances with paths of 80 characters take 170 MB.

    Arguments
    ---------
    ids, wavs : Texts
        N names, and the audio file of each.
    durations : np.ndarray
        (N,) float64, seconds.
    starts, stops : np.ndarray
        (N,) int64, the samples of the file where the utterance begins and ends.
    speakers : list of str
        The S speakers that are known, sorted.
    speaker_index : np.ndarray
        (N,) int32, the place of each utterance's speaker among them; -1 for one without a label.
    """

    ids: Texts
    wavs: Texts
    durations: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    speakers: list[str]
    speaker_index: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row: a value for each of ``COLUMNS``."""
        speaker = int(self.speaker_index[index])
        return {
            "ID": self.ids[index],
            "duration": float(self.durations[index]),
            "wav": self.wavs[index],
            "start": int(self.starts[index]),
            "stop": int(self.stops[index]),
            "spk_id": self.speakers[speaker] if speaker >= 0 else "",
        }

    @functools.cached_property
    def sha256(self) -> str:
        """A hash of the utterances in their order: names, extents and speakers.

        Where their files lie is no part of it: a corpus may be moved.
        """
        digest = hashlib.sha256("\0".join([*self.speakers, ""]).encode())
        for column in (self.durations, self.starts, self.stops, self.speaker_index):
            digest.update(column.tobytes())
        self.ids.hash_into(digest)
        return digest.hexdigest()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest; one that has just been read, and has not changed, is not read again.

    Arguments
    ---------
    path : str or path
        CSV with the columns ``ID``, ``duration`` in seconds, ``wav``, ``start`` and ``stop`` in
        samples, and ``spk_id``, which is empty in rows of unlabelled speech.

    Raises
    ------
    UserError
        When it is missing, has no row, or is no manifest.

    Example
    -------
    >>> path = getfixture("tmp_path") / "train.csv"
    >>> text = "ID,duration,wav,start,stop,spk_id\\nann/1,1.5,/data/ann/1.flac,0,24000,ann\\n"
    >>> _ = path.write_text(text)
    >>> read_manifest(path)[0]["wav"], read_manifest(path).speakers
    ('/data/ann/1.flac', ['ann'])
    """
    try:
        status = os.stat(path)
        return _read(os.path.abspath(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            how = ""
            if os.path.basename(path) == WITH_VOICES:
                how = " with --voices 10 or so (run.sh: --manifest_args '--voices 10')"
            raise UserError(
                f"{path} does not exist: run stage 1 first, which makes it{how}",
                code="earlier-stage",
            ) from None
        raise UserError(
            f"{path} cannot be read ({error.strerror}): run stage 1 again", code="unreadable-file"
        ) from None


# Those of training and validation: one that was read before them is memory nobody looks at.
@functools.lru_cache(maxsize=2)
def _read(path: str, size: int, changed: int) -> Manifest:
    ids, wavs = Texts(), Texts()
    durations, starts, stops = array("d"), array("q"), array("q")
    numbers, speaker_index = dict[str, int](), array("i")
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        try:
            header = next(lines, [])
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise UserError(
                    f"{path} has no column {missing[0]}: run stage 1 again", code="missing-column"
                )
            fields = operator.itemgetter(*map(header.index, COLUMNS))
            for line in lines:
                if not line:
                    continue
                name, duration, wav, start, stop, speaker = fields(line)
                begin, end, seconds = int(start), int(stop), float(duration)
                named = name and wav and "\0" not in wav
                if not (named and 0 <= begin < end and 0 < seconds < np.inf):
                    raise ValueError("a name is no name, or a length no length")
                durations.append(seconds)
                starts.append(begin)
                stops.append(end)
                number = numbers.setdefault(speaker, len(numbers)) if speaker else -1
                speaker_index.append(number)
                ids.append(name)
                wavs.append(wav)
        except UnicodeDecodeError:
            raise UserError(
                f"{path} is not UTF-8 text: run stage 1 again", code="not-utf8"
            ) from None
        except (ValueError, IndexError, OverflowError, csv.Error) as error:
            reason = "too few columns" if isinstance(error, IndexError) else error
            raise UserError(
                f"{path}:{lines.line_num}: no row of a manifest ({reason}): run stage 1 again",
                code="bad-line",
            ) from None
    if not len(ids):
        raise UserError(
            f"{path} lists no utterance: run stage 1 again on a folder with speech",
            code="empty-list",
        )
    if (name := ids.repeated()) is not None:
        raise UserError(f"{path} has the ID {name} twice: run stage 1 again", code="repeated-name")
    speakers = sorted(numbers)
    rank = np.full(len(speakers) + 1, -1, dtype=np.int32)  # the last is that of no speaker
    rank[[numbers[speaker] for speaker in speakers]] = np.arange(len(speakers))
    return Manifest(
        ids,
        wavs,
        np.frombuffer(durations),
        np.frombuffer(starts, dtype=np.int64),
        np.frombuffer(stops, dtype=np.int64),
        speakers,
        rank[np.frombuffer(speaker_index, dtype=np.int32)],
    )
