"""Enrolled speakers: one file, written whole, shared by processes, of one model alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path, exclusive, remove_leftovers
from speechbrain_ext.runtime.decision import choose_threshold
from speechbrain_ext.runtime.heard import Heard, unit
from speechbrain_ext.runtime.hearing import Audio, Recording
from speechbrain_ext.runtime.model import SpeakerModel
from speechbrain_ext.runtime.speakers import FORMAT, Enrolled, Speakers, checked_name

#: Seconds of speech that a speaker is enrolled with at least.
LEAST_SPEECH = 3.0
_ONE = (str, os.PathLike, np.ndarray, Recording, Heard)  # a recording, not a row of them


@dataclass(frozen=True)
class Identification:
    """Whose voice a recording has.

    Arguments
    ---------
    ranked : list of (str, float)
        The nearest speakers and their cosines, best first.
    name : str or None
        The nearest one; None for nobody who is enrolled.
    threshold : float
        The cosine from which on it is somebody.
    operating_point : str
        How it was chosen. A false-alarm rate is that of one comparison: a stranger is compared with
        each of ``speakers``, and taken for one of them up to so many times as often.
    speakers : int
        How many are enrolled.
    seconds_of_speech : float
        In the recording.
    vad : str
        What told speech.
    """

    ranked: list[tuple[str, float]]
    name: str | None
    threshold: float
    operating_point: str
    speakers: int
    seconds_of_speech: float
    vad: str


class Gallery:
    """Enrolled speakers in a file; opened by :meth:`open`.

    Every recording's embedding is kept. A speaker is compared by the mean of them, each of unit
    length. The file is read again whenever another process has changed it.
    """

    def __init__(
        self, path: Path, model: SpeakerModel, enroll_with: SpeakerModel | None = None
    ) -> None:
        self.path, self.model = path, model
        self._enroller = enroll_with or model
        # The file's stamp and what it held then, in one: threads may set it between one another.
        self._known: tuple[tuple[int, ...] | None, Speakers] = None, Speakers.empty(model.dim)
        self._refresh()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: SpeakerModel,
        enroll_with: SpeakerModel | None = None,
    ) -> Gallery:
        """Open a gallery; one that is not there is made with its first speaker.

        Arguments
        ---------
        path : str or path
            The file.
        model : SpeakerModel
            Of all its embeddings.
        enroll_with : SpeakerModel, optional
            The teacher of ``model``, which enrols in its place: a student's embeddings are in its
            teacher's space.

        Returns
        -------
        Gallery

        Raises
        ------
        UserError
            When the file is no gallery, or another model's; when ``enroll_with`` is not known to
            have taught ``model``.
        """
        if enroll_with is not None:
            _check_taught(model, enroll_with)
        return cls(Path(path).expanduser(), model, enroll_with)

    def names(self) -> list[str]:
        """The enrolled speakers, sorted."""
        return sorted(self._refresh().names)

    def enrolled(self, name: str) -> Enrolled:
        """What a speaker is enrolled with.

        Raises
        ------
        UserError
            When nobody of the name is.
        """
        name = checked_name(name)
        kept = self._refresh()
        if name not in kept.names:
            raise self._unknown(name)
        return kept.enrolled(name, "")

    def enroll(
        self,
        name: str,
        audios: Iterable[Audio | Heard],
        sample_rate: int | None = None,
        least_speech: float = LEAST_SPEECH,
    ) -> Enrolled:
        """Enrol a speaker, or add recordings to one.

        Arguments
        ---------
        name : str
            Any text of one line.
        audios : iterable of str, path, np.ndarray, Recording or Heard
            The speaker's recordings, one or more. The same one again changes nothing.
        sample_rate : int, optional
            Of samples; the model's by default.
        least_speech : float
            Seconds of speech that there have to be, with those enrolled before.

        Returns
        -------
        Enrolled

        Raises
        ------
        UserError
            When the name or a recording cannot be used, or there is too little speech.
        """
        return self.enroll_all({name: audios}, sample_rate, least_speech)[0]

    def enroll_all(
        self,
        speakers: Mapping[str, Iterable[Audio | Heard]],
        sample_rate: int | None = None,
        least_speech: float = LEAST_SPEECH,
    ) -> list[Enrolled]:
        """Enrol several speakers in one step: all of them or, where one cannot be, none."""
        added: dict[str, list[Heard]] = {}
        for name, audios in speakers.items():
            heard = added.setdefault(checked_name(name), [])
            for audio in [audios] if isinstance(audios, _ONE) else audios:
                if not isinstance(audio, Heard):
                    audio = self._enroller.hear(audio, sample_rate)
                heard.append(audio)
            if not heard:
                raise UserError(f"{name} has no recording: give one or more", code="missing-option")

        def add(kept: Speakers) -> Speakers:
            kept = kept.with_recordings(added)
            for name, heard in added.items():
                self._check_speech(kept.enrolled(name, heard[0].vad), least_speech)
            return kept

        kept = self._change(add)
        return [kept.enrolled(name, heard[0].vad) for name, heard in added.items()]

    def remove(self, name: str) -> None:
        """Remove a speaker.

        Raises
        ------
        UserError
            When nobody of the name is enrolled.
        """
        name = checked_name(name)

        def remove(kept: Speakers) -> Speakers:
            if name not in kept.names:
                raise self._unknown(name)
            return kept.without(name)

        self._change(remove)

    def identify(
        self,
        audio: Audio | Heard,
        false_alarm: float = 0.01,
        top: int = 5,
        *,
        threshold: float | None = None,
        sample_rate: int | None = None,
    ) -> Identification:
        """Find whose voice a recording has.

        Arguments
        ---------
        audio : str, path, np.ndarray, Recording or Heard
            The recording.
        false_alarm : float
            Of one comparison; see :class:`Identification`.
        top : int
            How many speakers are ranked.
        threshold : float, optional
            A cosine of your own, in place of the model's.
        sample_rate : int, optional
            Of samples; the model's by default.

        Returns
        -------
        Identification

        Raises
        ------
        UserError
            When the recording cannot be used, nobody is enrolled, or the model has no threshold.
        """
        if top < 1:
            raise UserError(f"top {top} is none: give 1 or more", code="bad-option")
        chosen = choose_threshold(self.model.decisions, false_alarm, threshold=threshold)
        kept = self._refresh()
        if not kept.names:
            raise UserError(
                f"{self.path} has no speaker: enrol somebody first", code="unknown-name"
            )
        heard = audio if isinstance(audio, Heard) else self.model.hear(audio, sample_rate)
        scores = kept.means @ unit(heard.embedding)
        few = min(top, len(scores))
        best = np.argpartition(-scores, few - 1)[:few]
        best = best[np.argsort(-scores[best], kind="stable")]
        ranked = [(kept.names[row], float(scores[row])) for row in best]
        return Identification(
            ranked,
            ranked[0][0] if ranked[0][1] >= chosen.value else None,
            chosen.value,
            chosen.operating_point,
            len(kept.names),
            heard.seconds_of_speech,
            heard.vad,
        )

    def _check_speech(self, enrolled: Enrolled, least: float) -> None:
        if enrolled.seconds_of_speech < least:
            missing = np.ceil(10 * (least - enrolled.seconds_of_speech)) / 10
            raise UserError(
                f"{enrolled.name} has {enrolled.seconds_of_speech:.1f} s of speech (by "
                f"{enrolled.vad}), and {least:g} s are wanted: give {missing:.1f} s more, in this "
                "recording or another one",
                code="little-speech",
            )

    def _unknown(self, name: str) -> UserError:
        return UserError(
            f"{self.path} has no speaker {name!r}: give one that it has", code="unknown-name"
        )

    def _refresh(self) -> Speakers:
        """What the file holds now."""
        try:
            stamp = _stamp(self.path)
        except OSError as error:
            raise self._unreadable(error) from None
        known, kept = self._known
        if stamp != known:
            kept = Speakers.empty(self.model.dim) if stamp is None else self._read()
            self._known = stamp, kept
        return kept

    def _change(self, change: Callable[[Speakers], Speakers]) -> Speakers:
        """Change the file as it is now, with no other process between."""
        target = self.path.resolve()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(target.parent):
                remove_leftovers(target)
                kept = self._refresh()
                if kept.names:
                    self._check_enroller(kept)
                kept = change(kept)
                kept.about = self._about()
                with atomic_path(target) as temporary:
                    kept.write(temporary)
                self._known = _stamp(self.path), kept
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}): mend that, or choose another "
                "place",
                code="unwritable",
            ) from None
        return kept

    def _read(self) -> Speakers:
        try:
            kept = Speakers.read(self.path)
        except OSError as error:
            raise self._unreadable(error) from None
        except Exception as error:  # NumPy, zipfile and json have their own, one for each fault
            raise UserError(
                f"{self.path} is no gallery ({error}): give another file", code="damaged-file"
            ) from None
        if kept.about["digest"] != self.model.digest:
            raise UserError(
                f"{self.path} is a gallery of another model ({kept.about['model']}, "
                f"{kept.about['digest'][:12]}), and this is {self.model.digest[:12]}: give that "
                "model, or another gallery",
                code="other-weights",
            )
        if kept.vectors.shape[1] != self.model.dim:
            raise UserError(
                f"{self.path} is no gallery (embeddings of {kept.vectors.shape[1]} numbers, and "
                f"the model's have {self.model.dim}): give another file",
                code="damaged-file",
            )
        return kept

    def _unreadable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path} cannot be read ({error.strerror}): mend that, or give another file",
            code="unreadable-file",
        )

    def _about(self) -> dict[str, Any]:
        title = str(self.model.facts.get("title", ""))
        return {
            "format": FORMAT,
            "digest": self.model.digest,
            "model": " ".join(filter(None, [title, Path(self.model.file).name])),
            "enroller": self._enroller.digest,
        }

    def _check_enroller(self, kept: Speakers) -> None:
        if kept.about["enroller"] != self._enroller.digest:
            raise UserError(
                f"{self.path} has speakers whom the model {kept.about['enroller'][:12]} enrolled, "
                f"and this is {self._enroller.digest[:12]}: enrol with that one, or in another "
                "gallery",
                code="other-weights",
            )


def _check_taught(model: SpeakerModel, teacher: SpeakerModel) -> None:
    taught_by = model.facts.get("taught_by")
    if taught_by is None or taught_by != teacher.facts.get("weights_sha256"):
        raise UserError(
            f"{model.file} is not known to have learnt from {teacher.file}, and only a teacher's "
            "embeddings are in its student's space: give the exported folders of both, or enrol "
            "without a teacher",
            code="no-teacher",
        )
    if model.dim != teacher.dim:
        raise UserError(
            f"{model.file} gives {model.dim} numbers and its teacher {teacher.dim}: enrol without "
            "a teacher",
            code="other-network",
        )


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
