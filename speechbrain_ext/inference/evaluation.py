"""Embeddings of the audio files of trial lists, by one process or several, each made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from torch import Tensor, nn

from speechbrain_ext.corpora.evaluation_lists import Audio
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.extraction import embed_batch, utterance_loader
from speechbrain_ext.inference.store import EmbeddingStore
from speechbrain_ext.progress import progress_bar


class FileEmbedder(NamedTuple):
    """What embeds files, and how.

    Arguments
    ---------
    encoder : Module
        Maps ``(wavs, lengths)`` to embeddings (B, 1, D); in eval mode, on ``device``.
    device : str
        Where it is.
    max_batch_seconds : float
        Speech in a batch; a longer file is one of its own.
    num_workers : int
        Processes that read files ahead; 0 reads when needed.
    """

    encoder: nn.Module
    device: str = "cpu"
    max_batch_seconds: float = 60.0
    num_workers: int = 0

    def embed(
        self,
        missing: Sequence[Audio],
        store: EmbeddingStore,
        change: Callable[[str, Tensor], Tensor] | None = None,
    ) -> None:
        """Embed this process's share of the files and keep it; wait for the others.

        Arguments
        ---------
        missing : sequence of Audio
            The files.
        store : EmbeddingStore
            Where their embeddings go.
        change : callable, optional
            What is done to the waveform (samples,) of each path before.

        Raises
        ------
        UserError
            When a file cannot be read, or has no embedding.
        """
        rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        store.number_parts(rank, world_size)
        ddp_barrier()  # the numbers of the parts follow from what is there
        stamps = {audio.path: audio.stamp for audio in missing}
        rows = [audio.row for audio in missing]
        reading = (self.max_batch_seconds, self.num_workers, rank, world_size, change)
        loader = utterance_loader(rows, *reading)
        shown = bool(rows) and if_main_process()
        try:
            for batch in progress_bar(
                loader, desc="embedding", unit=" batches", disable=not shown, leave=change is None
            ):
                vectors = embed_batch(self.encoder, batch, self.device)
                for path, vector in vectors.items():
                    length = float(np.linalg.norm(vector))
                    if not np.isfinite(length) or length < np.finfo(np.float32).tiny:
                        raise UserError(
                            f"the embedding of {path} is zero or not finite: look at that "
                            "recording, or take it out of the lists.",
                            code="bad-embedding",
                        )
                store.add(vectors, stamps)
        finally:
            store.flush()
        ddp_barrier()
