"""Views of an utterance: whole, as segments of the length of training's crops, or both.

A view is made of an encoder and stands in its place: ``forward(wavs, lengths=None)`` gives
embeddings (B, 1, D'), the same alone and in any padded batch, that are compared by their cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.nnet.masking import whole_lengths


class SegmentsEncoder(nn.Module):
    """Average of the unit-length embeddings of segments, evenly spaced over each utterance.

    Segment k of K begins at sample ``k (n - N) // (K - 1)`` of n, where N is a segment's samples:
    the first begins with the utterance and the last ends with it. An utterance shorter than a
    segment is repeated up to it, as in training, and its K segments are one.

    The dot product of two such averages is the mean of the cosines over all K x K pairs of
    segments, one from each utterance. The average is shorter than 1 by how much its segments
    disagree: the cosine of two averages is that mean divided by both of their lengths.

    The usual score over segments, by their positions and by its mean over pairs: Chung et al.,
    "In defence of metric learning for speaker recognition", 2020 (``clovaai/voxceleb_trainer``),
    with ten segments and Euclidean distances; ``TaoRuijie/ECAPA-TDNN`` with five of 3.015 s that
    wrap around, and cosines.

    Arguments
    ---------
    encoder : SpeakerEncoder
        Maps ``(wavs, lengths)`` to embeddings (B, 1, D); put into eval mode. It is given no more
        samples at a time than the batch has, or one segment.
    num_segments : int
        K, at least 1; one segment is the utterance's first.
    seconds : float
        Length of a segment, positive.

    Raises
    ------
    ValueError
        When there is no segment, or none of a sample's length.

    Example
    -------
    >>> from speechbrain_ext.lobes.encoders import SpeakerEncoder
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=1))
    >>> segments = SegmentsEncoder(encoder, seconds=0.5)
    >>> segments(torch.randn(2, 16000), torch.tensor([1.0, 0.3])).shape
    torch.Size([2, 1, 512])
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_segments: int = 5,
        seconds: float = 3.0,
    ) -> None:
        super().__init__()
        if num_segments < 1:
            raise ValueError(f"num_segments must be at least 1, got {num_segments}")
        samples = round(seconds * SAMPLE_RATE)
        if samples < 1:
            raise ValueError(
                f"a segment needs a sample, and seconds {seconds} at {SAMPLE_RATE} Hz are {samples}"
            )
        self.encoder = encoder
        self.num_segments, self.samples = num_segments, samples
        self.eval()

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding, D."""
        return self.encoder.embedding_size  # type: ignore[return-value]

    @torch.no_grad()
    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms (B, samples) of relative lengths (B,) to (B, 1, D), no longer than 1."""
        batch, longest = wavs.shape
        count = self.num_segments
        spoken = torch.full((batch,), longest, device=wavs.device)
        if lengths is not None:
            spoken = whole_lengths(lengths, longest).clamp(min=1)
        room = (spoken - self.samples).clamp(min=0)
        numbers = torch.arange(count, device=wavs.device)
        starts = (numbers * room[:, None] // max(count - 1, 1)).flatten()
        utterances = torch.arange(batch, device=wavs.device).repeat_interleave(count)
        steps = torch.arange(self.samples, device=wavs.device)
        vectors = []
        at_a_time = max(wavs.numel() // self.samples, 1)
        for rows, first in zip(utterances.split(at_a_time), starts.split(at_a_time), strict=True):
            places = (first[:, None] + steps) % spoken[rows, None]
            vectors.append(_unit(self.encoder(wavs[rows[:, None], places])))
        return torch.cat(vectors).view(batch, count, -1).mean(dim=1, keepdim=True)


class FullAndSegmentsEncoder(nn.Module):
    """The embedding of the whole utterance joined with that of its segments.

    Both have unit length, times the root of a half: the cosine of two such vectors is the mean of
    the cosine of the whole utterances and that of the averages of :class:`SegmentsEncoder`.
    ``TaoRuijie/ECAPA-TDNN`` takes the same mean with the cosines over all pairs of segments,
    which weighs an utterance whose segments disagree less.

    Arguments
    ---------
    encoder : SpeakerEncoder
        Maps ``(wavs, lengths)`` to embeddings (B, 1, D); put into eval mode.
    num_segments : int
        Segments of an utterance, at least 1.
    seconds : float
        Length of a segment, positive.

    Raises
    ------
    ValueError
        When there is no segment, or none of a sample's length.

    Example
    -------
    >>> from speechbrain_ext.lobes.encoders import SpeakerEncoder
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=1))
    >>> both = FullAndSegmentsEncoder(encoder, seconds=0.5)
    >>> both.embedding_size, both(torch.randn(2, 16000)).shape
    (1024, torch.Size([2, 1, 1024]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_segments: int = 5,
        seconds: float = 3.0,
    ) -> None:
        super().__init__()
        self.segments = SegmentsEncoder(encoder, num_segments, seconds)
        self.eval()

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding, 2 D."""
        return 2 * self.segments.embedding_size

    @torch.no_grad()
    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms (B, samples) of relative lengths (B,) to (B, 1, 2 D), of unit length."""
        parts = self.segments.encoder(wavs, lengths), self.segments(wavs, lengths)
        return torch.cat([_unit(part) for part in parts], dim=-1) / math.sqrt(2)


def _whole(encoder: nn.Module) -> nn.Module:
    return encoder.eval()


def _unit(embeddings: Tensor) -> Tensor:
    """Embeddings (B, 1, D) of unit length, in float32."""
    return F.normalize(embeddings.float(), dim=-1)


#: What each name of a view makes of an encoder.
VIEWS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "full": _whole,
    "segments": SegmentsEncoder,
    "both": FullAndSegmentsEncoder,
}
