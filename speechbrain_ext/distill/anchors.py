"""Which training utterances an embedding is near: what a student can learn of a teacher without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.distill.embedding_cache import Windows, cached_embeddings
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput, Term
from speechbrain_ext.lobes.encoders import SpeakerEncoder


class AnchorDistillation(Term):
    """Divergence of the student's probabilities of being near each anchor from the teacher's.

    Anchors are the teacher's embeddings of whole training utterances. With the cosines c of an
    embedding with them, both give ``softmax(c / T)``, the student with its own embedding in the
    teacher's space. The term is the Kullback-Leibler divergence from the teacher's to the student's.
    It is a classification of thousands of voices, whose labels are the teacher's opinion: an
    utterance is near itself, near others of its speaker, and a little near who sounds alike.

    Fang et al., "SEED: Self-supervised distillation for visual representation", 2021, arXiv
    2101.04731, with a fixed set in place of a queue, since the teacher's embeddings do not change.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The teacher's network.
    path : str or path
        A folder of caches, as a :class:`~speechbrain_ext.distill.cached_teacher.CachedTeacher` has.
    temperature : float
        T, positive.
    most : int
        Anchors at most; of more utterances they are drawn, evenly over the list.
    speeds, max_batch_seconds, num_workers
        As of :class:`~speechbrain_ext.distill.classifier_start.SpeakerMeans`.
    """

    uses_teacher = True

    def __init__(
        self,
        encoder: SpeakerEncoder,
        path: str | os.PathLike[str],
        temperature: float = 0.05,
        most: int = 16384,
        speeds: Sequence[float] = (1.0,),
        max_batch_seconds: float = 60.0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = [encoder.eval()]  # no module of the student's
        self.path = path
        self.temperature, self.most = temperature, most
        self.speeds = speeds
        self.max_batch_seconds, self.num_workers = max_batch_seconds, num_workers
        self.anchors = torch.empty(0, 0)

    def prepare(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        """Have the anchors."""
        windows = Windows(manifest, self.speeds)
        encoder = self.encoder[0].to(device)
        vectors = cached_embeddings(
            encoder, windows, self.path, self.max_batch_seconds, self.num_workers
        )
        encoder.cpu()
        step = -(-len(vectors) // self.most)
        self.anchors = F.normalize(torch.from_numpy(vectors[::step].copy())).to(device)

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Term`."""
        with torch.autocast(self.anchors.device.type, enabled=False):
            ours, theirs = (
                F.normalize(x.float()) @ self.anchors.T / self.temperature
                for x in (student.embedding, teacher.embedding.detach())
            )
            return F.kl_div(
                F.log_softmax(ours, dim=1),
                F.log_softmax(theirs, dim=1),
                reduction="batchmean",
                log_target=True,
            )
