"""Several teachers as one."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import HiddenOutputs, Teacher, TeacherOutput


class EnsembleTeacher(Teacher):
    """Teachers whose cosine scores are averaged by weights, as one teacher.

    The embeddings, each of unit length times the root of its teacher's weight, are joined: the
    cosine of two such vectors is the weighted mean of the teachers' cosines. As the teachers
    themselves, it has no gradient and is always in eval mode.

    Arguments
    ---------
    teachers : mapping of str to Teacher
        The teachers by name.
    weights : mapping of str to float
        A weight for each, positive; only their proportions count.

    Raises
    ------
    ValueError
        When there is no teacher, the names of teachers and weights differ, or a weight is not
        positive.

    Example
    -------
    >>> from speechbrain_ext.distill.teacher import FrozenTeacher
    >>> from speechbrain_ext.lobes.encoders import SpeakerEncoder
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> small, large = (MLPMixer(channels=c, num_blocks=1, lin_neurons=c) for c in (8, 16))
    >>> teachers = {
    ...     "small": FrozenTeacher(SpeakerEncoder(LogMel(), UtteranceNorm(), small)),
    ...     "large": FrozenTeacher(SpeakerEncoder(LogMel(), UtteranceNorm(), large)),
    ... }
    >>> teacher = EnsembleTeacher(teachers, {"small": 1, "large": 3})
    >>> teacher.layers, teacher.weights
    ({'small.block1': 8, 'large.block1': 16}, {'small': 0.25, 'large': 0.75})
    >>> teacher(torch.randn(2, 16000)).embedding.shape
    torch.Size([2, 24])
    """

    def __init__(self, teachers: Mapping[str, Teacher], weights: Mapping[str, float]) -> None:
        super().__init__()
        if not teachers:
            raise ValueError("teachers must name at least one teacher, got none")
        if teachers.keys() != weights.keys():
            raise ValueError(
                f"weights has {sorted(weights)} and teachers has {sorted(teachers)}: give each "
                "teacher its weight"
            )
        if not all(weight > 0 and math.isfinite(weight) for weight in weights.values()):
            raise ValueError(f"weights must be positive, got {dict(weights)}")
        total = sum(weights.values())
        self.weights = {name: weights[name] / total for name in teachers}
        self.teachers = nn.ModuleList(teachers.values())
        self._members = tuple(teachers.values())
        self.layers = {
            f"{name}.{layer}": channels
            for name, teacher in teachers.items()
            for layer, channels in teacher.layers.items()
        }
        self.embedding_size = sum(teacher.embedding_size for teacher in teachers.values())
        counts = [teacher.num_parameters for teacher in teachers.values()]
        known = [count for count in counts if count is not None]
        self.num_parameters = sum(known) if len(known) == len(counts) else None
        self.eval()

    @property
    def hears_crop(self) -> bool:  # type: ignore[override]
        """Whether the output of every teacher follows from the crop it is given."""
        return all(teacher.hears_crop for teacher in self._members)

    @property
    def embeds_speakers(self) -> bool:  # type: ignore[override]
        """Whether the embeddings of every teacher are of speakers."""
        return all(teacher.embeds_speakers for teacher in self._members)

    def prepare(self, manifest: str | os.PathLike[str], speeds: Sequence[float] = (1.0,)) -> None:
        """Have every teacher get ready for the utterances of a training manifest."""
        for teacher in self._members:
            teacher.prepare(manifest, speeds)

    @torch.no_grad()
    def forward(
        self,
        wavs: Tensor,
        lengths: Tensor | None = None,
        ids: list[str] | None = None,
        starts: list[int] | None = None,
    ) -> TeacherOutput:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Teacher`.

        Embeddings (B, sum of the teachers' D) are float32 and of unit length; hidden outputs are
        named ``teacher.layer``.
        """
        embeddings = []
        hidden = HiddenOutputs()
        for name, teacher in zip(self.weights, self._members, strict=True):
            output = teacher(wavs, lengths, ids, starts)
            embeddings.append(output.embedding)
            hidden.update({f"{name}.{layer}": value for layer, value in output.hidden.items()})
        return TeacherOutput(self._join(embeddings), hidden)

    @torch.no_grad()
    def embed(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Teacher`."""
        return self._join([teacher.embed(wavs, lengths) for teacher in self._members])

    def _join(self, embeddings: list[Tensor]) -> Tensor:
        """The teachers' embeddings (B, D) as one (B, sum of D)."""
        parts = [
            math.sqrt(weight) * F.normalize(embedding.float(), dim=-1)
            for weight, embedding in zip(self.weights.values(), embeddings, strict=True)
        ]
        return torch.cat(parts, dim=-1)
