"""Models from experiment folders and exported folders; folders of results that belong to one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.inference.provenance import claim_for_model, model_facts
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel, PassThrough
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.systems.experiment import load_encoder, weights_sha256
from speechbrain_ext.systems.pretrained import least_samples, load_pretrained
from tests.recipe.experiments import make_experiment
from tests.refusals import refused


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_experiment(tmp_path_factory.mktemp("models") / "v2")
    write_model_folder(folder, folder / "export")
    return folder


def test_both_kinds_of_folder_are_one_model(experiment: Path) -> None:
    trained, exported = load_pretrained(experiment), load_pretrained(experiment / "export")
    assert weights_sha256(trained) == weights_sha256(exported)
    wavs = 0.1 * torch.randn(2, 20000)
    for model in (trained, exported):
        assert isinstance(model, SpeakerEncoder)
        assert not any(module.training for module in model.modules())
        assert torch.equal(model(wavs), load_encoder(experiment)(wavs))


def test_folders_that_hold_no_model(experiment: Path, tmp_path: Path) -> None:
    with refused("missing-folder", tmp_path / "nowhere"):
        load_pretrained(tmp_path / "nowhere")
    with refused("not-a-model", tmp_path, "hyperparams.yaml"):
        load_pretrained(tmp_path)
    shutil.copy(experiment / "hyperparams.yaml", tmp_path)
    with refused("unfinished-training", tmp_path):
        load_pretrained(tmp_path)


def test_exported_folders_that_are_damaged(experiment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(experiment / "export", folder)
    weights, yaml = folder / "embedding_model.ckpt", folder / "hyperparams.yaml"
    whole, text = weights.read_bytes(), yaml.read_text()
    weights.write_bytes(whole[:1000])
    with refused("other-network", weights, "hyperparams.yaml"):
        load_pretrained(folder)
    torch.save({"x": torch.zeros(1)}, weights)
    with refused("other-network", weights, "Error(s) in loading state_dict"):
        load_pretrained(folder)
    weights.write_bytes(whole)
    yaml.write_text(text.replace("lobes.encoders.SpeakerEncoder", "lobes.encoders.Nothing"))
    with refused("bad-model", yaml, "Nothing"):
        load_pretrained(folder)
    yaml.write_text("embedding_model: !new:torch.nn.Identity\n")
    with refused("not-a-model", yaml, "embedding_model", "Identity", "SpeakerEncoder"):
        load_pretrained(folder)


class _Limited(nn.Module):
    """Fails on less than 400 samples in one of two ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if wavs.shape[1] < 400:
            if self.how == "error":
                raise ValueError(f"{wavs.shape[1]} samples are fewer than 400")
            return wavs.new_full((len(wavs), 1, 4), torch.nan)
        return wavs.new_ones(len(wavs), 1, 4)


@pytest.mark.parametrize("how", ["error", "nan"])
def test_the_shortest_utterance_is_found(how: str) -> None:
    assert least_samples(_Limited(how)) == 400


def test_a_model_that_embeds_nothing_is_named() -> None:
    last = nn.Linear(4, 1)
    nn.init.constant_(last.weight, torch.nan)
    broken = nn.Sequential(_Limited("error"), last)
    with refused("bad-model"):
        least_samples(broken)


def test_a_folder_is_one_models(experiment: Path, tmp_path: Path) -> None:
    encoder = load_pretrained(experiment)
    facts = model_facts(encoder, experiment, "full", "embed.py")
    claim_for_model(tmp_path / "out", facts)
    # The same model wherever it lies.
    exported = load_pretrained(experiment / "export")
    claim_for_model(tmp_path / "out", model_facts(exported, "elsewhere", "full", "embed.py"))
    changes: tuple[tuple[dict[str, object], tuple[str, ...]], ...] = (
        ({"view": "both"}, ("other-settings", "--view full", "--view both")),
        ({"made_by": "evaluate.py"}, ("foreign-folder", "embed.py", "evaluate.py")),
        ({"weights_sha256": "0"}, ("other-weights", str(experiment))),
    )
    for change, told in changes:
        with refused(*told):
            claim_for_model(tmp_path / "out", facts | change)


def test_another_front_end_is_another_model(experiment: Path, tmp_path: Path) -> None:
    """The weights of the network are the same, and what it hears is not."""
    encoder = load_pretrained(experiment)
    changed = SpeakerEncoder(LogMel(), PassThrough(), encoder.embedding_model).eval()
    assert isinstance(encoder.mean_var_norm, UtteranceNorm)
    claim_for_model(tmp_path / "out", model_facts(encoder, "a", "full", "embed.py"))
    facts = model_facts(changed, "a", "full", "embed.py")
    assert facts["weights_sha256"] == weights_sha256(encoder.embedding_model)
    with refused("other-weights", tmp_path / "out"):
        claim_for_model(tmp_path / "out", facts)


def test_folders_with_other_files(experiment: Path, tmp_path: Path) -> None:
    facts = model_facts(load_pretrained(experiment), experiment, "full", "embed.py")
    (tmp_path / "notes.txt").touch()
    with refused("foreign-folder", tmp_path, "embed.py"):
        claim_for_model(tmp_path, facts)
    with refused("unwritable", tmp_path / "notes.txt" / "out"):
        claim_for_model(tmp_path / "notes.txt" / "out", facts)
    (tmp_path / "model.json").write_text("{}")
    with refused("unknown-origin", tmp_path / "model.json"):
        claim_for_model(tmp_path, facts)
