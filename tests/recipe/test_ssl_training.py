"""Students of self-supervised Transformers trained for real, on a corpus of seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from speechbrain.nnet.schedulers import ReduceLROnPlateau
from speechbrain.utils.epoch_loop import EpochCounterWithStopper
from torch import nn

from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.command_line import read_command_line
from speechbrain_ext.systems.yaml import load_hparams
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.preflight import noise
from speechbrain_ext.training.schedules import on_plateau
from tests.lobes.ssl_models import make_model_folder
from tests.recipe.killing import run_until
from tests.recipe.tiny import RECIPE, make_corpus, run
from tests.refusals import refused

pytestmark = pytest.mark.slow

pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 16,
    "num_blocks": 2,
    "num_tokens": 24,
    "layer_pairs": "[[block1, layer1], [block2, layer3]]",
    "teacher_layers": "[1, 3]",
    "conv_channels": 16,
    "crop_seconds": 0.5,
    "batch_size": 12,
    "num_workers": 0,
    "device": "cpu",
    "offline": True,
    "back_end": "{channels: [16, 16, 16, 16, 48]}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in ``corpus`` and a small WavLM in ``wavlm``."""
    folder = tmp_path_factory.mktemp("place")
    make_corpus(folder / "corpus")
    make_model_folder(folder / "wavlm")
    return folder


def arguments(place: Path, folder: Path, **changes: Any) -> list[str]:
    """Of ``train_distill.py``, for a SV-Mixer made small."""
    settings = SMALL | {"corpus_dir": place / "corpus", "teacher_source": place / "wavlm"}
    settings |= {"output_folder": folder, "number_of_epochs": 2} | changes
    words = ["hparams/ssl/sv_mixer_wavlm_large.yaml", "--noprogressbar"]
    for key, value in settings.items():
        words += [f"--{key}", str(value)]
    return words


def brain_of(place: Path, folder: Path, **changes: Any) -> DistillBrain:
    """The Brain itself, nothing trained yet."""
    words = arguments(place, folder, **changes)
    hparams, _ = load_hparams(RECIPE / words[0], read_command_line(words).overrides)
    return DistillBrain(hparams, {"device": "cpu", "noprogressbar": True})


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def load_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "save" / "embedding_model.safetensors")


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """The experiment of a training of two epochs, by its command."""
    folder = place / "exp" / "sv_mixer"
    result = run("train_distill.py", *arguments(place, folder))
    assert result.returncode == 0, result.stderr
    return folder


def test_the_teacher_is_the_same_after_an_epoch(place: Path, tmp_path: Path) -> None:
    brain = brain_of(place, tmp_path / "exp", number_of_epochs=1)
    wavs = noise(8000, "cpu")
    before = brain.teacher(wavs)
    weights = {name: value.clone() for name, value in brain.teacher.state_dict().items()}
    modes: list[bool] = []
    for module in brain.teacher.modules():
        module.register_forward_hook(lambda layer, *_: modes.append(layer.training))
    brain.train()
    assert modes and not any(modes)  # neither dropout nor layer drop, in any step
    after = brain.teacher(wavs)
    assert torch.equal(before.embedding, after.embedding)
    for name, value in before.hidden.items():
        assert torch.equal(value, after.hidden[name])
    for name, value in brain.teacher.state_dict().items():
        assert torch.equal(value, weights[name])
    learnt = {id(p) for group in brain.optimizer.param_groups for p in group["params"]}
    assert not learnt & {id(p) for p in brain.teacher.parameters()}
    assert all(p.grad is None and not p.requires_grad for p in brain.teacher.parameters())


def test_no_tensor_of_the_teacher_is_kept(trained: Path, place: Path) -> None:
    teacher = load_file(place / "wavlm" / "model.safetensors")
    # The front end begins with the teacher's weights, and has learnt since.
    shapes = {tuple(value.shape) for value in teacher.values() if value.numel() > 512}
    found = 0
    kept = [path for path in trained.glob("save/CKPT*/*.ckpt") if path.read_bytes()[:2] == b"PK"]
    names = {"embedding_model", "classifier", "objective", "optimizer", "lr_annealing"}
    assert {path.stem for path in kept} >= names
    for path in [*kept, *trained.glob("save/*.safetensors")]:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
        for value in _tensors(state):
            same = tuple(value.shape) in shapes and any(
                value.shape == known.shape and torch.equal(value.float(), known.float())
                for known in teacher.values()
            )
            assert not same, path
            found += 1
    assert found > 100


def _tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state
    if not isinstance(state, (dict, list, tuple)):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


def test_heads_are_trained_and_not_exported(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    brain = brain_of(place, folder, number_of_epochs=1)  # 16 channels learn from 32: projections
    heads = brain.hparams.objective.state_dict()
    first = {name: value.clone() for name, value in heads.items()}
    assert heads and all("projections" in name for name in heads)
    brain.train()
    for name, value in brain.hparams.objective.state_dict().items():
        assert not torch.equal(value, first[name])
    (checkpoint,) = folder.glob("save/CKPT*")
    assert (checkpoint / "objective.ckpt").is_file()
    assert not any("projection" in name and "terms" in name for name in weights_of(folder))


def test_heads_are_absent_from_the_export(trained: Path) -> None:
    write_model_folder(trained, trained / "export")
    heads = torch.load(next(trained.glob("save/CKPT*/objective.ckpt")))
    shapes = {tuple(value.shape) for value in heads.values() if value.dim() > 1}
    exported = torch.load(trained / "export" / "embedding_model.ckpt")
    assert shapes == {(32, 16)}
    for name, value in exported.items():
        assert not any(
            tuple(value.shape) == tuple(head.shape) and torch.equal(value, head)
            for head in heads.values()
        ), name
    text = (trained / "export" / "hyperparams.yaml").read_text()
    assert "SSLEncoder" not in text and "HiddenMSE" not in text and "wavlm" not in text


def test_the_front_end_begins_as_the_teachers(place: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train_front_end": False, "number_of_epochs": 1}
    brain = brain_of(place, tmp_path / "frozen", **changes)
    expected = brain.hparams.teacher_model.front_end_state()
    brain.train()
    found = brain.hparams.embedding_model.front_end.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    moving = brain_of(place, tmp_path / "trained", number_of_epochs=1)
    moving.train()
    found = moving.hparams.embedding_model.front_end.state_dict()
    assert any(not torch.equal(found[name], value) for name, value in expected.items())


def test_a_killed_training_goes_on(place: Path, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    run_until(2, folder / "train_log.jsonl", "train_distill.py", *arguments(place, folder))
    result = run("train_distill.py", *arguments(place, folder))
    assert result.returncode == 0, result.stderr
    whole, resumed = weights_of(trained), weights_of(folder)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_training_stops_when_nothing_improves(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eers = iter([30.0, 20.0, 25.0, 24.0, 23.0])
    figures = "speechbrain_ext.training.brain.valid_figures"
    monkeypatch.setattr(figures, lambda *_: {"eer": next(eers)})
    changes = {"stop_after": 3, "patience": 2, "number_of_epochs": 20}
    brain_of(place, tmp_path / "exp", **changes).train()
    log = log_of(tmp_path / "exp")
    assert [line["lr"] for line in log] == pytest.approx([2e-4, 2e-4, 2e-4, 2e-4, 1e-4])
    best = load_metadata(tmp_path / "exp" / "save" / "embedding_model.safetensors")
    assert best["epochs"] == "[2]"
    brain_of(place, tmp_path / "exp", **changes).train()  # stays stopped
    assert log_of(tmp_path / "exp") == log


def test_the_rate_is_halved_after_five_stale_validations() -> None:
    layer = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=8.0)
    scheduler = ReduceLROnPlateau(factor=0.5, patience=4, dont_halve_until_epoch=0)
    counter = EpochCounterWithStopper(20, limit_to_stop=10, limit_warmup=0, direction="min")
    rates = []
    # One as good as the best is stale too.
    for epoch, eer in zip(counter, [9, 8, *[8.5] * 5, 7, *[7.5, 7] * 2, 7, 7.5], strict=False):
        counter.update_metric(eer)
        old, new = on_plateau(scheduler, optimizer, epoch, eer, counter)
        optimizer.param_groups[0]["lr"] = new
        rates.append(old)
    assert rates == [8.0] * 7 + [4.0] * 6 + [2.0]
    assert (counter.best_score, counter.best_limit) == (7, 8)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"normalize_wav": False}, ("normalize True", "False")),
        ({"conv_channels": 8}, ("channels 16", "8")),
        ({"crop_seconds": 0.02}, ("crop_seconds 0.02", "320", "400")),
        (
            {"back_end": "{channels: [16, 16, 16, 16, 48], lin_neurons: 24}"},
            ("24", "classifier", "lin_neurons"),
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    changes: dict[str, Any], facts: tuple[str, ...], place: Path, tmp_path: Path
) -> None:
    brain = brain_of(place, tmp_path / "exp", **changes)
    with refused("bad-setting", *facts):
        brain.train()
    assert not [*tmp_path.glob("exp/save/CKPT*")]


def test_a_rate_by_place_is_for_other_systems(place: Path, tmp_path: Path) -> None:
    with refused("bad-setting", "CosineRate", "on_plateau"):
        brain_of(place, tmp_path, includes="[../shared/cosine_rate.yaml]").train()


def test_a_teacher_without_such_convolutions(place: Path, tmp_path: Path) -> None:
    brain = brain_of(place, tmp_path / "exp")
    brain.hparams.front_end_start = nn.Linear(2, 2)
    with refused("bad-setting", "Linear", "convolutions"):
        brain.train()


def test_a_name_on_the_hub_is_not_fetched_when_offline(place: Path, tmp_path: Path) -> None:
    changes = {"teacher_source": "microsoft/wavlm-large", "output_folder": tmp_path / "exp"}
    result = run("train_distill.py", *arguments(place, tmp_path / "exp", **changes))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "microsoft/wavlm-large" in result.stderr and "offline" in result.stderr
    assert not (tmp_path / "exp").exists()


def test_two_processes_train(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    words = arguments(place, folder, number_of_epochs=1, batch_size=6, distributed_backend="gloo")
    result = run("train_distill.py", *words, processes=2)
    assert result.returncode == 0, result.stderr
    (line,) = log_of(folder)
    assert line["train"]["utterances"] == 24 and 0 < line["train"]["teacher_time"] < 1
    shutil.rmtree(folder)
