"""Embeddings of all training speech by a frozen network, computed once and kept in a folder.

The folder is named after the windows that are embedded (:attr:`Windows.name`), so those of one
network lie side by side.

    made_from.npz       what they follow from: the weights, what network and front end make of a
                        signal, and the utterances
    embeddings.npy      a row (D,) float32 for each window; ``unfinished.npy`` while it is made

Rows are written in place, a batch at a time, by as many processes as there are, and one that is
not there yet holds NaN. So a run that was killed at any moment goes on with the batch that it was
at, and in the end the file has its name. It is mapped into memory, and never read as a whole.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.utils.distributed import ddp_barrier, ddp_broadcast, if_main_process
from speechbrain.utils.logger import get_logger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.manifest import Texts, read_manifest
from speechbrain_ext.corpora.speeds import (
    at_speed,
    fill_crop,
    original_first,
    play,
    samples_before,
)
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path, claimed
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.inference.extraction import (
    UtteranceBatch,
    batches_by_length,
    embed_batch,
    tell_unusable,
)
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.sound import check_speech
from speechbrain_ext.systems.experiment import weights_sha256
from speechbrain_ext.workers import reading_options

logger = get_logger(__name__)

MADE_FROM, WHOLE, UNFINISHED = "made_from.npz", "embeddings.npy", "unfinished.npy"
# By how much the same signal may come out otherwise on another device: features, and the embedding
# as a share of its length. Another front end changes either by more.
_FEATURE_TOLERANCE, _EMBEDDING_TOLERANCE = 1e-2, 2e-2
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # as NumPy tells it
_ROWS_AT_A_TIME = 1 << 16
_WAIT_SECONDS = 5.0


class Windows:
    """Which windows of a corpus are embedded, and which of them are around a crop.

    Of an utterance ``room`` samples longer than a window, window k of K begins at sample
    ``k * room // (K - 1)``: the first begins with the utterance and the last ends with it. K is the
    least number at which neighbours are no more than a hop apart. A shorter utterance has one
    window, in which it is repeated as in a crop of training.

    Arguments
    ---------
    manifest : str or path
        For :func:`~speechbrain_ext.corpora.manifest.read_manifest`.
    speeds : sequence of float
        Speeds at which utterances are played, 1 among them.
    seconds : float, optional
        Length of a window; by default the whole utterance is one, whatever its length.
    hop : float
        Seconds of an utterance, before it is played at a speed, from one window to the next.

    Attributes
    ----------
    name : str
        Which windows these are, in a word for a folder.

    Raises
    ------
    UserError
        When the manifest cannot be used.
    ValueError
        When there is no such window or hop, or the speeds are no such list.

    Example
    -------
    >>> path = getfixture("tmp_path") / "train.csv"
    >>> text = "ID,duration,wav,start,stop,spk_id\\nann/1,4.5,ann/1.flac,0,72000,ann\\n"
    >>> _ = path.write_text(text)
    >>> windows = Windows(path, seconds=2.0, hop=1.0)  # at 0, 0.83, 1.67 and 2.5 s
    >>> len(windows), windows.name
    (4, '2s_every_1s')
    >>> [values.tolist() for values in windows.around(["ann/1"], [10000])]
    [[0], [1], [0.75]]
    """

    def __init__(
        self,
        manifest: str | os.PathLike[str],
        speeds: Sequence[float] = (1.0,),
        seconds: float | None = None,
        hop: float = 1.0,
    ) -> None:
        if seconds is not None and not (seconds > 0 and hop > 0):
            raise ValueError(
                f"windows and the hop between them must be longer than 0, got {seconds} and {hop}"
            )
        self.path = manifest
        self.manifest = read_manifest(manifest)
        self.speeds = original_first(speeds)
        self.samples = None if seconds is None else round(seconds * SAMPLE_RATE)
        self.name = "whole" if seconds is None else f"{seconds:g}s_every_{hop:g}s"
        if len(self.speeds) > 1:
            self.name += "_at_" + "_".join(f"{speed:g}" for speed in self.speeds)
        ids, lengths = self.manifest.ids, self.manifest.stops - self.manifest.starts
        if len(self.speeds) == 1:
            self.names = ids
        else:
            self.names = Texts(at_speed(name, speed) for speed in self.speeds for name in ids)
        # What follows is of each utterance at each speed, in the order of the names.
        self.rooms = np.zeros(len(self.names), dtype=np.int64)
        if self.samples is not None:
            needed = [samples_before(self.samples, speed) for speed in self.speeds]
            self.rooms = np.concatenate([lengths - each for each in needed]).clip(min=0)
        counts = 1 - -self.rooms // max(round(hop * SAMPLE_RATE), 1)
        self.begins = np.concatenate(([0], np.cumsum(counts)))

    def __len__(self) -> int:
        return int(self.begins[-1])

    def around(
        self, names: Sequence[str], starts: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The windows that begin before and after B crops do, by their numbers.

        Arguments
        ---------
        names : sequence of str
            The B utterances, each at its speed.
        starts : sequence of int
            The sample of its utterance at which each crop begins.

        Returns
        -------
        (np.ndarray, np.ndarray, np.ndarray)
            The window before (B,), the one after (B,), and how far on the way from one to the other
            the crop begins (B,), in [0, 1).

        Raises
        ------
        ValueError
            When there is no such utterance.
        """
        places = self.names.find(names)
        if places.min() < 0:
            name = names[int(places.argmin())]
            raise ValueError(f"there is no {name} in {self.path} at the speeds {self.speeds}")
        first, last = self.begins[places], self.begins[places + 1] - 1
        steps = np.asarray(starts) / self.rooms[places].clip(min=1) * (last - first)
        before = np.minimum(first + np.floor(steps).astype(np.int64), last)
        return before, np.minimum(before + 1, last), (steps % 1).astype(np.float32)

    def seconds(self) -> np.ndarray:
        """The length (N,) of each window as it is heard."""
        if self.samples is not None:
            return np.full(len(self), self.samples / SAMPLE_RATE)
        return np.concatenate([self.manifest.durations / speed for speed in self.speeds])

    def read(self, numbers: Sequence[int]) -> list[Tensor]:
        """The waveforms (samples,) of windows; neighbours in an utterance are read together.

        Raises
        ------
        UserError
            When a file cannot be used.
        """
        signals = []
        places = np.searchsorted(self.begins, numbers, side="right") - 1
        pairs = zip(places.tolist(), numbers, strict=True)
        for place, of_one in itertools.groupby(pairs, key=lambda pair: pair[0]):
            speed, row = self._utterance(place)
            starts = [self._start(place, number) for _, number in of_one]
            length = row["stop"] - row["start"]
            if self.samples is not None:
                length = min(length, samples_before(self.samples, speed))
            begin, end = row["start"] + starts[0], row["start"] + starts[-1] + length
            with tell_unusable(row["wav"]):
                speech = read_audio(row["wav"], begin, end)
                if self.samples is None:
                    check_speech(speech.numpy())
            pieces = (speech[start - starts[0] :][:length] for start in starts)
            if self.samples is None:
                signals += [play(piece, speed) for piece in pieces]
            else:
                signals += [fill_crop(piece, self.samples, speed) for piece in pieces]
        return signals

    def describe(self, number: int) -> str:
        """The utterance of a window, its file, and where in it the window begins."""
        place = int(np.searchsorted(self.begins, number, side="right")) - 1
        _, row = self._utterance(place)
        seconds = self._start(place, number) / SAMPLE_RATE
        where = "" if self.samples is None else f" at {seconds:.2f} s"
        return f"{self.names[place]} ({row['wav']}{where})"

    def _utterance(self, place: int) -> tuple[float, dict[str, Any]]:
        speed, utterance = divmod(place, len(self.manifest))
        return self.speeds[speed], self.manifest[utterance]

    def _start(self, place: int, number: int) -> int:
        """The sample of its utterance at which a window begins."""
        first, end = self.begins[place : place + 2].tolist()
        return (number - first) * int(self.rooms[place]) // max(end - first - 1, 1)


def cached_embeddings(
    encoder: SpeakerEncoder,
    windows: Windows,
    path: str | os.PathLike[str],
    max_batch_seconds: float = 60.0,
    num_workers: int = 0,
) -> np.ndarray:
    """Embed windows once; later calls read the folder, and one after a kill goes on with it.

    Under torchrun each process embeds its share of the batches. Another training that needs the
    same folder waits.

    Arguments
    ---------
    encoder : SpeakerEncoder
        In eval mode, on the device to use.
    windows : Windows
        What is embedded.
    path : str or path
        The folder in which theirs lies.
    max_batch_seconds : float
        Speech in a batch, padding included.
    num_workers : int
        Processes that read audio.

    Returns
    -------
    np.ndarray
        (N, D) float32, a row for each window in their order; mapped from the file, and private:
        what is written there goes nowhere.

    Raises
    ------
    UserError
        When the folder was made from other weights, features or utterances, or is damaged; when an
        embedding is not finite or a file cannot be used.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", np.random.randn(8000), SAMPLE_RATE)
    >>> text = f"ID,duration,wav,start,stop,spk_id\\na/1,0.5,{folder}/a.wav,0,8000,a\\n"
    >>> _ = (folder / "train.csv").write_text(text)
    >>> windows = Windows(folder / "train.csv")
    >>> network = MLPMixer(channels=16, num_blocks=1)
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), network).eval()
    >>> cached_embeddings(encoder, windows, folder / "cache").shape
    (1, 512)
    >>> torch.nn.init.zeros_(network.fc.bias)[:2]
    tensor([0., 0.], grad_fn=<SliceBackward0>)
    >>> cached_embeddings(encoder, windows, folder / "cache")
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ...cache/whole was made from other weights of the teacher: ...
    """
    folder = Path(path) / windows.name
    facts = _facts(encoder, windows)
    if not _is_whole(folder):
        with _alone(folder):
            if not _is_whole(folder):
                _make(encoder, windows, folder, facts, max_batch_seconds, num_workers)
    _check(folder, facts, windows)
    table = _map(folder / WHOLE, (len(windows), encoder.embedding_size))
    if not _there(table).all():
        raise _damaged(folder, "embeddings are missing")
    return table


def _is_whole(folder: Path) -> bool:
    """Whether there is nothing left to embed, as the first process sees it."""
    return bool(ddp_broadcast((folder / WHOLE).exists()))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other training works in the folder."""
    for place in (folder.parent, folder):
        if place.is_file():
            raise _damaged(place, "it is a file")
    with contextlib.ExitStack() as held:
        refusal = f"{folder} is being made by another training: waiting for its end"

        def claim() -> UserError | None:
            try:
                held.enter_context(claimed(folder, refusal))
            except UserError as error:
                return error
            return None

        # The processes ask together, so that none of them waits longer than their group allows.
        told = False
        while ddp_broadcast(claim() if if_main_process() else None) is not None:
            if not told:
                logger.info(refusal)
            told = True
            time.sleep(_WAIT_SECONDS)
        yield


def _make(
    encoder: SpeakerEncoder,
    windows: Windows,
    folder: Path,
    facts: Mapping[str, Any],
    max_batch_seconds: float,
    num_workers: int,
) -> None:
    """Embed what is not there yet."""
    shape = len(windows), encoder.embedding_size
    if if_main_process() and not (folder / MADE_FROM).exists():
        _write_nothing(folder / UNFINISHED, shape)
        with atomic_path(folder / MADE_FROM) as temporary, open(temporary, "wb") as file:
            np.savez(file, **facts)
    ddp_barrier()
    _check(folder, facts, windows)
    table = _map(folder / UNFINISHED, shape)
    mine = _Missing(windows, _there(table), max_batch_seconds)
    logger.info(f"{folder}: {len(windows):,} embeddings of the teacher")
    loader = DataLoader(mine, batch_size=None, **reading_options(num_workers))
    device = _device_of(encoder)
    silent = not if_main_process()
    # Not through the mapping: of two machines that change a page, a network file system keeps one.
    with open(folder / UNFINISHED, "r+b", buffering=0) as file:
        for batch in progress_bar(loader, desc="embeddings of the teacher", disable=silent):
            for number, vector in embed_batch(encoder, batch, device).items():
                if not np.isfinite(vector).all():
                    raise UserError(
                        "the teacher's embedding of "
                        f"{windows.describe(int(number))} is not finite: look at that recording, "
                        "take it out of the corpus, or choose another teacher",
                        code="bad-embedding",
                    )
                file.seek(table.offset + int(number) * vector.nbytes)
                file.write(vector.tobytes())
        os.fsync(file.fileno())
    ddp_barrier()
    if if_main_process():
        os.replace(folder / UNFINISHED, folder / WHOLE)
    ddp_barrier()


class _Missing(Dataset["UtteranceBatch | UserError"]):
    """The batches of this process of which a row is not there yet; an item is a whole batch.

    They are batches of all windows, whatever is there: so an embedding, which in its last digits
    follows from its batch, does not follow from when a run was killed.
    """

    def __init__(self, windows: Windows, there: np.ndarray, max_batch_seconds: float) -> None:
        rank, world_size = 0, 1
        if torch.distributed.is_initialized():
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.windows = windows
        self.order, self.begins = batches_by_length(windows.seconds(), max_batch_seconds)
        whole = np.logical_and.reduceat(there[self.order], self.begins[:-1])
        missing = np.flatnonzero(~whole)
        # By its own number: while this process looks, another one may fill rows.
        self.mine = missing[missing % world_size == rank]

    def __len__(self) -> int:
        return len(self.mine)

    def __getitem__(self, index: int) -> UtteranceBatch | UserError:
        begin, end = self.begins[self.mine[index] :][:2]
        numbers = self.order[begin:end].tolist()
        try:
            return UtteranceBatch.of(list(map(str, numbers)), self.windows.read(numbers))
        except UserError as error:
            # Raised in a worker, it would reach the user inside a traceback.
            return error


def _write_nothing(path: Path, shape: tuple[int, int]) -> None:
    """Write a table of NaN. What room there must be on the disk is taken now, not in the midst."""
    block = np.full((_ROWS_AT_A_TIME, shape[1]), np.nan, dtype=np.float32)
    with open(path, "wb") as file:
        header = {"descr": block.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, shape[0], len(block)):
            file.write(block[: shape[0] - first].data)
        file.flush()
        os.fsync(file.fileno())


def _there(table: np.ndarray) -> np.ndarray:
    """Which rows (N,) of a table are whole."""
    there = np.empty(len(table), dtype=bool)
    for first in range(0, len(table), _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        there[rows] = np.isfinite(table[rows]).all(axis=1)
    return there


def _device_of(encoder: SpeakerEncoder) -> torch.device:
    # One that comes as a file of another library has buffers alone.
    return next(itertools.chain(encoder.parameters(), encoder.buffers())).device


@torch.no_grad()
def _facts(encoder: SpeakerEncoder, windows: Windows) -> dict[str, Any]:
    """What embeddings follow from.

    Front end and network have few weights or none besides settings of many names: what they make of
    a signal with every frequency and every level tells more.
    """
    seconds = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
    chirp = torch.sin(2 * torch.pi * (50 + 3900 * seconds) * seconds) * 10 ** (-5 * seconds)
    wavs: Tensor = chirp.float().unsqueeze(0).to(_device_of(encoder))
    features = encoder.mean_var_norm(encoder.compute_features(wavs))
    return {
        "weights_sha256": weights_sha256(encoder.embedding_model),
        "manifest_sha256": windows.manifest.sha256,
        "features": features.float().cpu().numpy(),
        "embedding": encoder(wavs).squeeze(1).float().cpu().numpy(),
    }


def _check(folder: Path, facts: Mapping[str, Any], windows: Windows) -> None:
    """Refuse a folder that was made from something else."""
    try:
        with np.load(folder / MADE_FROM, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in facts}
    except _UNREADABLE as error:
        raise _damaged(folder, f"{MADE_FROM}: {error}") from None
    changed = []
    same_weights = str(kept["weights_sha256"]) == facts["weights_sha256"]
    if not same_weights:
        changed.append("other weights of the teacher")
    if str(kept["manifest_sha256"]) != facts["manifest_sha256"]:
        changed.append(f"another {windows.path}")
    same_features = _differ_by(kept["features"], facts["features"]).max() < _FEATURE_TOLERANCE
    difference = np.linalg.norm(_differ_by(kept["embedding"], facts["embedding"]))
    same_embedding = difference <= _EMBEDDING_TOLERANCE * np.linalg.norm(facts["embedding"])
    if not same_features or (same_weights and not same_embedding):
        changed.append("other features (the front end of the teacher, or what it reads)")
    if changed:
        raise UserError(
            f"{folder} was made from {' and '.join(changed)}: remove it, and it will be made anew, "
            "or give another teacher_cache",
            code="other-weights",
        )


def _differ_by(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far two arrays are apart: infinitely, if their shapes differ."""
    return np.abs(one - other) if one.shape == other.shape else np.array([np.inf])


def _map(path: Path, shape: tuple[int, int]) -> np.memmap:
    """Map a table, privately: what is changed there stays in memory."""
    try:
        table: np.memmap = np.load(path, mmap_mode="c", allow_pickle=False)
        if table.shape != shape or table.dtype != np.float32:
            raise ValueError(f"{table.dtype} {table.shape} in place of float32 {shape}")
        return table
    except _UNREADABLE as error:
        raise _damaged(path.parent, f"{path.name}: {error}") from None


def _damaged(folder: Path, why: str) -> UserError:
    return UserError(
        f"{folder} is not a whole cache of embeddings ({why}): remove it, and it will be made",
        code="damaged-file",
    )
