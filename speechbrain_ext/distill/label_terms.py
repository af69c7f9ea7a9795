"""Terms of a loss that compare what student and teacher take for whose voice a crop is."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.interfaces import SpeakerRows, StudentOutput, TeacherOutput, Term
from speechbrain_ext.nnet.distributed import mean_of_all


class LabelDistillation(Term):
    """Divergence of the student's probabilities of the training speakers from the teacher's.

    With the cosines c of an embedding with each speaker's row, and those of the teacher's embedding
    with the teacher's rows, both give ``softmax(scale · c / T)``; of a speaker with several rows
    the nearest counts. The term is the Kullback-Leibler divergence from the teacher's to the
    student's, times T², in float32. The student's rows are its classifier's. Neither has a margin,
    which the teacher may not even know. A student with the teacher's rows (``classifier_start``)
    and its embedding has 0.

    It is the mean over the crops with a label, of all processes, and 0 where there are none. The
    teacher hears mixed crops mixed, so its probabilities are of both voices; they count once for
    the label of the one and once for that of the other, by their shares.

    Hinton et al., "Distilling the knowledge in a neural network", 2015.

    Arguments
    ---------
    classifier : SpeakerRows
        The teacher's view of the training speakers:
        :class:`~speechbrain_ext.distill.classifier_start.SpeakerMeans` or
        :class:`~speechbrain_ext.distill.classifier_start.TeacherClassifier`.
    scale : float
        What the cosines of both are multiplied by, positive; as in the student's classification,
        whatever scale the teacher was trained with.
    temperature : float
        T, positive.

    Raises
    ------
    ValueError
        When the scale or the temperature is not positive.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> from speechbrain_ext.interfaces import Target
    >>> means = SimpleNamespace(weights=lambda *_: torch.eye(2))
    >>> term = LabelDistillation(means, scale=2.0)
    >>> term.prepare("train.csv", ["ann", "bob"])
    >>> x, target = torch.eye(2), Target(torch.tensor([0, 1]))
    >>> student = StudentOutput(x, {}, x, logits=torch.zeros(2, 2), targets=(target,))
    >>> term(student, TeacherOutput(x, {}))
    tensor(0.3278)
    """

    uses_teacher = True

    def __init__(
        self, classifier: SpeakerRows, scale: float = 30.0, temperature: float = 1.0
    ) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("temperature", temperature)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.classifier = classifier
        self.scale, self.temperature = scale, temperature
        self.rows = torch.empty(0, 0)  # no buffer: DDP would send it at every step

    def prepare(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        """Have the teacher's row of every speaker.

        Raises
        ------
        UserError, ValueError
            When the teacher has none of a speaker, or the speech has no labels.
        """
        if not speakers:
            raise ValueError(
                f"{type(self).__name__} compares probabilities of speakers, and {manifest} has "
                "none: leave the term out, or train with labels"
            )
        self.rows = self.classifier.weights(manifest, speakers, device).to(device)

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Term`.

        Raises
        ------
        ValueError
            When the student has no classifier, or its speakers or the teacher's embeddings are not
            those of the teacher's rows.
        """
        if student.logits is None:
            raise ValueError(
                f"{type(self).__name__} compares the student's classifier with the teacher's, and "
                "the student has none: leave the term out, or give it a classifier"
            )
        speakers, size = len(self.rows), self.rows.shape[-1]
        if teacher.embedding.shape[1] != size:
            raise ValueError(
                f"{type(self).__name__}: the teacher's embeddings have size "
                f"{teacher.embedding.shape[1]} and its rows of the speakers {size}: make "
                "teacher_classifier of the very teacher, which must be a single one"
            )
        if student.logits.shape[1] != speakers:
            raise ValueError(
                f"{type(self).__name__}: the student's classifier has {student.logits.shape[1]} "
                f"outputs, and there are {speakers} speakers: give it one for each"
            )
        with torch.autocast(self.rows.device.type, enabled=False):
            unit = F.normalize(teacher.embedding.detach().float())
            cosines = (unit @ self.rows.flatten(0, -2).T).reshape(len(unit), speakers, -1).amax(2)
        sharpness = self.scale / self.temperature
        ours, theirs = sharpness * student.logits.float(), sharpness * cosines
        total = ours.new_zeros(())
        for labels, share in student.targets:
            losses = self.compare(ours, theirs, labels.clamp(min=0))
            total = total + share * mean_of_all(losses, labels >= 0)
        return self.temperature**2 * total

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Divergence (B,) of the softmax of (B, S) from that of (B, S), of speakers (B,)."""
        return _divergence(F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1))


class DecoupledLabelDistillation(LabelDistillation):
    """The same in two parts: how sure the teacher is of the speaker, and who resembles them.

    With p the probability of the speaker, the first part is the divergence between (p, 1 - p) of
    student and teacher; the second is that between their probabilities of the other speakers alone,
    which add up to 1. The term is the first plus ``non_target_weight`` times the second.
    :class:`LabelDistillation` is the first plus 1 - p of the teacher's times the second: a teacher
    that is sure of the speaker says nothing there of the others.

    Zhao et al., "Decoupled knowledge distillation", CVPR 2022, arXiv 2203.08679. Truong et al.,
    "Emphasized non-target speaker knowledge in knowledge distillation for automatic speaker
    verification", ICASSP 2024, arXiv 2309.14838, did it for speakers; their code has the weight 2,
    the temperature 1, the scale 32, and a margin on the logits, which here have none.

    Arguments
    ---------
    classifier, scale, temperature
        As :class:`LabelDistillation`.
    non_target_weight : float
        Of the second part, 0 or more; the first has 1.

    Raises
    ------
    ValueError
        As :class:`LabelDistillation`, and when the weight is negative.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> from speechbrain_ext.interfaces import Target
    >>> means = SimpleNamespace(weights=lambda *_: torch.eye(3))
    >>> term = DecoupledLabelDistillation(means, scale=2.0, non_target_weight=1.0)
    >>> term.prepare("train.csv", ["ann", "bob", "cy"])
    >>> x, logits = torch.eye(3)[:1], torch.tensor([[1.0, 0.5, 0.0]])
    >>> student = StudentOutput(x, {}, x, logits=logits, targets=(Target(torch.tensor([0])),))
    >>> term(student, TeacherOutput(x, {}))
    tensor(0.1561)
    """

    def __init__(
        self,
        classifier: SpeakerRows,
        scale: float = 30.0,
        temperature: float = 1.0,
        non_target_weight: float = 2.0,
    ) -> None:
        super().__init__(classifier, scale, temperature)
        if not non_target_weight >= 0:
            raise ValueError(f"non_target_weight must be 0 or more, got {non_target_weight}")
        self.non_target_weight = non_target_weight

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Both parts (B,) of logits (B, S) and (B, S), of speakers (B,)."""
        ours, theirs = _split(student, labels), _split(teacher, labels)
        target, others = (_divergence(x, y) for x, y in zip(ours, theirs, strict=True))
        return target + self.non_target_weight * others


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence (B,) from log-probabilities (B, N) to (B, N)."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the speaker and not (B, 2), and of the others among them (B, S - 1)."""
    own = labels.unsqueeze(1)
    places = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, places + (places >= own))
    both = torch.cat([logits.gather(1, own), others.logsumexp(1, keepdim=True)], dim=1)
    return F.log_softmax(both, dim=1), F.log_softmax(others, dim=1)
