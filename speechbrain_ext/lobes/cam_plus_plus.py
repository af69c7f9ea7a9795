"""CAM++, a densely connected TDNN whose layers are masked by their context."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.nnet.masking import frame_mask

# Below, x is (B, C, T) or, with the bands of the head, (B, C, F, T); inside (B, 1, T) is one inside
# the utterance and zero after it, or None where nothing is padded.

SEGMENT = 100  # frames that share a context


class CAMPlusPlus(Lobe):
    """Speaker embeddings by CAM++.

    Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
    Masking", Interspeech 2023 (arXiv 2303.00332). Residual 2-D convolutions over bands and time, a
    TDNN layer that halves the frame rate, three blocks of densely connected layers whose output is
    scaled by what the utterance and the second around it hold, mean and standard deviation over
    time, a linear layer and batch normalisation.

    Submodules are named as in 3D-Speaker and WeSpeaker, whose checkpoints
    :func:`~speechbrain_ext.systems.weights.load_published` reads. Embeddings of whole utterances
    are theirs; padding changes none. In training mode batch normalisation takes the frames after an
    utterance's end into its statistics.

    Arguments
    ---------
    input_size : int
        Mel bands F, a multiple of 8.
    lin_neurons : int
        Embedding size D: 192 in 3D-Speaker's model of Chinese and English, 512 by default there.
    growth : int
        Channels that each dense layer adds.
    bottleneck : int
        Channels within a dense layer, in multiples of ``growth``.
    channels : int
        Channels of the TDNN layer.
    num_layers, dilations : sequence of int
        Dense layers of each block, and the dilation of their convolutions over time.

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order: ``transit1`` and so on, the
        outputs of the blocks, one frame for two of the input.

    Raises
    ------
    ValueError
        When ``input_size`` is no multiple of 8 or the blocks have not one dilation each.

    Example
    -------
    >>> model = CAMPlusPlus(80, lin_neurons=192)
    >>> model(torch.randn(2, 201, 80), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 192])
    >>> sum(p.numel() for p in model.parameters())
    6848544
    >>> model.layers
    {'transit1': 256, 'transit2': 512, 'transit3': 512}
    """

    def __init__(
        self,
        input_size: int = 80,
        lin_neurons: int = 512,
        growth: int = 32,
        bottleneck: int = 4,
        channels: int = 128,
        num_layers: Sequence[int] = (12, 24, 16),
        dilations: Sequence[int] = (1, 2, 2),
    ) -> None:
        super().__init__()
        if input_size % 8 or len(num_layers) != len(dilations):
            raise ValueError(
                f"input_size={input_size} must be a multiple of 8, and each of num_layers="
                f"{list(num_layers)} needs its dilation, not dilations={list(dilations)}"
            )
        self.embedding_size = lin_neurons
        self.layers = {}
        self.head = _Head()
        xvector: OrderedDict[str, nn.Module] = OrderedDict()
        xvector["tdnn"] = _layer(4 * input_size, channels, kernel_size=5, stride=2)
        for index, (count, dilation) in enumerate(zip(num_layers, dilations, strict=True), start=1):
            xvector[f"block{index}"] = _DenseBlock(
                count, channels, growth, bottleneck * growth, dilation
            )
            channels += count * growth
            xvector[f"transit{index}"] = nn.Sequential(
                OrderedDict(
                    nonlinear=_norm_relu(channels),
                    linear=nn.Conv1d(channels, channels // 2, 1, bias=False),
                )
            )
            channels //= 2
            self.layers[f"transit{index}"] = channels
        xvector["out_nonlinear"] = _norm_relu(channels)
        xvector["dense"] = nn.Sequential(
            OrderedDict(
                linear=nn.Conv1d(2 * channels, lin_neurons, 1, bias=False),
                nonlinear=nn.Sequential(
                    OrderedDict(batchnorm=nn.BatchNorm1d(lin_neurons, affine=False))
                ),
            )
        )
        self.xvector = nn.ModuleDict(xvector)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe`."""
        inside = None
        if lengths is not None:
            inside = frame_mask(lengths, feats.shape[1]).transpose(1, 2).to(feats.dtype)
        x = self.head(feats.transpose(1, 2).unsqueeze(1), inside)
        x = self.xvector["tdnn"](_cut(x, inside))
        inside = None if inside is None else inside[..., ::2]
        hidden: list[Tensor] = []
        for name in self.layers:
            x = self.xvector[name.replace("transit", "block")](x, inside)
            x = self.xvector[name](x)
            hidden.append(x)
        pooled = _statistics(self.xvector["out_nonlinear"](x), inside)
        embedding = self.xvector["dense"](pooled).transpose(1, 2)
        return (embedding, [x.transpose(1, 2) for x in hidden]) if intermediates else embedding


def _cut(x: Tensor, inside: Tensor | None) -> Tensor:
    """Zeros after the utterance, as a convolution that pads with zeros finds them there alone."""
    return x if inside is None else x * inside


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


def _layer(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    conv = nn.Conv1d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    return nn.Sequential(OrderedDict(linear=conv, nonlinear=_norm_relu(out_channels)))


class _Head(nn.Module):
    """2-D convolutions that leave an eighth of the bands, each of 32 channels."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.ModuleList([_Residual(channels, 2), _Residual(channels, 1)])
        self.layer2 = nn.ModuleList([_Residual(channels, 2), _Residual(channels, 1)])
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """Map (B, 1, F, T) to (B, 4 F, T)."""
        inside = None if inside is None else inside.unsqueeze(1)
        x = F.relu(self.bn1(self.conv1(_cut(x, inside))))
        for block in [*self.layer1, *self.layer2]:
            x = block(x, inside)
        return F.relu(self.bn2(self.conv2(_cut(x, inside)))).flatten(1, 2)


class _Residual(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels, 1, (stride, 1), bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        y = F.relu(self.bn1(self.conv1(_cut(x, inside))))
        y = self.bn2(self.conv2(_cut(y, inside)))
        return F.relu(y + self.shortcut(x))


class _DenseBlock(nn.ModuleDict):
    """Layers that each read what all before them gave."""

    def __init__(
        self, num_layers: int, channels: int, growth: int, bottleneck: int, dilation: int
    ) -> None:
        super().__init__()
        for index in range(num_layers):
            read = channels + index * growth
            self[f"tdnnd{index + 1}"] = _DenseLayer(read, growth, bottleneck, dilation)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x, inside)], dim=1)
        return x


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int, bottleneck: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm_relu(channels)
        self.linear1 = nn.Conv1d(channels, bottleneck, 1, bias=False)
        self.nonlinear2 = _norm_relu(bottleneck)
        self.cam_layer = _ContextMask(bottleneck, growth, dilation)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        x = self.nonlinear2(self.linear1(self.nonlinear1(x)))
        return self.cam_layer(_cut(x, inside), inside)


class _ContextMask(nn.Module):
    """A convolution over time, scaled by what the utterance and the frame's segment hold."""

    def __init__(self, channels: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            channels, growth, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(channels, channels // 2, 1)
        self.linear2 = nn.Conv1d(channels // 2, growth, 1)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        context = _contexts(x, inside)
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        # A segment's frames share their mask.
        frames = mask.repeat_interleave(SEGMENT, dim=2)[..., : x.shape[2]]
        return self.linear_local(x) * frames


def _contexts(x: Tensor, inside: Tensor | None) -> Tensor:
    """Means (B, C, S) of all frames plus those of each of S segments; x is zero after the end."""
    inside = torch.ones_like(x[:1, :1]) if inside is None else inside
    filled = (0, -x.shape[2] % SEGMENT)
    totals = F.pad(x, filled).unflatten(2, (-1, SEGMENT)).sum(dim=3)
    counts = F.pad(inside, filled).unflatten(2, (-1, SEGMENT)).sum(dim=3)
    overall = totals.sum(dim=2, keepdim=True) / counts.sum(dim=2, keepdim=True)
    return overall + totals / counts.clamp(min=1)


@fwd_default_precision(cast_inputs=torch.float32)
def _statistics(x: Tensor, inside: Tensor | None) -> Tensor:
    """Mean and unbiased standard deviation (B, 2 C, 1) of an utterance's own frames."""
    inside = torch.ones_like(x[:1, :1]) if inside is None else inside
    count = inside.sum(dim=2, keepdim=True)
    mean = (x * inside).sum(dim=2, keepdim=True) / count
    squares = ((x - mean) * inside).square().sum(dim=2, keepdim=True)
    variance = squares / (count - 1).clamp(min=1)
    # Of a channel that ReLU shuts the root has no gradient.
    return torch.cat([mean, variance.clamp(min=1e-12).sqrt()], dim=1)
