"""A frozen teacher stays frozen."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from speechbrain_ext.distill.teacher import FrozenTeacher
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.nnet.normalization import UtteranceNorm


def make_teacher() -> FrozenTeacher:
    network = LSTMAutoencoder(conv_channels=16, latent_size=8, lstm_size=8, lin_neurons=16)
    return FrozenTeacher(SpeakerEncoder(LogMel(), UtteranceNorm(), network))


def test_train_mode_of_the_module_around_it_does_not_reach_it() -> None:
    teacher = make_teacher()
    nn.ModuleDict({"teacher": teacher, "student": nn.Linear(2, 2)}).train()
    assert not any(module.training for module in teacher.modules())
    wavs = torch.randn(2, 8000)
    assert torch.equal(teacher(wavs).embedding, teacher(wavs).embedding)


def test_no_gradient_and_no_drift_of_statistics() -> None:
    teacher = make_teacher()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    output = teacher.train()(torch.randn(2, 8000))
    assert not output.embedding.requires_grad and output.embedding.shape == (2, 16)
    sizes = {name: hidden.shape[-1] for name, hidden in output.hidden.items()}
    assert sizes == teacher.layers == {"bottleneck": 8, "lstm1": 16, "lstm2": 16}
    assert teacher.embedding_size == 16
    network: Any = teacher.encoder.embedding_model
    assert teacher.num_parameters == sum(p.numel() for p in network.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
