"""Embeddings of every audio file below a folder: each in a file of its own, and all in one.

Files are read ahead in batches; each one's failure is kept to itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import zipfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speechbrain_ext.audio import read_audio
from speechbrain_ext.audio_files import AudioFiles, list_audio_files
from speechbrain_ext.errors import UserError
from speechbrain_ext.failures import FAILURES, Failure, write_failures
from speechbrain_ext.files import atomic_path, exclusive
from speechbrain_ext.formats import SAMPLE_RATE, preference, strip_audio_extension
from speechbrain_ext.inference.extraction import UtteranceBatch, embed_batch
from speechbrain_ext.inference.provenance import claim_for_model
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.sound import AudioFault, read_header
from speechbrain_ext.verification.embeddings import Embeddings, save_embeddings
from speechbrain_ext.verification.lists import composed
from speechbrain_ext.workers import in_threads

RECORD = "embeddings.jsonl"
#: All embeddings of the folder together.
TOGETHER = "embeddings.npz"

_MOST_FILES = 256  # in a batch, however short they are
_STOPPING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass
class FolderReport:
    """What became of the files below a folder.

    Arguments
    ---------
    written, present, removed : int
        Embeddings written now, those that were there already, and those taken away because their
        audio is gone or can no longer be embedded.
    failures : list of Failure
        The files that have none, by path.
    ignored : Counter
        Number of other files by their ending.
    """

    written: int = 0
    present: int = 0
    removed: int = 0
    failures: list[Failure] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def embed_folder(
    encoder: nn.Module,
    audio: str | os.PathLike[str],
    out: str | os.PathLike[str],
    facts: Mapping[str, Any] | None = None,
    least_samples: int = 1,
    max_batch_seconds: float = 60.0,
    num_workers: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> FolderReport:
    """Write the embedding of ``<audio>/a/b/c.flac`` to ``<out>/a/b/c.flac.npy``, and so on.

    Files of any format, sample rate and number of channels are read by
    :func:`~speechbrain_ext.audio.read_audio`. ``<out>/embeddings.jsonl`` has the path, size and
    time of change of the audio of each embedding. One whose audio is still that is left alone, so a
    run that was killed goes on; one whose audio has changed or is gone is removed. Files without an
    embedding are listed in ``<out>/failures.tsv``, which is there only when there are some.

    ``<out>/embeddings.npz`` has all of them in the form of
    :mod:`~speechbrain_ext.verification.embeddings`, as ``score.py`` reads it. There an utterance is
    called by the path of its file without the ending, as in lists; of one in several formats it is
    the first by :func:`~speechbrain_ext.formats.preference`.

    Arguments
    ---------
    encoder : Module
        Maps ``(wavs, lengths)`` to embeddings (B, 1, D); in eval mode, on ``device``.
    audio : str or path
        The folder, looked through at any depth.
    out : str or path
        Where the embeddings go: ``.npy`` files of (D,) float32.
    facts : mapping, optional
        From :func:`~speechbrain_ext.inference.provenance.model_facts`: kept in ``out``, which
        must not be another model's, nor hold embeddings of another folder.
    least_samples : int
        Shorter files at 16 kHz fail; see
        :func:`~speechbrain_ext.systems.pretrained.least_samples`.
    max_batch_seconds : float
        Speech in a batch, padding included; a longer file is a batch of its own.
    num_workers : int
        Threads that read files ahead; 0 reads when needed.
    device : str or device
        Where the encoder is.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    FolderReport

    Raises
    ------
    UserError
        When ``audio`` is no folder or holds no audio, or ``out`` is another model's or another
        folder's or cannot be written.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ext.lobes.encoders import SpeakerEncoder
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> folder = getfixture("tmp_path")
    >>> (folder / "in").mkdir()
    >>> soundfile.write(folder / "in" / "a.flac", 0.1 * np.random.randn(8000, 2), 8000)
    >>> network = MLPMixer(channels=16, num_blocks=1)
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), network).eval()
    >>> embed_folder(encoder, folder / "in", folder / "out").written
    1
    >>> np.load(folder / "out" / "a.flac.npy").shape
    (512,)
    """
    audio, out = Path(audio), Path(out)
    if not audio.is_dir():
        raise UserError(
            f"{audio}: there is no such folder; give one that holds audio files.",
            code="missing-folder",
        )
    tree = list_audio_files(audio, out)
    if not tree.files and not tree.unlisted:
        found = f" (but {_counted(tree.ignored)})" if tree.ignored else ""
        raise UserError(
            f"{audio} holds no audio file{found}: give another folder.", code="no-audio"
        )
    if facts is not None:
        claim_for_model(out, {**facts, "audio": os.path.realpath(audio)})
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out), _Record(out, audio, tree) as record:
        report = FolderReport(present=len(record.present), ignored=tree.ignored)
        report.failures = [Failure(path or ".", "unreadable", why) for path, why in tree.unlisted]
        missing = [file for file in tree.files if file not in record.present]
        seconds = _read_durations(audio, missing, num_workers, report.failures, progress)
        batches = batches_of(seconds, max_batch_seconds)
        work = _Embedder(encoder, device, least_samples)
        with progress_bar(
            total=len(seconds), desc="embedding", unit=" files", disable=not progress
        ) as bar:
            for names, signals in _read_ahead(audio, batches, num_workers):
                vectors, failed = work(names, signals)
                for name, vector in vectors.items():
                    problem = record.save(name, vector)
                    if problem:
                        failed.append(Failure(name, "output", problem))
                    else:
                        report.written += 1
                report.failures += failed
                bar.update(len(names))
        report.removed = len(record.removed)
        record.put_together(facts or {})
    report.failures.sort()
    write_failures(out / FAILURES, report.failures)
    return report


def _read_durations(
    folder: Path, files: Sequence[str], threads: int, failures: list[Failure], progress: bool
) -> dict[str, float]:
    """Seconds of each file that its header says can be read; infinity where it does not tell."""

    def look(name: str) -> float | Failure:
        try:
            header = read_header(folder / name)
        except AudioFault as fault:
            return Failure(name, fault.cause, fault.detail)
        if header is None or header.frames is None:
            return math.inf
        return header.frames / header.sample_rate

    seconds = {}
    with (
        in_threads(look, files, threads) as results,
        progress_bar(desc="looking", total=len(files), unit=" files", disable=not progress) as bar,
    ):
        for name, result in zip(files, results, strict=True):
            bar.update()
            if isinstance(result, Failure):
                failures.append(result)
            else:
                seconds[name] = result
    return seconds


def batches_of(seconds: Mapping[str, float], limit: float) -> list[list[str]]:
    """Files of like length together, longest first; one of unknown length alone."""
    batches: list[list[str]] = []
    longest = math.inf
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        size = len(batches[-1]) + 1 if batches else 1
        if 1 < size <= _MOST_FILES and size * longest <= limit:
            batches[-1].append(name)
        else:
            batches.append([name])
            longest = seconds[name]
    return batches


def _read_ahead(
    folder: Path, batches: Iterable[list[str]], threads: int
) -> Iterator[tuple[list[str], list[Tensor | AudioFault]]]:
    """Read batches in threads, no more than one for each thread ahead.

    Threads share memory; processes would hand over an hour of speech through ``/dev/shm``, which
    is small in a container.
    """

    def read(names: list[str]) -> tuple[list[str], list[Tensor | AudioFault]]:
        return names, [_read(folder / name) for name in names]

    if threads < 1:
        yield from map(read, batches)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[list[str], list[Tensor | AudioFault]]]] = deque()
        try:
            for names in batches:
                waiting.append(pool.submit(read, names))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(path: Path) -> Tensor | AudioFault:
    try:
        return read_audio(path)
    except AudioFault as fault:
        return fault
    except (MemoryError, RuntimeError) as error:
        cause = "memory" if _is_want_of_memory(error) else "unreadable"
        return AudioFault(cause, _words(error))


class _Embedder:
    """Embeds a batch; what fails in it is tried alone."""

    def __init__(self, encoder: nn.Module, device: str | torch.device, least: int) -> None:
        self.encoder, self.device, self.least = encoder, device, least

    def __call__(
        self, names: Sequence[str], signals: Sequence[Tensor | AudioFault]
    ) -> tuple[dict[str, np.ndarray], list[Failure]]:
        usable: dict[str, Tensor] = {}
        failures = []
        for name, signal in zip(names, signals, strict=True):
            if isinstance(signal, AudioFault):
                failures.append(Failure(name, signal.cause, signal.detail))
            elif len(signal) < self.least:
                detail = f"{len(signal)} samples at {SAMPLE_RATE} Hz, fewer than {self.least}"
                failures.append(Failure(name, "too_short", detail))
            else:
                usable[name] = signal
        vectors, failed = self._embed(usable)
        return vectors, failures + failed

    def _embed(self, usable: dict[str, Tensor]) -> tuple[dict[str, np.ndarray], list[Failure]]:
        if not usable:
            return {}, []
        batch = UtteranceBatch.of(list(usable), list(usable.values()))
        try:
            vectors = embed_batch(self.encoder, batch, self.device)
        except (RuntimeError, ValueError, MemoryError) as error:
            if len(usable) == 1:
                cause = "memory" if _is_want_of_memory(error) else "model"
                return {}, [Failure(next(iter(usable)), cause, _words(error))]
            alone = [self._embed({name: signal}) for name, signal in usable.items()]
            return (
                {name: vector for found, _ in alone for name, vector in found.items()},
                [failure for _, failed in alone for failure in failed],
            )
        failed = []
        for name in usable:
            if not np.isfinite(vectors[name]).all():
                failed.append(Failure(name, "not_finite", "an embedding that is not finite"))
                del vectors[name]
        return vectors, failed


def _is_want_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "memory" in str(error)  # PyTorch's is a RuntimeError


def _words(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


class _Record:
    """The embeddings in a folder, each with the size and time of change of its audio.

    When it is opened, what is not true of the audio any more is removed.
    """

    def __init__(self, out: Path, audio: Path, tree: AudioFiles) -> None:
        self.out, self.path, self.together = out, out / RECORD, out / TOGETHER
        self.stamps = {file: _stamp(audio / file) for file in tree.files}
        known = self._read()
        self.present = {
            file
            for file, stamp in known.items()
            if self.stamps.get(file) == stamp and self._target(file).is_file()
        }
        # Of what lies below a folder that cannot be listed now, nothing is known.
        unseen = tuple(f"{folder}/" if folder else "" for folder, _ in tree.unlisted)
        kept = {file for file in known if file in self.present or file.startswith(unseen)}
        self.removed = {file for file in known.keys() - kept if self._target(file).is_file()}
        self.embedded = {file for file in kept if self._target(file).is_file()}
        if self.removed:
            self.together.unlink(missing_ok=True)
        for file in self.removed:
            self._target(file).unlink()
        with atomic_path(self.path) as temporary, open(temporary, "w", encoding="utf-8") as lines:
            lines.writelines(_line(file, known[file]) for file in known if file in kept)

    def __enter__(self) -> _Record:
        self.lines = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()

    def save(self, file: str, vector: np.ndarray) -> str:
        """Write an embedding; return what went wrong, or nothing."""
        path = self._target(file)
        try:
            # The line first: without its embedding it says nothing, if the program ends here.
            self.lines.write(_line(file, self.stamps[file]))
            self.lines.flush()
            self.together.unlink(missing_ok=True)
            with atomic_path(path) as temporary, open(temporary, "wb") as stream:
                np.save(stream, vector)
        except OSError as error:
            if error.errno in _STOPPING:
                raise UserError(
                    f"{path} cannot be written ({error.strerror}): mend that and run again to go "
                    "on.",
                    code="unwritable",
                ) from None
            return f"{path} cannot be written ({error.strerror})"
        self.removed.discard(file)
        self.embedded.add(file)
        return ""

    def put_together(self, facts: Mapping[str, Any]) -> None:
        """Write the one file of all embeddings, unless it is there."""
        if self.together.is_file() or not self.embedded:
            return
        file_of: dict[str, str] = {}
        for file in sorted(self.embedded, key=lambda file: (preference(file), file)):
            file_of.setdefault(composed(strip_audio_extension(file)), file)
        ids = sorted(file_of)
        vectors = np.empty((0, 0), dtype=np.float32)
        for row, name in enumerate(ids):
            vector = self._load(file_of[name])
            if not row:
                vectors = np.empty((len(ids), len(vector)), dtype=np.float32)
            vectors[row] = vector
        weights = str(facts.get("weights_sha256", ""))
        provenance = {key: facts[key] for key in ("made_by", "model", "view") if key in facts}
        try:
            save_embeddings(self.together, Embeddings(ids, vectors, weights, provenance))
        except OSError as error:
            raise UserError(
                f"{self.together} cannot be written ({error.strerror}): mend that and run again to "
                "go on.",
                code="unwritable",
            ) from None

    def _load(self, file: str) -> np.ndarray:
        path = self._target(file)
        try:
            vector: np.ndarray = np.load(path, allow_pickle=False)
            return vector
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} cannot be read ({error}): remove it and run again, which makes it anew.",
                code="damaged-file",
            ) from None

    def _target(self, file: str) -> Path:
        return self.out / f"{file}.npy"

    def _read(self) -> dict[str, tuple[int, int]]:
        known: dict[str, tuple[int, int]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):  # the last line of a run that was killed
                    file, size, changed = json.loads(line)
                    known[file] = size, changed
        return known


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a broken link, which reading will tell
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _line(file: str, stamp: tuple[int, int]) -> str:
    return json.dumps([file, *stamp]) + "\n"


def _counted(ignored: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in ignored.most_common(5))
