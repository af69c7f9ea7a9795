"""Embeddings of every audio file below a folder, each in a file of its own."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.inference.audio_tree import list_audio_files, output_names
from speechbrain_ext.inference.forgiving import (
    Failure,
    ForgivingEmbedder,
    batches_of,
    read_ahead,
    read_durations,
)
from speechbrain_ext.inference.output_folder import claim_folder

FAILURES = "failures.tsv"

_STOPPING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass
class FolderReport:
    """What became of the files below a folder.

    Arguments
    ---------
    written, present : int
        Embeddings written now, and those that were there already.
    failures : list of Failure
        The files that have none, by path.
    ignored : Counter
        Number of other files by their ending.
    kept_endings : int
        Audio files whose embedding keeps the ending in its name, because another has the same name.
    """

    written: int = 0
    present: int = 0
    failures: list[Failure] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    kept_endings: int = 0


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
    """Write the embedding of ``<audio>/a/b/c.flac`` to ``<out>/a/b/c.npy``, and so on.

    Files of any format, sample rate and number of channels are read by
    :func:`~speechbrain_ext.audio.read_any_audio`. An embedding that is there and not
    older than its audio is left alone, so a run that was killed goes on. Files without an embedding
    are listed in ``<out>/failures.tsv``, which is there only when there are some.

    Arguments
    ---------
    encoder : Module
        Maps ``(wavs, lengths)`` to embeddings (B, 1, D); in eval mode, on ``device``.
    audio : str or path
        The folder, looked through at any depth.
    out : str or path
        Where the embeddings go: ``.npy`` files of (D,) float32.
    facts : mapping, optional
        From :func:`~speechbrain_ext.inference.output_folder.model_facts`: kept in ``out``, which
        must not be another model's.
    least_samples : int
        Shorter files at 16 kHz fail; see
        :func:`~speechbrain_ext.inference.pretrained.least_samples`.
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
        When ``audio`` is no folder or holds no audio, or ``out`` is another model's or cannot be
        written.

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
    >>> np.load(folder / "out" / "a.npy").shape
    (512,)
    """
    audio, out = Path(audio), Path(out)
    if not audio.is_dir():
        raise UserError(f"{audio}: there is no such folder; give one that holds audio files.")
    tree = list_audio_files(audio, out)
    if not tree.files and not tree.unlisted:
        found = f" (but {_counted(tree.ignored)})" if tree.ignored else ""
        raise UserError(f"{audio} holds no audio file{found}: give another folder.")
    if facts is not None:
        claim_folder(out, facts)
    targets = output_names(tree.files)
    report = FolderReport(ignored=tree.ignored)
    report.failures = [Failure(path or ".", "unreadable", why) for path, why in tree.unlisted]
    report.kept_endings = sum(name == f"{file}.npy" for file, name in targets.items())

    missing = [file for file in tree.files if not _is_done(audio / file, out / targets[file])]
    report.present = len(tree.files) - len(missing)
    seconds = read_durations(audio, missing, num_workers, report.failures, progress)
    batches = batches_of(seconds, max_batch_seconds)
    work = ForgivingEmbedder(encoder, device, least_samples)
    with tqdm(
        total=len(seconds), desc="embedding", unit=" files", disable=not progress
    ) as progress_bar:
        for names, signals in read_ahead(audio, batches, num_workers):
            vectors, failed = work(names, signals)
            for name, vector in vectors.items():
                problem = _save(out / targets[name], vector)
                if problem:
                    failed.append(Failure(name, "output", problem))
                else:
                    report.written += 1
            report.failures += failed
            progress_bar.update(len(names))
    report.failures.sort()
    _write_failures(out / FAILURES, report.failures)
    return report


def _is_done(audio: Path, embedding: Path) -> bool:
    try:
        return embedding.stat().st_mtime_ns >= audio.stat().st_mtime_ns
    except OSError:  # no embedding yet, or a broken link, which reading will tell
        return False


def _save(path: Path, vector: np.ndarray) -> str:
    """Write an embedding; return what went wrong, or nothing."""
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, vector)
    except OSError as error:
        if error.errno in _STOPPING:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): mend that and run again to go on."
            ) from None
        return f"{path} cannot be written ({error.strerror})"
    return ""


def _write_failures(path: Path, failures: Sequence[Failure]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        file.write("path\tcause\tdetail\n")
        for failure in failures:
            name = failure.path.replace("\t", "\\t").replace("\n", "\\n")
            file.write(f"{name}\t{failure.cause}\t{failure.detail}\n")


def _counted(ignored: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in ignored.most_common(5))
