"""The networks of the recipe's systems at their full size."""

from __future__ import annotations

from collections.abc import Callable

import torch

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.lobes.ecapa import PaddedECAPA
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.normalization import UtteranceNorm

NETWORKS: dict[str, Callable[[], Lobe]] = {
    "v2": MLPMixer,
    "teacher": LSTMAutoencoder,
    "ecapa_tdnn": lambda: PaddedECAPA(80),
}


def make_encoder(name: str) -> SpeakerEncoder:
    """A system from waveforms on."""
    torch.manual_seed(0)
    return SpeakerEncoder(LogMel(), UtteranceNorm(), NETWORKS[name]()).eval()
