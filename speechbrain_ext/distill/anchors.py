"""Which training utterances an embedding is near: what a teacher says of speech without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.distill.embedding_cache import Windows, cached_embeddings
from speechbrain_ext.distill.losses import check_sizes, check_temperature, projected
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput, Term
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.systems.experiment import weights_sha256


class Anchors:
    """The teacher's embeddings of training utterances, whole, at every speed.

    A :class:`~speechbrain_ext.distill.cached_teacher.CachedTeacher` without windows shares their
    cache.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The teacher's network.
    path : str or path
        A folder of caches, as a :class:`~speechbrain_ext.distill.cached_teacher.CachedTeacher` has.
    most : int
        Anchors at most. Of more utterances they are drawn, the same in every training.
    speeds : sequence of float
        Those of the training, 1 among them.
    max_batch_seconds : float
        Speech in a batch of whole utterances, padding included.
    num_workers : int
        Processes that read audio while the cache is made.

    Raises
    ------
    ValueError
        When ``most`` is less than 2.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", torch.randn(16000).numpy(), 16000)
    >>> lines = [f"{name},1.0,{folder}/a.wav,0,16000," for name in "abc"]
    >>> text = "\\n".join(["ID,duration,wav,start,stop,spk_id", *lines, ""])
    >>> _ = (folder / "train.csv").write_text(text)
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=1))
    >>> Anchors(encoder, folder / "cache", most=2).vectors(folder / "train.csv").shape
    torch.Size([2, 512])
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        path: str | os.PathLike[str],
        most: int = 16384,
        speeds: Sequence[float] = (1.0,),
        max_batch_seconds: float = 60.0,
        num_workers: int = 0,
    ) -> None:
        if most < 2:
            raise ValueError(f"most must be 2 or more, got {most}: one anchor says nothing")
        self.encoder = encoder.eval()
        self.path = path
        self.most = most
        self.speeds = speeds
        self.max_batch_seconds = max_batch_seconds
        self.num_workers = num_workers

    def vectors(
        self, manifest: str | os.PathLike[str], device: str | torch.device = "cpu"
    ) -> Tensor:
        """The embeddings (N, D) of utterances of a manifest, of unit length, on the CPU.

        Arguments
        ---------
        manifest : str or path
            The training manifest.
        device : str or device
            Where the teacher is computed.

        Raises
        ------
        UserError
            As :func:`~speechbrain_ext.distill.embedding_cache.cached_embeddings`.
        """
        windows = Windows(manifest, self.speeds)
        table = cached_embeddings(
            self.encoder.to(device), windows, self.path, self.max_batch_seconds, self.num_workers
        )
        self.encoder.cpu()
        drawn = np.random.default_rng(0).permutation(len(table))[: self.most]
        return F.normalize(torch.from_numpy(table[np.sort(drawn)]))

    def sha256(self) -> str:
        """A hash of the teacher's weights."""
        return weights_sha256(self.encoder)


class AnchorDistillation(Term):
    """Divergence of the student's probabilities of being near each anchor from the teacher's.

    With the cosines c of an embedding with the anchors, both give ``softmax(c / T)``, the student
    by its own embedding among the teacher's. The term is the Kullback-Leibler divergence from the
    teacher's to the student's, in float32, averaged over the batch. It is a classification of
    thousands of utterances whose labels are the teacher's opinion: a crop is near its own
    utterance, near others of its speaker, and a little near those of who sounds alike. The contrast
    with the batch's others (:class:`~speechbrain_ext.distill.losses.InBatchContrast`) compares with
    tens, and has it that all of them are others.

    Fang et al., "SEED: Self-supervised distillation for visual representation", ICLR 2021, arXiv
    2101.04731. There a queue of the last batches stands in the anchors' place, and the teacher has
    a temperature of its own; here the teacher's embeddings of all speech are known beforehand.

    Arguments
    ---------
    anchors : Anchors
        The teacher's embeddings to be near to.
    temperature : float
        T, positive.
    projection : Module, optional
        Takes the student's embeddings to the teacher's size; that of the distillation by
        ``!ref <projection>``.

    Raises
    ------
    ValueError
        When the temperature is not positive.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> anchors = SimpleNamespace(vectors=lambda *_: torch.eye(2))
    >>> term = AnchorDistillation(anchors, temperature=0.5)
    >>> term.prepare("train.csv", [])
    >>> x = torch.eye(2)
    >>> term(StudentOutput(torch.ones(2, 2), {}, x), TeacherOutput(x, {}))
    tensor(0.3278)
    """

    uses_teacher = True

    def __init__(
        self,
        anchors: Anchors,
        temperature: float = 0.05,
        projection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.temperature = check_temperature(temperature)
        self.projection = projection
        self.rows = torch.empty(0, 0)  # no buffer: DDP would send it at every step

    def prepare(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        """Have the anchors.

        Raises
        ------
        UserError
            As :func:`~speechbrain_ext.distill.embedding_cache.cached_embeddings`.
        """
        self.rows = self.anchors.vectors(manifest, device).to(device)

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Term`.

        Raises
        ------
        ValueError
            When the teacher's embeddings are not those of the anchors, or the student's have
            another size.
        """
        size = self.rows.shape[1]
        if teacher.embedding.shape[1] != size:
            raise ValueError(
                f"{type(self).__name__}: the teacher's embeddings have size "
                f"{teacher.embedding.shape[1]} and the anchors {size}: make anchors of the very "
                "teacher, which must be a single one"
            )
        embedding = projected(student.embedding, self.projection)
        check_sizes(embedding, teacher.embedding)
        with torch.autocast(self.rows.device.type, enabled=False):
            ours, theirs = (
                F.log_softmax(F.normalize(x.float()) @ self.rows.T / self.temperature, dim=1)
                for x in (embedding, teacher.embedding.detach())
            )
            return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
