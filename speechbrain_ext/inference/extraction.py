"""Embeddings of many utterances, each computed once, the same alone or in any batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from speechbrain_ext.audio import AudioFault, read_audio
from speechbrain_ext.errors import UserError
from speechbrain_ext.workers import reading_options


class UtteranceBatch(NamedTuple):
    """Utterances padded with zeros: IDs, waveforms (B, samples), relative lengths (B,) or None."""

    ids: list[str]
    wavs: Tensor
    lengths: Tensor | None


class _Batches(Dataset):
    """Batches of utterances of like length; an item is a whole batch."""

    def __init__(self, batches: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> UtteranceBatch | UserError:
        try:
            wavs = [_read(row["wav"]) for row in self.batches[index]]
        except UserError as error:
            # Raised in a worker, it would reach the user inside a traceback.
            return error
        samples = torch.tensor([len(wav) for wav in wavs])
        longest = int(samples.max())
        padded = torch.stack([nn.functional.pad(wav, (0, longest - len(wav))) for wav in wavs])
        lengths = None if bool((samples == longest).all()) else samples / longest
        return UtteranceBatch([row["ID"] for row in self.batches[index]], padded, lengths)


def _read(path: str) -> Tensor:
    try:
        return read_audio(path)
    except AudioFault as fault:
        raise UserError(
            f"{path} cannot be used ({fault.detail}): make it again, or take it out of the list "
            "(of a manifest by running stage 1 again)"
        ) from None


def utterance_loader(
    rows: Iterable[Mapping[str, Any]],
    max_batch_seconds: float = 60.0,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Batches of padded utterances, longest first.

    Arguments
    ---------
    rows : iterable of mappings
        Rows of a manifest: ``ID``, ``wav``, ``duration`` in seconds.
    max_batch_seconds : float
        Speech in a batch, padding included; a longer utterance is a batch of its own.
    num_workers : int
        Processes that read files.
    rank, world_size : int
        This process takes every ``world_size``-th batch, from the ``rank``-th on.

    Returns
    -------
    DataLoader
        Gives :class:`UtteranceBatch`, or a :class:`UserError` for a batch that cannot be read.
    """
    batches: list[list[Mapping[str, Any]]] = []
    for row in sorted(rows, key=lambda row: (-float(row["duration"]), row["ID"])):
        current = batches[-1] if batches else []
        if current and (len(current) + 1) * float(current[0]["duration"]) <= max_batch_seconds:
            current.append(row)
        else:
            batches.append([row])
    mine = _Batches(batches[rank::world_size])
    return DataLoader(mine, batch_size=None, **reading_options(num_workers))


@torch.no_grad()
def embed_batch(
    encoder: nn.Module, batch: UtteranceBatch | UserError, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Embed a batch of :func:`utterance_loader`.

    Arguments
    ---------
    encoder : Module
        A :class:`~speechbrain_ext.lobes.encoders.SpeakerEncoder`, in eval mode.
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
    lengths = None if batch.lengths is None else batch.lengths.to(device)
    vectors = encoder(batch.wavs.to(device), lengths).squeeze(1).float().cpu().numpy()
    return dict(zip(batch.ids, vectors, strict=True))


def gather_embeddings(mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The embeddings of all processes, on each of them; without torchrun, just those given."""
    if not torch.distributed.is_initialized():
        return mine
    parts: list[dict[str, np.ndarray]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return {name: vector for part in parts for name, vector in part.items()}
