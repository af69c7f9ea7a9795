"""A teacher whose embeddings are computed once, and the file that keeps them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.utils.distributed import ddp_broadcast, if_main_process
from torch import Tensor

from speechbrain_ext.audio import SAMPLE_RATE
from speechbrain_ext.corpora.manifest import Manifest, Texts, read_manifest
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.extraction import (
    embed_batch,
    gather_embeddings,
    utterance_loader,
)
from speechbrain_ext.interfaces import HiddenOutputs, Teacher, TeacherOutput
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.systems.experiment import weights_sha256
from speechbrain_ext.verification.embeddings import (
    BrokenEmbeddings,
    Embeddings,
    read_embeddings,
    save_embeddings,
)


class CachedTeacher(Teacher):
    """The embedding of each whole training utterance, looked up by its name.

    In the place of a :class:`~speechbrain_ext.distill.teacher.FrozenTeacher`: a training step does
    without the teacher's network, and a crop learns what the teacher heard in the whole utterance.
    There are no hidden outputs.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The teacher's network; it runs only when there is no cache yet.
    path : str or path
        The cache, an ``.npz``; one that was made from anything else is refused.
    max_batch_seconds : float
        Speech in a batch of whole utterances, padding included.
    num_workers : int
        Processes that read audio while the cache is made.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", torch.randn(16000).numpy(), 16000)
    >>> text = f"ID,duration,wav,start,stop,spk_id\\nspk/a,1.0,{folder}/a.wav,0,16000,spk\\n"
    >>> _ = (folder / "train.csv").write_text(text)
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=1))
    >>> teacher = CachedTeacher(encoder, folder / "cache.npz")
    >>> teacher.prepare(folder / "train.csv")
    >>> teacher(torch.randn(2, 8000), ids=["spk/a", "spk/a"]).embedding.shape
    torch.Size([2, 512])
    """

    hears_crop = False

    def __init__(
        self,
        encoder: SpeakerEncoder,
        path: str | os.PathLike[str],
        max_batch_seconds: float = 60.0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.path = path
        self.max_batch_seconds = max_batch_seconds
        self.num_workers = num_workers
        self.layers = {}
        self.embedding_size = encoder.embedding_size
        self.num_parameters = sum(p.numel() for p in encoder.embedding_model.parameters())
        self.names = Texts()
        self.table: Tensor
        self.register_buffer("table", torch.empty(0, self.embedding_size), persistent=False)
        self.eval()

    def prepare(self, manifest: str | os.PathLike[str]) -> None:
        """Read the cache of a training manifest, or make it where the encoder is.

        Raises
        ------
        UserError
            When the cache was made from other weights, another manifest or other features.
        """
        vectors = cached_embeddings(
            self.encoder, manifest, self.path, self.max_batch_seconds, self.num_workers
        )
        self.names = read_manifest(manifest).ids
        self.table = torch.from_numpy(vectors)
        self.encoder.cpu()  # it leaves the accelerator's memory to the student

    def forward(
        self, wavs: Tensor, lengths: Tensor | None = None, ids: list[str] | None = None
    ) -> TeacherOutput:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Teacher`.

        Crops say only which device to answer on; embeddings, in float32, are of whole utterances.

        Raises
        ------
        ValueError
            When ``ids`` is missing or names an utterance that the cache has not.
        """
        if ids is None:
            raise ValueError("CachedTeacher looks utterances up by name, and ids is None")
        rows = self.names.find(ids)
        if rows.min() < 0:
            raise ValueError(
                f"{self.path} has no embedding of {ids[rows.argmin()]}: it holds the utterances "
                "of the manifest at their own speed, so set speeds to [1.0] or use FrozenTeacher"
            )
        if self.table.device != wavs.device:
            self.table = self.table.to(wavs.device)
        return TeacherOutput(self.table[torch.from_numpy(rows)], HiddenOutputs())


# Features of one front end differ by less between devices and numbers of threads.
_FEATURE_TOLERANCE = 1e-2


def cached_embeddings(
    encoder: SpeakerEncoder,
    manifest: str | os.PathLike[str],
    path: str | os.PathLike[str],
    max_batch_seconds: float = 60.0,
    num_workers: int = 0,
) -> np.ndarray:
    """Embed whole utterances once; later calls read the file.

    Under torchrun each process embeds its share and the first one writes.

    Arguments
    ---------
    encoder : SpeakerEncoder
        In eval mode, on the device to use.
    manifest : str or path
        For :func:`~speechbrain_ext.corpora.manifest.read_manifest`.
    path : str or path
        The cache, a file of :mod:`~speechbrain_ext.verification.embeddings`.
    max_batch_seconds : float
        Speech in a batch, padding included.
    num_workers : int
        Processes that read audio.

    Returns
    -------
    np.ndarray
        (N, D) float32, of the manifest's N utterances in its order.

    Raises
    ------
    UserError
        When the cache was made from other weights, another manifest or other features, or cannot be
        read.

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
    >>> network = MLPMixer(channels=16, num_blocks=1)
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), network).eval()
    >>> cached_embeddings(encoder, folder / "train.csv", folder / "cache.npz").shape
    (1, 512)
    >>> torch.nn.init.zeros_(network.fc.bias)[:2]
    tensor([0., 0.], grad_fn=<SliceBackward0>)
    >>> cached_embeddings(encoder, folder / "train.csv", folder / "cache.npz")
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ...cache.npz was made from other weights of the teacher: ...
    """
    utterances = read_manifest(manifest)
    weights = weights_sha256(encoder.embedding_model)
    origin = {"manifest_sha256": utterances.sha256, "features": _probe(encoder)}
    # One process decides for all: they embed together or not at all.
    if ddp_broadcast(Path(path).exists()):
        return _read(path, manifest, weights, origin)
    vectors = _embed(encoder, utterances, max_batch_seconds, num_workers)
    if if_main_process():
        save_embeddings(path, Embeddings(list(utterances.ids), vectors, weights, origin))
    return vectors


@torch.no_grad()
def _probe(encoder: SpeakerEncoder) -> np.ndarray:
    """Features of a signal with every frequency and every level.

    A front end has few weights or none, and its settings have many names: what it does tells more.
    """
    seconds = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
    chirp = torch.sin(2 * torch.pi * (50 + 3900 * seconds) * seconds) * 10 ** (-5 * seconds)
    device = next(encoder.parameters()).device
    wavs: Tensor = chirp.float().unsqueeze(0).to(device)
    return encoder.mean_var_norm(encoder.compute_features(wavs)).float().cpu().numpy()


def _embed(
    encoder: SpeakerEncoder, utterances: Manifest, max_batch_seconds: float, num_workers: int
) -> np.ndarray:
    rank, world_size = 0, 1
    if torch.distributed.is_initialized():
        rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    loader = utterance_loader(utterances, max_batch_seconds, num_workers, rank, world_size)
    device = next(encoder.parameters()).device
    vectors: dict[str, np.ndarray] = {}
    silent = not if_main_process()
    for batch in progress_bar(loader, desc="embeddings of the teacher", disable=silent):
        vectors.update(embed_batch(encoder, batch, device))
    vectors = gather_embeddings(vectors)
    return np.stack([vectors[name] for name in utterances.ids])


def _read(
    path: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    weights: str,
    origin: Mapping[str, Any],
) -> np.ndarray:
    try:
        kept = read_embeddings(path)
        missing = [name for name in origin if name not in kept.provenance]
        if missing:
            raise BrokenEmbeddings(f"the array {missing[0]!r} is missing")
    except (FileNotFoundError, BrokenEmbeddings) as error:
        raise UserError(
            f"{path} is not a whole cache of embeddings ({error}): remove it, and it will be made",
            code="damaged-file",
        ) from None
    changed = []
    if kept.weights_sha256 != weights:
        changed.append("other weights of the teacher")
    if str(kept.provenance["manifest_sha256"]) != origin["manifest_sha256"]:
        changed.append(f"another {manifest}")
    one, other = kept.provenance["features"], origin["features"]
    if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=_FEATURE_TOLERANCE):
        changed.append("other features (compute_features or mean_var_norm of the teacher)")
    if changed:
        raise UserError(
            f"{path} was made from {' and '.join(changed)}: remove it, and it will be made anew",
            code="other-weights",
        )
    return kept.vectors
