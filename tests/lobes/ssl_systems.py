"""Every encoder with every back end of the SSL path, made small, their norms moved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import BackEnd, Mixer
from speechbrain_ext.lobes.back_ends import LinearBackEnd
from speechbrain_ext.lobes.conv_front_end import ConvFrontEnd, TimeNorm
from speechbrain_ext.lobes.ecapa import PaddedECAPA
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import PassThrough, Waveforms
from speechbrain_ext.lobes.redimnet import ReDimNet, ReDimSize
from speechbrain_ext.lobes.ssl_student import SSLStudent
from speechbrain_ext.nnet.attention import SelfAttention
from speechbrain_ext.nnet.channel_mlp import ChannelMLP
from speechbrain_ext.nnet.conv_mixing import SeparableConv
from speechbrain_ext.nnet.cycle import CycleLinear
from speechbrain_ext.nnet.mixing import (
    ChannelMixing,
    GroupedMLP,
    MixerBlock,
    PointwiseTokenMixing,
)
from speechbrain_ext.nnet.redim import ConvNeXtBlock, StageSetup
from speechbrain_ext.nnet.residual import ResidualBlock
from speechbrain_ext.nnet.sv_mixing import LocalGlobalMixing, MultiScaleMixing
from speechbrain_ext.nnet.token_mlp import TokenMLP
from tests.lobes.published_networks import randomise_norms

EMBEDDING_SIZE = 8
HIDDEN_SIZE = 16

_tokens = partial(TokenMLP, num_tokens=20)
_local_global = partial(LocalGlobalMixing, num_tokens=20)


def _residual(*mixers: Callable[[int], Mixer]) -> Callable[[int], nn.Module]:
    return partial(ResidualBlock, mixers=mixers)


# Blocks: made with their channels.
BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "sv_mixer": _residual(_local_global, MultiScaleMixing, GroupedMLP),
    "mlp_mixer": _residual(_tokens, ChannelMLP),
    "transformer": _residual(partial(SelfAttention, num_heads=4), ChannelMLP),
    "cycle_mlp": _residual(CycleLinear, ChannelMLP),
    "conv_mixer": _residual(SeparableConv, _tokens, ChannelMLP),
    "modified_mixer": partial(
        MixerBlock,
        token_mixing=partial(PointwiseTokenMixing, expansion=2, groups=4),
        channel_mixing=partial(ChannelMixing, expansion=2),
    ),
    "gcm": _residual(_tokens, GroupedMLP),
    "lgm": _residual(_local_global, ChannelMLP),
    "msm": _residual(_tokens, MultiScaleMixing),
}
_stages = (
    StageSetup(stride=1, num_blocks=1, context=8),
    StageSetup(stride=3, num_blocks=1, expansion=2, context=8),
)
# Back ends: made with the channels of the blocks.
BACK_ENDS: dict[str, Callable[..., BackEnd]] = {
    "linear": LinearBackEnd,
    "ecapa": partial(PaddedECAPA, channels=[16, 16, 16, 16, 48]),
    "redimnet": partial(ReDimNet, size=ReDimSize(12, 4, ConvNeXtBlock, 4, _stages)),
}
SYSTEMS = [f"{block}-{back_end}" for block, back_end in product(BLOCKS, BACK_ENDS)]


def make_waveforms(batch: int, samples: int) -> Tensor:
    """Hiss and hum (B, samples), each louder or softer every 50 ms: no part is like another."""
    pieces = samples // 800 + 1
    hiss = torch.randn(batch, 800 * pieces)
    hum = F.interpolate(torch.randn(batch, 1, 40 * pieces), scale_factor=20.0, mode="linear")
    levels = torch.exp(1.5 * torch.randn(2, batch, pieces)).repeat_interleave(800, dim=2)
    return 0.1 * (levels[0] * hiss + levels[1] * hum.squeeze(1))[:, :samples]


def make_student(name: str) -> SSLStudent:
    """A small student of two blocks in eval mode, all whose norms and weights have moved."""
    torch.manual_seed(0)
    block, back_end = name.split("-")
    student = SSLStudent(
        # Half of the systems have the front end of base models.
        ConvFrontEnd(channels=16, layer_norm=SYSTEMS.index(name) % 2 == 0),
        block=BLOCKS[block],
        back_end=partial(BACK_ENDS[back_end], lin_neurons=EMBEDDING_SIZE),
        hidden_size=HIDDEN_SIZE,
        num_blocks=2,
    )
    randomise_norms(student)
    with torch.no_grad():
        student.layer_weights.uniform_(-1, 1)
        for module in student.modules():
            if isinstance(module, (nn.BatchNorm2d, TimeNorm)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 2.0)
    return student.eval()


def make_encoder(name: str) -> SpeakerEncoder:
    """A student as it stands in an experiment, where features are waveforms."""
    return SpeakerEncoder(Waveforms(), PassThrough(), make_student(name)).eval()
