"""A teacher whose embeddings are computed once."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from speechbrain_ext.corpora.manifest import Texts, read_manifest
from speechbrain_ext.distill.embedding_cache import cached_embeddings
from speechbrain_ext.distill.outputs import Layers, TeacherOutput
from speechbrain_ext.lobes.encoders import SpeakerEncoder


class CachedTeacher(nn.Module):
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

    #: Whether the output follows from the crop it is given.
    hears = False

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
        self.layers: dict[str, int] = {}
        self.embedding_size: int = encoder.embedding_size
        self.names = Texts()
        self.table: Tensor
        self.register_buffer("table", torch.empty(0, self.embedding_size), persistent=False)
        self.eval()

    @property
    def num_parameters(self) -> int:
        """Parameters of the embedding model."""
        return sum(p.numel() for p in self.encoder.embedding_model.parameters())

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

    def train(self, mode: bool = True) -> CachedTeacher:
        """Stay in eval mode."""
        return super().train(False)

    def forward(
        self, wavs: Tensor, lengths: Tensor | None = None, ids: list[str] | None = None
    ) -> TeacherOutput:
        """Look utterances up.

        Arguments
        ---------
        wavs : Tensor
            Crops (B, samples) of the utterances; they say only which device to answer on.
        lengths : Tensor, optional
            Not used.
        ids : list of str
            The manifest's names of the B utterances.

        Returns
        -------
        TeacherOutput
            Embeddings (B, D), float32, of the whole utterances.

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
        return TeacherOutput(self.table[torch.from_numpy(rows)], Layers())
