"""The convolutional front end of wav2vec 2.0, HuBERT and WavLM, exact for padded batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import FrontEnd
from speechbrain_ext.nnet.graphs import makes_graph
from speechbrain_ext.nnet.masking import frame_mask, whole_lengths
from speechbrain_ext.nnet.normalization import UtteranceNorm

# Samples times channels that go through the convolutions at a time when nothing is to be learnt.
PIECE = 20_000_000
# Frames whose moments are taken at a time.
STRETCH = 100_000


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that a frame sees.

    Example
    -------
    >>> receptive_field((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    400
    """
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


class FrameConv(nn.Conv1d):
    """``nn.Conv1d`` without padding, for frames held channels last, (B, T, C).

    Matrix products on views of the frames, with no transposition and no copy of windows: on CPUs
    512 channels train in about half the time of PyTorch's convolution. A graph that is exported or
    compiled has that convolution, which takes any number of frames without a condition.

    Arguments
    ---------
    in_channels, out_channels : int
        Channels.
    kernel_size, stride : int
        In frames.
    bias : bool
        Whether each output channel has a bias.

    Example
    -------
    >>> layer, x = FrameConv(4, 6, kernel_size=3, stride=2), torch.randn(2, 50, 4)
    >>> expected = F.conv1d(x.transpose(1, 2), layer.weight, layer.bias, stride=2).transpose(1, 2)
    >>> layer(x).shape, torch.allclose(layer(x), expected, atol=1e-5)
    (torch.Size([2, 24, 6]), True)
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, T, in_channels) to (B, T', out_channels)."""
        if makes_graph():
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        kernel, stride = self.kernel_size[0], self.stride[0]
        count = (x.shape[1] - kernel) // stride + 1
        whole = kernel - kernel % stride
        # `stride` taps at a time read whole strides: each frame once, where it lies.
        views = [x[:, tap : tap + stride * count] for tap in range(0, whole, stride)]
        views = [view.reshape(x.shape[0], count, stride * self.in_channels) for view in views]
        views += [x[:, tap::stride][:, :count] for tap in range(whole, kernel)]
        # (kernel * in_channels, out_channels), by taps.
        weight = self.weight.permute(2, 1, 0).flatten(0, 1)
        if self.in_channels == 1:  # so little to copy that one product is faster
            views = [torch.cat(views, dim=-1)]
        sizes = [view.shape[2] for view in views]
        first, *others = zip(views, weight.split(sizes), strict=True)
        y = torch.matmul(*first)
        for view, part in others:
            y = torch.baddbmm(y, view, part.expand(x.shape[0], -1, -1))
        return y if self.bias is None else y + self.bias

    def moments(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over time of what :meth:`forward` gives, without making it.

        They follow from the mean and the covariance of the numbers that a frame is made of, which
        for a waveform are as few as the kernel is long.

        Arguments
        ---------
        x : Tensor
            As for :meth:`forward`; finite after an utterance's end.
        counts : Tensor
            Frames T' (B,) of each utterance.

        Returns
        -------
        (Tensor, Tensor)
            (B, 1, out_channels) each, computed in float64.

        Example
        -------
        >>> layer, x = FrameConv(1, 6, kernel_size=10, stride=5), torch.randn(2, 800, 1)
        >>> mean, variance = layer.moments(x, torch.tensor([159, 159]))
        >>> torch.allclose(variance, layer(x).var(dim=1, correction=0, keepdim=True), atol=1e-5)
        True
        """
        windows = x.unfold(1, self.kernel_size[0], self.stride[0]).flatten(2)
        inside = torch.arange(windows.shape[1], device=x.device) < counts.unsqueeze(-1)
        exact = torch.float32 if x.device.type == "mps" else torch.float64  # which that lacks
        shares = inside / counts.unsqueeze(-1).to(exact)  # (B, T')
        mean = windows.new_zeros(len(x), 1, windows.shape[2], dtype=exact)
        square = windows.new_zeros(len(x), *windows.shape[2:] * 2, dtype=exact)
        for part, share in zip(windows.split(STRETCH, 1), shares.split(STRETCH, 1), strict=True):
            part = part.to(exact)
            weighted = part.transpose(1, 2) * share.unsqueeze(1)
            mean += weighted.sum(dim=2).unsqueeze(1)
            square += weighted @ part
        weight = self.weight.flatten(1).to(exact)  # (out_channels, in_channels * kernel)
        covariance = square - mean.transpose(1, 2) * mean
        variance = ((weight @ covariance) * weight).sum(dim=2).clamp(min=0).unsqueeze(1)
        mean = mean @ weight.T
        if self.bias is not None:
            mean = mean + self.bias
        return mean.to(x.dtype), variance.to(x.dtype)


class TimeNorm(nn.Module):
    """Normalisation of each channel over the frames of one utterance, with a learned affine map.

    What ``nn.GroupNorm`` with a group for each channel gives for the utterance alone, in float32.

    Arguments
    ---------
    channels : int
        Channels C.

    Example
    -------
    >>> x, norm = torch.randn(1, 50, 8), nn.GroupNorm(8, 8)
    >>> expected = norm(x.transpose(1, 2)).transpose(1, 2)
    >>> torch.allclose(TimeNorm(8)(x), expected, atol=1e-5)
    True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalise (B, T, C) over the relative lengths (B,); frames after them must be finite."""
        if lengths is None:
            shares = x.new_full((x.shape[0], 1, x.shape[1]), 1 / x.shape[1])
        else:
            inside = frame_mask(lengths, x.shape[1]).transpose(1, 2).to(x.dtype)
            shares = inside / inside.sum(dim=2, keepdim=True)
        # Products: twice as fast as PyTorch's variance along an axis that is not the last.
        centred = x - torch.bmm(shares, x)
        return torch.addcmul(self.bias, centred, self._scale(torch.bmm(shares, centred.square())))

    def of(self, mean: Tensor, variance: Tensor) -> Callable[[Tensor], Tensor]:
        """The normalisation of frames whose mean and variance (B, 1, C) are known."""
        scale = self._scale(variance)
        return partial(_affine, scale=scale, offset=self.bias - mean * scale)

    def _scale(self, variance: Tensor) -> Tensor:
        return self.weight * torch.rsqrt(variance + 1e-5)


def _affine(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    return torch.addcmul(offset, x, scale)


class ConvFrontEnd(FrontEnd):
    """Convolutions that turn a waveform into a frame every 20 ms, as self-supervised models do.

    The feature encoder of wav2vec 2.0 (Baevski et al., NeurIPS 2020), which HuBERT and WavLM have
    too, up to the normalisation before their projection: convolutions each followed by a norm and
    GELU, then a LayerNorm. Large models have a LayerNorm after every convolution; base models a
    normalisation over time after the first and none after the others. With a model's weights it
    gives the model's numbers for each utterance alone, whatever else is in the batch.

    The state dict has ``convs.{i}.weight`` (C, C or 1 for the first, kernel) as ``nn.Conv1d``,
    ``convs.{i}.bias`` (C,) with ``bias``; ``norms.{i}.weight`` and ``norms.{i}.bias`` (C,) for all
    i with ``layer_norm``, else for i = 0 only; ``norm.weight`` and ``norm.bias`` (C,).

    Arguments
    ---------
    channels : int
        Channels C of all convolutions.
    kernels, strides : sequence of int
        Of each convolution.
    bias : bool
        Whether convolutions have a bias.
    layer_norm : bool
        Whether every convolution is followed by a LayerNorm; otherwise the first alone is followed
        by a normalisation over time.
    normalize : bool
        Whether each waveform is brought to zero mean and unit variance first (1e-5 is added to the
        variance), in float32.
    trainable : bool
        Whether it learns. Otherwise no parameter requires a gradient, and none passes through it.

    Attributes
    ----------
    output_size : int
        C.
    receptive_field : int
        Samples that a frame sees: the shortest waveform. 400 are 25 ms.

    Raises
    ------
    ValueError
        When ``kernels`` and ``strides`` are not equally many, one at least.

    Example
    -------
    >>> front_end = ConvFrontEnd(channels=32)
    >>> front_end(torch.randn(2, 48000), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 149, 32])
    >>> front_end.num_frames(torch.tensor([400, 719, 720, 48000]))
    tensor([  1,   1,   2, 149])
    """

    def __init__(
        self,
        channels: int = 512,
        kernels: Sequence[int] = (10, 3, 3, 3, 3, 2, 2),
        strides: Sequence[int] = (5, 2, 2, 2, 2, 2, 2),
        bias: bool = False,
        layer_norm: bool = True,
        normalize: bool = True,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        if not kernels or len(kernels) != len(strides):
            raise ValueError(
                f"kernels={list(kernels)} and strides={list(strides)} must be equally many, "
                "one of each at least"
            )
        self.settings: dict[str, Any] = {
            "channels": channels,
            "kernels": tuple(kernels),
            "strides": tuple(strides),
            "bias": bias,
            "layer_norm": layer_norm,
            "normalize": normalize,
        }
        self.output_size = channels
        self.receptive_field = receptive_field(kernels, strides)
        self.normalise = UtteranceNorm() if normalize else None
        sizes = [1] + [channels] * (len(kernels) - 1)
        convs = [
            FrameConv(size, channels, kernel, stride, bias)
            for size, kernel, stride in zip(sizes, kernels, strides, strict=True)
        ]
        for conv in convs:
            # Base models have no norm to undo a wrong scale.
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(
            [nn.LayerNorm(channels) for _ in kernels] if layer_norm else [TimeNorm(channels)]
        )
        self.norm = nn.LayerNorm(channels)
        self.trainable = trainable
        self.requires_grad_(trainable)

    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.FrontEnd`.

        Raises
        ------
        ValueError
            When ``wavs`` are shorter than ``receptive_field``.
        """
        # While tracing for ONNX, sizes are tensors, which Python cannot compare.
        if not torch.jit.is_tracing() and wavs.shape[1] < self.receptive_field:
            raise ValueError(
                f"waveforms have {wavs.shape[1]} samples, and a frame needs {self.receptive_field}"
            )
        if self.trainable:
            return self._convolve(wavs, lengths)
        with torch.no_grad():
            return self._convolve(wavs, lengths)

    def _convolve(self, wavs: Tensor, lengths: Tensor | None) -> Tensor:
        samples = None
        x = wavs.unsqueeze(-1)
        if lengths is not None:
            samples = whole_lengths(lengths, wavs.shape[1])
            x = torch.where(frame_mask(lengths, wavs.shape[1]), x, 0.0)
        if self.normalise is not None:
            x = self.normalise(x, lengths)
        if makes_graph() or torch.is_grad_enabled():
            return self._layers(x, self._first_norm(x, samples))
        norm = self._first_norm(x, samples, known=True)
        return torch.cat([self._layers(piece, norm) for piece in self._pieces(x)], dim=1)

    def _first_norm(
        self, x: Tensor, samples: Tensor | None, known: bool = False
    ) -> Callable[[Tensor], Tensor]:
        """What follows the first convolution of ``x``; ``known`` if pieces of it will be given."""
        if self.settings["layer_norm"]:
            return self.norms[0]
        conv: Any = self.convs[0]
        norm: Any = self.norms[0]
        if samples is None and not known:
            return norm
        if samples is None:
            samples = torch.full((x.shape[0],), x.shape[1], device=x.device)
        counts = ((samples - conv.kernel_size[0]) // conv.stride[0] + 1).clamp(min=1)
        if known:
            return norm.of(*conv.moments(x, counts))
        return lambda y: norm(y, counts / y.shape[1])

    def _pieces(self, x: Tensor) -> Iterator[Tensor]:
        """Stretches of waveforms (B, samples, 1) whose frames follow each other.

        Where no gradient is wanted, the outputs of the first convolutions, the largest of all, so
        need no more memory for an hour than for some seconds, and stay in the processor's cache.
        """
        hop = math.prod(self.settings["strides"])
        frames = (x.shape[1] - self.receptive_field) // hop + 1
        count = max(1, PIECE // (hop * x.shape[0] * self.output_size))
        for first in range(0, frames, count):
            last = min(first + count, frames) - 1
            yield x[:, first * hop : last * hop + self.receptive_field]

    def _layers(self, x: Tensor, first_norm: Callable[[Tensor], Tensor]) -> Tensor:
        norms = [first_norm, *self.norms[1:]]
        for conv, norm in zip_longest(self.convs, norms, fillvalue=nn.Identity()):
            x = F.gelu(norm(conv(x)))
        return self.norm(x)

    def num_frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances of that many samples.

        At least 1: an utterance shorter than ``receptive_field`` in a longer batch has one frame,
        which sees the zeros after it.
        """
        for kernel, stride in zip(self.settings["kernels"], self.settings["strides"], strict=True):
            samples = (samples - kernel) // stride + 1
        return samples.clamp(min=1)
