"""A trained speaker model: recordings to embeddings, scores and decisions."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechbrain_ext.decisions import Decisions, cohort_value, default_top_n, trial_values
from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.decision import COSINE, Decision, choose_threshold
from speechbrain_ext.runtime.engine import Engine
from speechbrain_ext.runtime.folder import ModelFolder, read_decisions
from speechbrain_ext.runtime.heard import Heard, mean_of_parts, unit
from speechbrain_ext.runtime.hearing import Audio, Recording, signal_blocks
from speechbrain_ext.runtime.speech import speech_gate

#: Seconds that are embedded at once. A longer recording's embedding is the mean of its parts'.
LONGEST = 120
#: The model that comes with the package.
OWN_MODEL = Path(__file__).parent / "model"
_WINDOWS_AT_ONCE = 16


class SlidingWindows(NamedTuple):
    """Embeddings along a recording: times (W, 2), start and end in seconds, and (W, D)."""

    times: np.ndarray
    embeddings: np.ndarray


def load_model(
    source: str | os.PathLike[str] | None = None,
    *,
    precision: str | None = None,
    threads: int = 1,
    decisions: str | os.PathLike[str] | None = None,
) -> SpeakerModel:
    """Load a trained model. Nothing of it is executed but its network.

    Arguments
    ---------
    source : str or path, optional
        A folder that ``export.py`` made, or an ONNX file that reads waveforms, or features as
        WeSpeaker and 3D-Speaker have them; by default the model that comes with the package.
    precision : str, optional
        Of a folder's files: ``int8``, ``fp32`` or ``fp16``; the first of these that there is.
    threads : int
        Of the CPU.
    decisions : str or path, optional
        A file of ``spk calibrate``, in place of what the folder decides by.

    Returns
    -------
    SpeakerModel

    Raises
    ------
    UserError
        When there is no such model, or its file is damaged or none of a speaker model.

    Example
    -------
    >>> load_model("no/such/folder")
    Traceback (most recent call last):
    speechbrain_ext.errors.UserError: no/such/folder: there is no such model; give a folder that \
export.py made, or an ONNX file
    """
    if source is None and not OWN_MODEL.is_dir():
        raise UserError(
            "no model comes with this package: give a folder that export.py made, or an ONNX file",
            code="missing-file",
        )
    if threads < 1:
        raise UserError(f"{threads} threads are none: give 1 or more", code="bad-option")
    folder = ModelFolder(Path(OWN_MODEL if source is None else source).expanduser())
    file = folder.file(precision)
    content = folder.read(file)
    return SpeakerModel(
        Engine(content, os.fspath(file), threads),
        folder,
        hashlib.sha256(content).hexdigest(),
        folder.decisions() if decisions is None else read_decisions(Path(decisions)),
    )


class SpeakerModel:
    """Made by :func:`load_model`. Threads may share it.

    Wherever it takes audio, that is the path of a file of any format, rate and number of channels,
    samples (samples,) with their ``sample_rate``, or a :class:`Recording`.

    Attributes
    ----------
    sample_rate : int
        What the network hears, in Hz; recordings are resampled.
    dim : int
        D.
    digest : str
        SHA-256 of the network's file: embeddings of different digests are not compared.
    facts : dict
        What ``model.json`` says; empty of a single file.
    decisions : Decisions or None
        What it decides by.
    """

    def __init__(
        self, engine: Engine, folder: ModelFolder, digest: str, decisions: Decisions | None
    ) -> None:
        self._engine, self._folder = engine, folder
        self.digest, self.decisions = digest, decisions
        self.sample_rate, self.dim = engine.sample_rate, engine.dim
        self.facts: dict[str, Any] = folder.facts

    @property
    def file(self) -> str:
        """The path of the network's file."""
        return self._engine.name

    @property
    def reads(self) -> str:
        """What the network reads: ``waveform`` or ``features``."""
        return self._engine.reads

    def embed(self, audio: Audio, sample_rate: int | None = None) -> np.ndarray:
        """Embed a recording; one of more than two minutes in parts, whose mean it is.

        Arguments
        ---------
        audio : str, path, np.ndarray or Recording
            The recording.
        sample_rate : int, optional
            Of samples; the model's by default.

        Returns
        -------
        np.ndarray
            (D,) float32, as the network gives it; the cosine of two is their score.

        Raises
        ------
        UserError
            When the recording cannot be used.
        """
        return self._embed_blocks(signal_blocks(audio, sample_rate, self.sample_rate))

    def embed_many(
        self, audios: Iterable[Audio], sample_rate: int | None = None
    ) -> Iterator[np.ndarray]:
        """Embed recordings one after another, each as :meth:`embed` does."""
        return (self.embed(audio, sample_rate) for audio in audios)

    def embed_features(self, features: np.ndarray) -> np.ndarray:
        """Embed features (T, F) float32 to (D,) float32.

        Raises
        ------
        UserError
            When the network reads waveforms.
        """
        return self._checked(self._engine.embed_features(features[None])[0])

    def hear(self, audio: Audio, sample_rate: int | None = None) -> Heard:
        """Embed a recording and count its speech, block by block.

        Arguments and errors are those of :meth:`embed`.
        """
        gate, samples = speech_gate(self.sample_rate), 0

        def heard() -> Iterator[np.ndarray]:
            nonlocal samples
            for block in signal_blocks(audio, sample_rate, self.sample_rate):
                gate.add(block)
                samples += len(block)
                yield block

        embedding = self._embed_blocks(heard())
        return Heard(embedding, samples / self.sample_rate, gate.seconds(), gate.name)

    def listen(self, audio: Audio, sample_rate: int | None = None) -> Recording:
        """Read a recording as the network hears it, whole, and count its speech.

        Arguments and errors are those of :meth:`embed`.
        """
        gate, blocks = speech_gate(self.sample_rate), []
        for block in signal_blocks(audio, sample_rate, self.sample_rate):
            gate.add(block)
            blocks.append(block)
        samples = np.concatenate(blocks)
        return Recording(samples, len(samples) / self.sample_rate, gate.seconds(), gate.name)

    def windows(
        self,
        audio: Audio,
        duration: float = 3.0,
        step: float = 1.0,
        sample_rate: int | None = None,
    ) -> SlidingWindows:
        """Embed a window that slides along a recording.

        Arguments
        ---------
        audio : str, path, np.ndarray or Recording
            The recording. One shorter than a window is a window itself.
        duration, step : float
            Seconds of a window, and from one to the next. The last one ends with the recording.
        sample_rate : int, optional
            Of samples; the model's by default.

        Returns
        -------
        SlidingWindows

        Raises
        ------
        UserError
            When the recording cannot be used, or a duration is too short or not finite.
        """
        if not (0.1 <= duration < math.inf and 0.01 <= step < math.inf):
            raise UserError(
                f"windows of {duration} s every {step} s are none: give 0.1 s and 0.01 s at least",
                code="bad-option",
            )
        rate = self.sample_rate
        samples = np.concatenate(list(signal_blocks(audio, sample_rate, rate)))
        width = min(round(duration * rate), len(samples))
        starts: list[int] = list(range(0, len(samples) - width + 1, round(step * rate)))
        if starts[-1] + width < len(samples):
            starts.append(len(samples) - width)
        parts = np.lib.stride_tricks.sliding_window_view(samples, width)
        embeddings = [
            self._engine.embed(parts[starts[row : row + _WINDOWS_AT_ONCE]])
            for row in range(0, len(starts), _WINDOWS_AT_ONCE)
        ]
        times = np.stack((starts, np.add(starts, width)), axis=1) / rate
        return SlidingWindows(times, self._checked(np.concatenate(embeddings)))

    def similarity(
        self, a: Audio | Heard, b: Audio | Heard, sample_rate: int | None = None
    ) -> float:
        """The cosine of two recordings' embeddings, in -1..1.

        Each side is a recording or, as an array (D,), an embedding.
        """
        return float(self._unit(a, sample_rate) @ self._unit(b, sample_rate))

    def verify(
        self,
        a: Audio | Heard,
        b: Audio | Heard,
        false_alarm: float = 0.01,
        *,
        p_target: float | None = None,
        c_miss: float = 1.0,
        c_fa: float = 1.0,
        threshold: float | None = None,
        sample_rate: int | None = None,
    ) -> Decision:
        """Decide whether two recordings are of one speaker.

        Arguments
        ---------
        a, b : str, path, np.ndarray, Recording or Heard
            The recordings.
        false_alarm : float
            The share of pairs of two speakers that may pass, of the rates that the model has an
            operating point for.
        p_target : float, optional
            The prior probability of one speaker: then the decision goes by the log-likelihood
            ratio, at what costs least.
        c_miss, c_fa : float
            The costs of refusing one speaker and of accepting two.
        threshold : float, optional
            A cosine of your own, in place of all that.
        sample_rate : int, optional
            Of samples; the model's by default.

        Returns
        -------
        Decision

        Raises
        ------
        UserError
            When a recording cannot be used, or the model has nothing to decide by.
        """
        chosen = choose_threshold(self.decisions, false_alarm, p_target, c_miss, c_fa, threshold)
        one, other = (
            each if isinstance(each, Heard) else self.hear(each, sample_rate) for each in (a, b)
        )
        score = self.similarity(one, other)
        llr = self.llr(one, other)
        decisive = score if chosen.scale == COSINE else llr
        assert decisive is not None  # choose_threshold refuses a prior without a calibration
        return Decision(
            score,
            llr,
            decisive >= chosen.value,
            chosen.value,
            chosen.scale,
            chosen.operating_point,
            (one.seconds_of_speech, other.seconds_of_speech),
            chosen.supported,
            one.vad,
        )

    def llr(self, one: Heard, other: Heard) -> float | None:
        """The log-likelihood ratio of two recordings; None where the model has no calibration."""
        calibration = self.decisions and self.decisions.calibration
        if not calibration:
            return None
        sides = (one, other)
        cohort: tuple[float, float] | None = None
        if "cohort" in calibration.weights:
            top = default_top_n(len(self.cohort))
            first, second = (cohort_value(self._unit(x), self.cohort, top) for x in sides)
            cohort = first, second
        seconds, norms = (
            (of(one), of(other))
            for of in (lambda x: x.seconds, lambda x: float(np.linalg.norm(x.embedding)))
        )
        score = self.similarity(one, other)
        return float(
            calibration.llr(trial_values(score, seconds=seconds, norms=norms, cohort=cohort))
        )

    @cached_property
    def cohort(self) -> np.ndarray:
        """Embeddings of training speakers, (members, D) of unit length.

        Raises
        ------
        UserError
            When the model's folder has none.
        """
        return self._folder.cohort(self.dim)

    def _unit(self, given: Audio | Heard, sample_rate: int | None = None) -> np.ndarray:
        """The embedding of a recording, of length 1."""
        if isinstance(given, Heard):
            embedding = given.embedding
        elif isinstance(given, np.ndarray) and given.shape == (self.dim,):
            embedding = given
            if not np.isfinite(given).all() or not np.any(given):
                raise UserError(
                    "the embedding is zero or not finite: give another", code="bad-embedding"
                )
        else:
            embedding = self.embed(given, sample_rate)
        return unit(embedding)

    def _embed_blocks(self, blocks: Iterator[np.ndarray]) -> np.ndarray:
        return self._checked(
            mean_of_parts(blocks, self._engine.embed, LONGEST * self.sample_rate, self.sample_rate)
        )

    def _checked(self, embedding: np.ndarray) -> np.ndarray:
        if not np.isfinite(embedding).all() or not np.any(embedding):
            raise UserError(
                f"{self.file} gives an embedding that is zero or not finite: look at the "
                "recording, or give another model",
                code="bad-embedding",
            )
        return embedding
