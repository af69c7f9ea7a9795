"""The lobes that every test of the contract runs on, made small, their norms moved."""

from __future__ import annotations

from typing import Any

import torch

from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.lobes.published_networks import randomise_norms

LOBES = ["mixer", "lstm_autoencoder"]


def make_lobe(name: str) -> Any:
    """A small lobe in eval mode."""
    torch.manual_seed(0)
    if name == "mixer":
        return randomise_norms(MLPMixer(channels=16, num_blocks=2, lin_neurons=8))
    return randomise_norms(
        LSTMAutoencoder(conv_channels=16, latent_size=12, lstm_size=10, lin_neurons=8)
    )


def make_encoder(name: str) -> SpeakerEncoder:
    """The same behind the mel front end."""
    return SpeakerEncoder(LogMel(), UtteranceNorm(), make_lobe(name)).eval()
