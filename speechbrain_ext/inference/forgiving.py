"""Files of any kind read ahead in batches, embedded, and each one's failure kept to itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from speechbrain_ext.audio import SAMPLE_RATE, AudioFault, read_audio, read_header
from speechbrain_ext.inference.extraction import UtteranceBatch, embed_batch
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.workers import in_threads

_MOST_FILES = 256  # in a batch, however short they are


class Failure(NamedTuple):
    """A file without an embedding: its path below the folder, a word for the cause, the detail."""

    path: str
    cause: str
    detail: str


def read_durations(
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


def read_ahead(
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


class ForgivingEmbedder:
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
