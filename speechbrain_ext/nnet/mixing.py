"""The mixer block: ID-Conv, token mixing, channel mixing with Max-Feature-Map.

From "A Speaker Verification System Based on a Modified MLP-Mixer Student Model for Transformer
Compression" (IEEE Access 13, 2025), in the form published for mel features. All layers work
channels last, (B, T, C): no transposition inside a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.graphs import leaves_pytorch, makes_graph
from speechbrain_ext.nnet.masking import zero_padding
from speechbrain_ext.nnet.mlp import two_layers
from speechbrain_ext.nnet.normalization import FrameBatchNorm


class GroupedLinear(nn.Module):
    """A linear layer in which every group of output channels sees its own group of input channels.

    Arguments
    ---------
    in_channels, out_channels : int
        Channels, both divisible by ``groups``.
    groups : int
        Groups G.

    Raises
    ------
    ValueError
        When a number of channels is not divisible by ``groups``.

    Example
    -------
    >>> layer = GroupedLinear(12, 24, groups=4)
    >>> layer(torch.randn(2, 50, 12)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 24]), 96)
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} must divide the channels {in_channels} and {out_channels}"
            )
        self.groups, self.out_channels = groups, out_channels
        # The initialisation of nn.Linear over the channels that an output really sees.
        bound = (in_channels // groups) ** -0.5
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups))
        self.bias = nn.Parameter(torch.empty(out_channels))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, in_channels) to (B, T, out_channels)."""
        rows = _joined(self.by_group(_by_group(x.flatten(0, 1), self.groups)))
        return rows.view(*x.shape[:-1], -1)

    def by_group(self, x: Tensor) -> Tensor:
        """Map (G, N, in_channels / G) to (G, N, out_channels / G), with no copy in between."""
        weight = self.weight.view(self.groups, -1, self.weight.shape[1]).transpose(1, 2)
        return torch.baddbmm(self.bias.view(self.groups, 1, -1), x, weight)


def _by_group(rows: Tensor, groups: int) -> Tensor:
    """(N, C) as (G, N, C / G)."""
    return rows.unflatten(-1, (groups, -1)).transpose(0, 1)


def _joined(groups: Tensor) -> Tensor:
    """And back."""
    return groups.transpose(0, 1).flatten(1)


class MaxFeatureMap(torch.autograd.Function):
    """The larger of two halves of the channels; its backward pass is some times PyTorch's faster.

    Where both halves are equal the first takes all of the gradient, where PyTorch's ``maximum``
    shares it out.

    Example
    -------
    >>> x = torch.tensor([[1.0, 4.0, 3.0, 2.0]], requires_grad=True)
    >>> y = MaxFeatureMap.apply(x)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([[3.0, 4.0]], [[0.0, 1.0, 1.0, 0.0]])
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Map (..., 2C) to (..., C)."""
        first, second = x.chunk(2, dim=-1)
        ctx.save_for_backward(first >= second)
        return torch.maximum(first, second)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Give the gradient to the half that was larger."""
        (of_first,) = ctx.saved_tensors
        both = gradient.new_empty(*gradient.shape[:-1], 2 * gradient.shape[-1])
        first, second = both.chunk(2, dim=-1)
        torch.mul(gradient, of_first, out=first)
        torch.sub(gradient, first, out=second)
        return both


class _Filter(torch.autograd.Function):
    """``IDConv._filter`` without copies of what it reads, and the same for its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        x = x.to(taps.dtype)
        ctx.save_for_backward(x, taps)
        y = x * taps[1]
        y[:, 1:].addcmul_(x[:, :-1], taps[0])
        y[:, :-1].addcmul_(x[:, 1:], taps[2])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, taps = ctx.saved_tensors
        of_x = gradient * taps[1]
        of_x[:, :-1].addcmul_(gradient[:, 1:], taps[0])
        of_x[:, 1:].addcmul_(gradient[:, :-1], taps[2])
        products = [gradient[:, 1:] * x[:, :-1], gradient * x, gradient[:, :-1] * x[:, 1:]]
        return of_x, torch.stack([product.sum(dim=(0, 1)) for product in products])


def _by_hand(x: Tensor) -> bool:
    """Whether the passes written out here serve: where gradients are wanted and not compiled."""
    return torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling()


class IDConv(nn.Module):
    """Identity-enhanced convolution: ``x + BatchNorm(depthwise convolution over time)``, kernel 3.

    Arguments
    ---------
    channels : int
        Channels C.

    Example
    -------
    >>> IDConv(8)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    reach = 1  # frames before and after a frame that it depends on

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, channels))
        nn.init.uniform_(self.weight, -(3**-0.5), 3**-0.5)
        self.norm = FrameBatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Filter (B, T, C); frames outside the utterance must be zero."""
        if self.training:
            learns = _by_hand(self.weight)
            filtered = _Filter.apply(x, self.weight) if learns else self._filter(x, self.weight)
            return x + self.norm(filtered)
        # In eval mode normalisation and identity are part of the filter.
        scale, offset = self.norm.affine()
        taps = self.weight * scale
        taps = torch.stack([taps[0], taps[1] + 1, taps[2]])
        if leaves_pytorch():
            # An engine has one operation for it.
            kernel = taps.T.unsqueeze(1)
            y = F.conv1d(x.transpose(1, 2), kernel, offset, padding=1, groups=len(offset))
            return y.transpose(1, 2)
        if makes_graph() or torch.is_grad_enabled():
            return self._filter(x, taps) + offset
        # The same, and nothing else of that size is made.
        x = x.to(taps.dtype)
        y = torch.addcmul(offset, x, taps[1])
        y[:, 1:].addcmul_(x[:, :-1], taps[0])
        y[:, :-1].addcmul_(x[:, 1:], taps[2])
        return y

    @staticmethod
    def _filter(x: Tensor, taps: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 1, 1))
        return padded[:, :-2] * taps[0] + x * taps[1] + padded[:, 2:] * taps[2]


class GroupedMLP(Mixer):
    """Groups of channels, each with an MLP of its own on every frame, side by side.

    This is the group channel mixing (GCM) of SV-Mixer (arXiv 2509.14136). Its 8 groups, here and in
    :class:`~speechbrain_ext.nnet.sv_mixing.MultiScaleMixing`, are what reproduces the published
    size of a block, 3.75 M parameters.

    Arguments
    ---------
    channels : int
        Channels C.
    expansion : float
        The hidden layer has ``expansion * C`` channels.
    groups : int
        Groups G of channels.
    dropout : float
        Dropout after each layer.

    Raises
    ------
    ValueError
        When ``groups`` does not divide ``channels``, or those of the hidden layer.

    Example
    -------
    >>> layer = GroupedMLP(16, expansion=4, groups=8)
    >>> layer(torch.randn(2, 50, 16)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 16]), 336)
    """

    reach = 0

    def __init__(
        self, channels: int, expansion: float = 4, groups: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        hidden = round(expansion * channels)
        self.fc1 = GroupedLinear(channels, hidden, groups)
        self.fc2 = GroupedLinear(hidden, channels, groups)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); frames are independent, so that ``mask`` changes nothing."""
        if leaves_pytorch() and not self.training:
            return self._convolve(x)
        rows = x.flatten(0, 1)
        width = self.fc1.out_channels
        return two_layers(self._first, self._second, self.dropout, rows, width).view_as(x)

    def _first(self, rows: Tensor) -> Tensor:
        """(N, C) to the hidden layer by groups, (G, N, ...)."""
        return self.fc1.by_group(_by_group(rows, self.fc1.groups))

    def _second(self, hidden: Tensor) -> Tensor:
        return _joined(self.fc2.by_group(hidden))

    def _convolve(self, x: Tensor) -> Tensor:
        """The same by grouped convolutions: products of many matrices, engines do not quantise."""
        x = x.transpose(1, 2)
        for layer in (self.fc1, self.fc2):
            x = F.gelu(x) if layer is self.fc2 else x
            x = F.conv1d(x, layer.weight.unsqueeze(2), layer.bias, groups=layer.groups)
        return x.transpose(1, 2)


class PointwiseTokenMixing(GroupedMLP):
    """Token mixing as published: a grouped MLP on each frame; only the ID-Conv sees neighbours.

    Example
    -------
    >>> PointwiseTokenMixing(8, expansion=3, groups=4)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """


class ChannelMixing(nn.Module):
    """Channel-mixing MLP with a Max-Feature-Map: the larger of two halves, then GELU.

    Arguments
    ---------
    channels : int
        Channels C.
    expansion : float
        The hidden layer has ``expansion * C`` channels after the maximum.
    dropout : float
        Dropout after each layer.

    Example
    -------
    >>> ChannelMixing(8, expansion=3)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, channels: int, expansion: float, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = round(expansion * channels)
        self.fc1 = nn.Linear(channels, 2 * hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, T, C)."""
        rows, width = x.flatten(0, 1), self.fc1.out_features
        return two_layers(self._larger, self.fc2, self.dropout, rows, width).view_as(x)

    def _larger(self, rows: Tensor) -> Tensor:
        halves = self.fc1(rows)
        if _by_hand(halves):
            return MaxFeatureMap.apply(halves)
        return torch.maximum(*halves.split(halves.shape[-1] // 2, dim=-1))


class MixerBlock(nn.Module):
    """LayerNorm, ID-Conv, token mixing, residual; LayerNorm, channel mixing, residual.

    Arguments
    ---------
    channels : int
        Channels C.
    token_mixing, channel_mixing : callable
        Given ``channels``, makes the layer that mixes (B, T, C). The token mixing is called with
        frames that are zeros outside the utterance, and with the mask.
    id_conv : callable
        Given ``channels``, makes the filter over time before the token mixing: it maps (B, T, C),
        zero outside the utterance, to (B, T, C).

    Example
    -------
    >>> from functools import partial
    >>> block = MixerBlock(
    ...     8,
    ...     token_mixing=partial(PointwiseTokenMixing, expansion=3, groups=4),
    ...     channel_mixing=partial(ChannelMixing, expansion=3),
    ... )
    >>> block(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(
        self,
        channels: int,
        token_mixing: Callable[[int], nn.Module],
        channel_mixing: Callable[[int], nn.Module],
        id_conv: Callable[[int], nn.Module] = IDConv,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.id_conv = id_conv(channels)
        self.token_mixing = token_mixing(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.channel_mixing = channel_mixing(channels)

    @property
    def reach(self) -> int | None:
        """Frames before and after a frame that it depends on; None of all, or of who knows."""
        parts = [getattr(part, "reach", None) for part in (self.id_conv, self.token_mixing)]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); ``mask`` (B, T, 1) is true inside the utterance."""
        x = x + self.mix_tokens(self.norm1(x), mask)
        return x + self.channel_mixing(self.norm2(x))

    def mix_tokens(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What is added to (B, T, C) after its first norm ``x``."""
        # Masked twice: both read along time, and the ID-Conv's offset reaches padded frames too.
        filtered = zero_padding(self.id_conv(zero_padding(x, mask)), mask)
        return self.token_mixing(filtered, mask)
