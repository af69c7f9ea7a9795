"""The lobes that every test of the contract runs on, made small, their norms moved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from speechbrain.lobes.models.Xvector import Xvector
from torch import Tensor, nn

from speechbrain_ext.lobes.cam_plus_plus import CAMPlusPlus
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.exact_length import ExactLength
from speechbrain_ext.lobes.features import LogMel, PassThrough, Waveforms
from speechbrain_ext.lobes.ge2e import GE2E, MelPower
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.lobes.sinc import SincFeatures
from speechbrain_ext.nnet.aggregation import JoinedOutputs
from speechbrain_ext.nnet.bottleneck import Bottleneck
from speechbrain_ext.nnet.hybrid import ForwardLSTM, LSTMMixerBlock
from speechbrain_ext.nnet.mixing import MixerBlock
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.nnet.parallel_conv import ParallelIDConv
from speechbrain_ext.nnet.pooling import ContextStatisticsPooling
from speechbrain_ext.nnet.token_mlp import TokenMLP
from tests.lobes.published_networks import randomise_norms


def _exact(network: Callable[[], nn.Module], layers: list[str]) -> nn.Module:
    return ExactLength(network(), 80, layers)


_mixer = partial(MLPMixer, channels=16, num_blocks=2, lin_neurons=8)
_context_pooling = partial(ContextStatisticsPooling, attention_channels=12)
_quarter = partial(_mixer, subsampling=4, pooling=_context_pooling)

# Our own lobes that read features (B, T, 80); embeddings have 8 numbers.
OWN_LOBES: dict[str, Callable[[], nn.Module]] = {
    "mixer": _mixer,
    "token_mlp": partial(_mixer, token_mixing=partial(TokenMLP, num_tokens=20)),
    "hybrid_lstm": partial(_mixer, block=LSTMMixerBlock),
    "lstm_front": partial(_mixer, input_layer=partial(ForwardLSTM, hidden_size=12)),
    "bottleneck": partial(_mixer, output_layer=partial(Bottleneck, bottleneck_size=3)),
    "quarter": _quarter,
    "v5": partial(
        _mixer,
        subsampling=2,
        aggregation=JoinedOutputs,
        pooling=_context_pooling,
        block=partial(MixerBlock, id_conv=ParallelIDConv),
    ),
    "lstm_autoencoder": partial(
        LSTMAutoencoder, conv_channels=16, latent_size=12, lstm_size=10, lin_neurons=8
    ),
    "cam_plus_plus": partial(
        CAMPlusPlus, 80, 8, growth=8, channels=16, num_layers=(2, 2), dilations=(1, 2)
    ),
    "ge2e": partial(GE2E, 80, 8, hidden_size=10, num_layers=2),
}
# SpeechBrain's networks, which need not leave PyTorch, and the hidden outputs asked of them.
SPEECHBRAINS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "ecapa_tdnn": (
        partial(ECAPA_TDNN, 80, lin_neurons=8, channels=[16, 16, 16, 16, 48]),
        ["blocks.1", "mfa"],
    ),
    "resnet": (partial(ResNet, 80, channels=[4, 4, 8, 8], lin_neurons=8), []),
    "xvector": (
        partial(Xvector, in_channels=80, tdnn_channels=[16, 16, 16, 16, 32], lin_neurons=8),
        [],
    ),
}
LOBES: dict[str, Callable[[], nn.Module]] = {
    **OWN_LOBES,
    **{name: partial(_exact, *made) for name, made in SPEECHBRAINS.items()},
}
# Lobes that read waveforms.
WAVEFORM_LOBES: dict[str, Callable[[], nn.Module]] = {
    "sincnet": lambda: SpeakerEncoder(SincFeatures(), UtteranceNorm(), _mixer()),
    "kaldi_fbank": lambda: SpeakerEncoder(KaldiFbank(), UtteranceNorm(std_norm=False), _quarter()),
    "kaldi_fbank_centred": lambda: SpeakerEncoder(
        KaldiFbank(window="hamming", snip_edges=False), UtteranceNorm(), _mixer()
    ),
    "mel_power": lambda: SpeakerEncoder(
        MelPower(), PassThrough(), GE2E(40, 8, hidden_size=10, num_layers=2)
    ),
}
# Those without hidden outputs.
SINGLE_OUTPUT = ["ge2e", "mel_power", "resnet", "xvector"]
ENCODERS = [*LOBES, *WAVEFORM_LOBES]
# A teacher's features need not leave PyTorch.
OWN_ENCODERS = [name for name in [*OWN_LOBES, *WAVEFORM_LOBES] if name != "mel_power"]


def make_lobe(name: str) -> Any:
    """A small lobe in eval mode."""
    torch.manual_seed(0)
    return randomise_norms((LOBES | WAVEFORM_LOBES)[name]())


def make_input(name: str, batch: int, time: int) -> Tensor:
    """What a lobe reads: noise of so many frames."""
    if name in WAVEFORM_LOBES:
        return 0.1 * torch.randn(batch, 160 * time)
    return torch.randn(batch, time, 80)


def make_encoder(name: str) -> SpeakerEncoder:
    """A lobe from waveforms on, with the front end that stands before it in an experiment."""
    if name in WAVEFORM_LOBES:
        return SpeakerEncoder(Waveforms(), PassThrough(), make_lobe(name)).eval()
    return SpeakerEncoder(LogMel(), UtteranceNorm(), make_lobe(name)).eval()
