"""What the parts of a system promise each other, as types.

Each class says one contract, and has the code that all share who keep it. A part of anybody's need
not inherit from it: what counts is what it does, which
:func:`~speechbrain_ext.lobes.contract.check_encoder` tries before each training. Who inherits is
checked by mypy as well.

Shapes: B utterances, T frames, F features, C channels, D numbers in an embedding. Channels come
last. Relative lengths (B,), in (0, 1], are the share of the longest utterance that each one fills,
as everywhere in SpeechBrain; None is all of it. A mask (B, T, 1) is true inside the utterance; None
is true everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from speechbrain_ext.errors import brought_by

with brought_by("train"):
    import torch
    from torch import Tensor, nn


class FrontEnd(nn.Module):
    """From waveforms (B, samples) of 16 kHz to features (B, T, F).

    Padding changes no frame of an utterance. Frames after its ``num_frames`` hold no meaning.
    """

    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the features (B, T, F) of waveforms (B, samples)."""
        raise NotImplementedError

    def num_frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances of that many samples: whole numbers, of the same shape."""
        raise NotImplementedError


class Lobe(nn.Module):
    """From features (B, T, F) to embeddings (B, 1, D); a lobe of waveforms reads (B, samples).

    - Padding changes nothing: in eval mode an embedding is the same, within 1e-4, alone and in any
      padded batch. Mask before every operation along time.
    - Any length, from 0.3 s to an hour, in memory and time linear in T.
    - It exports to ONNX with dynamic B and T, compiles, and runs under AMP and DDP. Those that run
      each length apart do not export, and attention takes time that grows with the square of T.

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels C of the hidden outputs, in their order. Terms of a loss and their YAML
        speak of layers by these names.
    embeds_speakers : bool
        Whether its embeddings are of speakers; those of a model that nobody has trained on
        speakers are not.
    """

    embedding_size: int
    layers: dict[str, int]
    embeds_speakers: bool = True

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Embed.

        Hidden outputs are an argument here, since DDP synchronises the gradients only of what
        passes through ``forward``.

        Arguments
        ---------
        feats : Tensor
            Features (B, T, F), or waveforms (B, samples) of 16 kHz.
        lengths : Tensor, optional
            Relative lengths (B,).
        intermediates : bool
            Whether the outputs of ``layers`` are wanted too.

        Returns
        -------
        Tensor, or (Tensor, list of Tensor)
            Embeddings (B, 1, D); with ``intermediates`` also the output (B, T', C) of every layer,
            where T' may be less than T.
        """
        raise NotImplementedError

    def forward_intermediates(
        self, feats: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The embeddings (B, 1, D) of :meth:`forward` and the output (B, T, C) of every layer.

        It calls ``forward``; unlike there, what it returns does not hang on an argument. Training
        calls ``forward``, for the reason given there.
        """
        embedding, hidden = self(feats, lengths, intermediates=True)
        return embedding, hidden


class BackEnd(Protocol):
    """From frames (B, T, C) to embeddings (B, 1, D), under a lobe's promises: any lobe is one."""

    embedding_size: int

    def __call__(self, feats: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed frames (B, T, C) of relative lengths (B,) to (B, 1, D)."""


class Mixer(nn.Module):
    """A layer among frames of one width, made with the channels C: ``mixer(channels)``.

    What stands before it has zeroed the frames outside the utterance; it may leave anything there.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, C), zero outside the utterance, and a mask (B, T, 1) to (B, T, C)."""
        raise NotImplementedError


class HiddenOutputs(dict[str, Tensor]):
    """Hidden outputs by layer; one that is not there is an error that names those that are.

    Example
    -------
    >>> HiddenOutputs(block1=Tensor(1))["block2"]
    Traceback (most recent call last):
    ...
    ValueError: there is no layer 'block2', the layers are: block1
    """

    def __missing__(self, name: str) -> Tensor:
        known = ", ".join(self) or "none"
        raise ValueError(f"there is no layer '{name}', the layers are: {known}")


class Target(NamedTuple):
    """Whose voices a batch holds: speakers' numbers (B,), -1 where nobody knows, and their share.

    The share is 1, or that of these voices in mixed crops.
    """

    labels: Tensor
    share: float = 1.0


class StudentOutput(NamedTuple):
    """A student on a batch: embeddings (B, D), hidden outputs (B, T_i, C_i) by layer, features.

    ``hidden`` is empty where the loss has no terms; ``feats`` (B, T, F) is what the network read.
    ``logits`` (B, S), None without a classifier, are the classifier's cosines with the S speakers,
    without scale or margin. ``targets`` are one, or two of mixed crops, or none where speakers do
    not count.
    """

    embedding: Tensor
    hidden: dict[str, Tensor]
    feats: Tensor
    logits: Tensor | None = None
    targets: tuple[Target, ...] = ()


class TeacherOutput(NamedTuple):
    """A teacher on the same batch: embeddings (B, D'), hidden outputs (B, T_i, C_i) by layer."""

    embedding: Tensor
    hidden: dict[str, Tensor]


class Teacher(nn.Module):
    """What a student learns from: no gradient, always in eval mode, whatever is asked of it.

    ``Brain.fit`` puts its modules into training mode at every epoch. Keep a teacher out of the
    Brain's ``modules`` all the same: it then stays out of the optimiser, of checkpoints and of DDP.

    Attributes
    ----------
    embedding_size : int
        D of its embeddings; the student's may be another.
    layers : dict
        Names and channels of its hidden outputs.
    num_parameters : int or None
        Parameters of its embedding model; None where nobody can count them.
    hears_crop : bool
        Whether its output follows from the waveforms it is given, and not from their names alone.
    embeds_speakers : bool
        Whether its embeddings are of speakers.
    """

    embedding_size: int
    layers: dict[str, int]
    num_parameters: int | None
    hears_crop: bool = True
    embeds_speakers: bool = True

    def prepare(self, manifest: str | os.PathLike[str], speeds: Sequence[float] = (1.0,)) -> None:
        """Get ready, once before training, for a training manifest's utterances at the speeds."""

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode."""
        return super().train(False)

    def forward(
        self,
        wavs: Tensor,
        lengths: Tensor | None = None,
        ids: list[str] | None = None,
        starts: list[int] | None = None,
    ) -> TeacherOutput:
        """Embed waveforms.

        Arguments
        ---------
        wavs : Tensor
            Waveforms (B, samples) of 16 kHz.
        lengths : Tensor, optional
            Relative lengths (B,).
        ids : list of str, optional
            The names of the B utterances, each as the manifest or
            :func:`~speechbrain_ext.corpora.speeds.at_speed` has it; for teachers that look them up.
        starts : list of int, optional
            The sample of its utterance, as it is at its own speed, at which each crop begins.

        Returns
        -------
        TeacherOutput
            Embeddings (B, D) and hidden outputs by layer.
        """
        raise NotImplementedError

    def embed(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed whole utterances (B, samples) of any name to (B, D), before :meth:`prepare`."""
        return self(wavs, lengths).embedding


class SpeakerRows(Protocol):
    """A teacher's view of the training speakers: a row for each, as a classifier has them."""

    def weights(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """The rows (S, D) of S speakers, float32, of unit length; (S, K, D) of K centres of each.

        Arguments
        ---------
        manifest : str or path
            The training manifest.
        speakers : sequence of str
            The S speakers, in the order of the student's labels.
        device : str or device
            Where a teacher is computed.
        """

    def sha256(self) -> str:
        """A hash of the weights that the rows are made from."""


class EmbeddingLoss(Protocol):
    """From the embeddings (B, D) of a student and (B, D') of its teacher to a scalar in float32.

    A class with an attribute ``one_space`` that is true brings each embedding of the student to
    where the teacher has it: the teacher can enrol, and the student verify.
    """

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss."""


class Term(nn.Module):
    """A further term of a loss: from what student and teacher give to a scalar in float32.

    What it learns (projections, decoders) is trained with the student and is no part of it.

    Attributes
    ----------
    uses_teacher : bool
        Whether it listens to the teacher. Every class says so.
    """

    uses_teacher: bool

    def prepare(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        """Get ready for the utterances of a training manifest, once before training.

        Arguments
        ---------
        manifest : str or path
            The training manifest.
        speakers : sequence of str
            The speakers by their numbers.
        device : str or device
            Where the networks are.
        """

    def forward(self, student: StudentOutput, teacher: TeacherOutput) -> Tensor:
        """Compute the term.

        Raises
        ------
        ValueError
            When what is compared does not fit together.
        """
        raise NotImplementedError
