"""Embeddings of many utterances, each computed once, the same alone or in any batch."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from speechbrain_ext.audio import read_utterance
from speechbrain_ext.corpora.manifest import Texts
from speechbrain_ext.errors import UserError
from speechbrain_ext.sound import AudioFault
from speechbrain_ext.workers import reading_options


class UtteranceBatch(NamedTuple):
    """Utterances padded with zeros: IDs, waveforms (B, samples), relative lengths (B,) or None.

    The lengths are float64: those of long utterances differ by less than float32 tells.
    """

    ids: list[str]
    wavs: Tensor
    lengths: Tensor | None

    @classmethod
    def of(cls, ids: Sequence[str], signals: Sequence[Tensor]) -> UtteranceBatch:
        """Pad waveforms (samples,); one alone, which may be an hour, is not copied."""
        samples = torch.tensor([len(signal) for signal in signals])
        if len(signals) == 1:
            wavs = signals[0].unsqueeze(0)
        else:
            wavs = nn.utils.rnn.pad_sequence(list(signals), batch_first=True)
        whole = bool((samples == wavs.shape[1]).all())
        lengths = None if whole else samples.double() / wavs.shape[1]
        return cls(list(ids), wavs, lengths)


class _Batches(Dataset["UtteranceBatch | UserError"]):
    """Batches of utterances of like length; an item is a whole batch."""

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        max_batch_seconds: float,
        rank: int,
        world_size: int,
        change: Callable[[str, Tensor], Tensor] | None,
    ) -> None:
        self.change = change
        self.ids, self.wavs, durations = Texts(), Texts(), array("d")
        self.starts, self.stops = array("q"), array("q")  # a stop of -1 is the file's end
        for row in rows:
            self.ids.append(row["ID"])
            self.wavs.append(row["wav"])
            self.starts.append(int(row.get("start", 0)))
            self.stops.append(int(row.get("stop", -1)))
            durations.append(float(row["duration"]))
        self.order, self.begins = batches_by_length(np.array(durations), max_batch_seconds)
        self.mine = range(len(self.begins) - 1)[rank::world_size]

    def __len__(self) -> int:
        return len(self.mine)

    def __getitem__(self, index: int) -> UtteranceBatch | UserError:
        begin, end = self.begins[self.mine[index] :][:2]
        utterances = self.order[begin:end].tolist()
        try:
            wavs = [_read(self.wavs[n], self.starts[n], self.stops[n]) for n in utterances]
            if self.change is not None:
                pairs = zip(utterances, wavs, strict=True)
                wavs = [self.change(self.ids[n], wav) for n, wav in pairs]
        except UserError as error:
            # Raised in a worker, it would reach the user inside a traceback.
            return error
        return UtteranceBatch.of([self.ids[utterance] for utterance in utterances], wavs)


def _read(path: str, start: int, stop: int) -> Tensor:
    with tell_unusable(path):
        return read_utterance(path, start, None if stop < 0 else stop)


def batches_by_length(
    seconds: np.ndarray, max_batch_seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Put what is about equally long into batches, the longest first.

    Arguments
    ---------
    seconds : np.ndarray
        Length (N,) of each utterance.
    max_batch_seconds : float
        Speech in a batch, padding included; a longer utterance is a batch of its own.

    Returns
    -------
    (np.ndarray, np.ndarray)
        The places of the N utterances in their new order, and in it where each of the B batches
        begins and the last ends (B + 1,).

    Example
    -------
    >>> batches_by_length(np.array([1.0, 3.0, 2.0]), 4.0)
    (array([1, 2, 0]), array([0, 1, 3]))
    """
    order = np.argsort(-seconds, kind="stable")
    begins: list[int] = []
    longest = 0.0
    for place, duration in enumerate(seconds[order]):
        if not begins or (place - begins[-1] + 1) * longest > max_batch_seconds:
            begins.append(place)
            longest = duration
    return order, np.array([*begins, len(seconds)])


@contextlib.contextmanager
def tell_unusable(path: str) -> Iterator[None]:
    """Tell an :class:`~speechbrain_ext.sound.AudioFault` of a file of a list as a UserError.

    Example
    -------
    >>> with tell_unusable("a.wav"):
    ...     raise AudioFault("empty", "0 bytes")
    Traceback (most recent call last):
    speechbrain_ext.errors.UserError: a.wav cannot be used (0 bytes): make it again, or take it ...
    """
    try:
        yield
    except AudioFault as fault:
        raise UserError(
            f"{path} cannot be used ({fault.detail}): make it again, or take it out of the list "
            "(of a manifest by running stage 1 again)",
            code="unusable-audio",
        ) from None


def utterance_loader(
    rows: Iterable[Mapping[str, Any]],
    max_batch_seconds: float = 60.0,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    change: Callable[[str, Tensor], Tensor] | None = None,
) -> DataLoader[UtteranceBatch | UserError]:
    """Batches of padded utterances, longest first; those of one length in the order given.

    Arguments
    ---------
    rows : iterable of mappings
        ``ID``, ``wav``, ``duration`` in seconds, and ``start`` and ``stop`` in samples where the
        utterance is a section of its file, as a
        :class:`~speechbrain_ext.corpora.manifest.Manifest` gives them; read once.
    max_batch_seconds : float
        Speech in a batch, padding included; a longer utterance is a batch of its own.
    num_workers : int
        Processes that read files.
    rank, world_size : int
        This process takes every ``world_size``-th batch, from the ``rank``-th on.
    change : callable, optional
        What is done to each waveform (samples,) once it is read, by its ``ID``.

    Returns
    -------
    DataLoader
        Gives :class:`UtteranceBatch`, or a :class:`UserError` for a batch that cannot be read.
    """
    mine = _Batches(rows, max_batch_seconds, rank, world_size, change)
    return DataLoader(mine, batch_size=None, **reading_options(num_workers))


@torch.no_grad()
def embed_batch(
    encoder: Callable[..., Tensor],
    batch: UtteranceBatch | UserError,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """Embed a batch of :func:`utterance_loader`.

    Arguments
    ---------
    encoder : callable
        A :class:`~speechbrain_ext.lobes.encoders.SpeakerEncoder`, in eval mode, or what maps
        waveforms (B, samples) and lengths to embeddings (B, 1, D) or (B, D) as well.
    batch : UtteranceBatch or UserError
        The batch; an error in its place is raised.
    device : str or device
        Where the encoder is.

    Returns
    -------
    dict
        Embedding (D,) float32 by utterance ID.
    """
    if isinstance(batch, UserError):
        raise batch
    exact = torch.float32 if torch.device(device).type == "mps" else torch.float64
    lengths = None if batch.lengths is None else batch.lengths.to(device, exact)
    vectors = encoder(batch.wavs.to(device), lengths).squeeze(1).float().cpu().numpy()
    return dict(zip(batch.ids, vectors, strict=True))


def gather_embeddings(mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The embeddings of all processes, on each of them; without torchrun, just those given."""
    if not torch.distributed.is_initialized():
        return mine
    parts: list[dict[str, np.ndarray]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return {name: vector for part in parts for name, vector in part.items()}
