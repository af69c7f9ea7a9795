"""Several teachers act as one frozen teacher."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.distill.ensemble import EnsembleTeacher
from speechbrain_ext.distill.teacher import FrozenTeacher
from speechbrain_ext.interfaces import Teacher, TeacherOutput
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.normalization import UtteranceNorm


class Sayer(Teacher):
    """A teacher that says what it is told to, and remembers what it was asked."""

    layers = {"layer": 1}
    num_parameters: int | None = 0

    def __init__(self, embedding: list[list[float]]) -> None:
        super().__init__()
        self.embedding = torch.tensor(embedding)
        self.embedding_size = len(embedding[0])
        self.asked: list = []

    def prepare(self, manifest: str | os.PathLike[str], speeds: Sequence[float] = (1.0,)) -> None:
        self.asked.append((manifest, speeds))

    def forward(
        self,
        wavs: Tensor,
        lengths: Tensor | None = None,
        ids: list[str] | None = None,
        starts: list[int] | None = None,
    ) -> TeacherOutput:
        self.asked.append((lengths, ids, starts))
        return TeacherOutput(self.embedding, {"layer": wavs.unsqueeze(-1)})


def make_teachers() -> dict[str, FrozenTeacher]:
    lstm = LSTMAutoencoder(conv_channels=16, latent_size=8, lstm_size=8, lin_neurons=16)
    mixer = MLPMixer(channels=8, num_blocks=2, lin_neurons=12)
    return {
        name: FrozenTeacher(SpeakerEncoder(LogMel(), UtteranceNorm(), network))
        for name, network in {"lstm": lstm, "mixer": mixer}.items()
    }


@pytest.mark.parametrize("weights", [{"a": 0.25, "b": 0.75}, {"b": 3, "a": 1}])
def test_cosine_is_the_weighted_mean_of_the_teachers_by_hand(weights: dict[str, float]) -> None:
    teachers = {  # whose cosines between two utterances are 0 and 1
        "a": Sayer([[2.0, 0.0], [0.0, 3.0]]),
        "b": Sayer([[1.0, 1.0, 0.0], [4.0, 4.0, 0.0]]),
    }
    teacher = EnsembleTeacher(teachers, weights)
    first, second = teacher(torch.ones(2, 5)).embedding
    expected = torch.tensor([0.25**0.5, 0, 0.375**0.5, 0.375**0.5, 0])
    assert torch.allclose(first, expected, atol=1e-6)
    assert torch.allclose(first.norm(), torch.tensor(1.0))
    assert float(F.cosine_similarity(first, second, dim=0)) == pytest.approx(0.75)


def test_arguments_reach_every_teacher() -> None:
    sayers = {"a": Sayer([[1.0]]), "b": Sayer([[1.0]])}
    teacher = EnsembleTeacher(sayers, {"a": 1, "b": 1})
    lengths = torch.ones(1)
    teacher.prepare("train.csv", [1.0, 0.9])
    output = teacher(torch.ones(1, 5), lengths, ["id1"], [320])
    asked = [("train.csv", [1.0, 0.9]), (lengths, ["id1"], [320])]
    assert all(sayer.asked == asked for sayer in sayers.values())
    assert list(output.hidden) == ["a.layer", "b.layer"]
    assert teacher.hears_crop
    sayers["b"].hears_crop = False
    assert not teacher.hears_crop


def test_sizes_are_those_of_the_teachers_together() -> None:
    teachers = make_teachers()
    teacher = EnsembleTeacher(teachers, {"lstm": 2, "mixer": 1})
    output = teacher(torch.randn(2, 8000))
    assert teacher.embedding_size == 28 and output.embedding.shape == (2, 28)
    assert {name: hidden.shape[-1] for name, hidden in output.hidden.items()} == teacher.layers
    assert list(teacher.layers) == [
        "lstm.bottleneck",
        "lstm.lstm1",
        "lstm.lstm2",
        "mixer.block1",
        "mixer.block2",
    ]
    assert teacher.num_parameters == sum(one.num_parameters or 0 for one in teachers.values())
    file = Sayer([[1.0]])
    file.num_parameters = None
    together = EnsembleTeacher({**teachers, "file": file}, {"lstm": 1, "mixer": 1, "file": 1})
    assert together.num_parameters is None


def test_it_stays_frozen() -> None:
    teacher = EnsembleTeacher(make_teachers(), {"lstm": 1, "mixer": 1})
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    nn.ModuleDict({"teacher": teacher, "student": nn.Linear(2, 2)}).train()
    assert not any(module.training for module in teacher.modules())
    output = teacher(torch.randn(2, 8000, requires_grad=True))
    assert not output.embedding.requires_grad
    assert not any(hidden.requires_grad for hidden in output.hidden.values())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert before and all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


def test_under_amp_the_embedding_is_float32() -> None:
    teacher = EnsembleTeacher(make_teachers(), {"lstm": 1, "mixer": 1})
    with torch.autocast("cpu", torch.bfloat16):
        embedding = teacher(torch.randn(2, 8000)).embedding
    assert embedding.dtype == torch.float32
    assert torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize(
    ("names", "weights", "sentence"),
    [
        ("", {}, "^teachers must name at least one teacher, got none$"),
        ("ab", {"a": 1.0}, r"^weights has \['a'\] and teachers has \['a', 'b'\]"),
        ("a", {"a": 1.0, "c": 1.0}, r"^weights has \['a', 'c'\] and teachers has \['a'\]"),
        ("ab", {"a": 1.0, "b": 0.0}, r"^weights must be positive, got {'a': 1.0, 'b': 0.0}$"),
        ("a", {"a": float("inf")}, r"^weights must be positive, got {'a': inf}$"),
    ],
)
def test_mistakes_are_named(names: str, weights: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EnsembleTeacher({name: Sayer([[1.0]]) for name in names}, weights)
