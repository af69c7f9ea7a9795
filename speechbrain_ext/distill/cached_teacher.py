"""A teacher whose embeddings are computed once."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from speechbrain_ext.distill.embedding_cache import Windows, cached_embeddings
from speechbrain_ext.interfaces import HiddenOutputs, Teacher, TeacherOutput
from speechbrain_ext.lobes.encoders import SpeakerEncoder


class CachedTeacher(Teacher):
    """The embeddings of all training utterances, computed before training and looked up by name.

    In the place of a :class:`~speechbrain_ext.distill.teacher.FrozenTeacher`: a training step does
    without the teacher's network, which leaves memory when the cache is there. There are no hidden
    outputs. A crop learns what the teacher heard in the whole utterance, or, with windows, at the
    crop's place: the mean of the window that begins before it and the one that begins after it,
    each weighted by how near it is. Of an utterance shorter than a crop that is exactly what the
    teacher hears in the crop.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The teacher's network.
    path : str or path
        A folder of caches, each named after its windows
        (:mod:`~speechbrain_ext.distill.embedding_cache`). One that was made from another network,
        front end or manifest is refused.
    window : float, optional
        Seconds of a crop, where the teacher is to hear windows of that length; by default it hears
        whole utterances.
    hop : float
        Seconds from one window to the next, or less: they are spread evenly.
    max_batch_seconds : float
        Speech in a batch while the cache is made, padding included.
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
    >>> teacher = CachedTeacher(encoder, folder / "cache", window=0.5, hop=0.25)
    >>> teacher.prepare(folder / "train.csv")
    >>> crops = torch.randn(2, 8000)
    >>> teacher(crops, ids=["spk/a", "spk/a"], starts=[0, 7000]).embedding.shape
    torch.Size([2, 512])
    """

    hears_crop = False

    def __init__(
        self,
        encoder: SpeakerEncoder,
        path: str | os.PathLike[str],
        window: float | None = None,
        hop: float = 1.0,
        max_batch_seconds: float = 60.0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.encoder: SpeakerEncoder | None = encoder.requires_grad_(False)
        self.path = path
        self.window, self.hop = window, hop
        self.max_batch_seconds = max_batch_seconds
        self.num_workers = num_workers
        self.layers = {}
        self.embedding_size = encoder.embedding_size
        self.embeds_speakers = encoder.embeds_speakers
        self.num_parameters = encoder.num_parameters
        self.eval()

    def prepare(self, manifest: str | os.PathLike[str], speeds: Sequence[float] = (1.0,)) -> None:
        """Read the cache of a training manifest, or make it where the encoder is.

        Raises
        ------
        UserError
            As :func:`~speechbrain_ext.distill.embedding_cache.cached_embeddings`.
        """
        assert self.encoder is not None, "a teacher is prepared once"
        self.windows = Windows(manifest, speeds, self.window, self.hop)
        vectors = cached_embeddings(
            self.encoder, self.windows, self.path, self.max_batch_seconds, self.num_workers
        )
        # On the CPU, where it takes no more memory than the system can spare.
        self.table = torch.from_numpy(vectors)
        self.encoder = None

    def forward(
        self,
        wavs: Tensor,
        lengths: Tensor | None = None,
        ids: list[str] | None = None,
        starts: list[int] | None = None,
    ) -> TeacherOutput:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Teacher`.

        Crops say only which device to answer on; embeddings are float32.

        Raises
        ------
        ValueError
            When ``ids`` is missing or names an utterance that the cache has not, or ``starts`` is
            missing and needed.
        """
        if ids is None or (starts is None and self.window is not None):
            raise ValueError("CachedTeacher looks crops up by ids and starts, and one is None")
        found = self.windows.around(ids, starts or [0] * len(ids))
        before, after, shares = map(torch.from_numpy, found)
        embedding = torch.lerp(self.table[before], self.table[after], shares.unsqueeze(1))
        return TeacherOutput(embedding.to(wavs.device), HiddenOutputs())

    @torch.no_grad()
    def embed(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Teacher`."""
        assert self.encoder is not None, "it embeds before it is prepared"
        return self.encoder(wavs, lengths).squeeze(1)
