"""Every YAML of hparams/ loads, trains two steps at its full size, and exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from speechbrain.inference.speaker import EncoderClassifier

from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.experiment import load_encoder
from speechbrain_ext.systems.yaml import merge, read_layers
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.tiny import RECIPE, make_corpus

pytestmark = pytest.mark.slow

HPARAMS = RECIPE / "hparams"
SYSTEMS = sorted(path.stem for path in HPARAMS.glob("*.yaml") if path.stem != "manifests")
# Systems that others learn or start from come first.
FIRST = ["teacher", "ecapa_tdnn", "resnetse34l", "v2", "v4"]
PARAMETERS = {
    "teacher": 3_873_745,
    "v1": 2_664_576,
    "v2_no_kd": 2_664_576,
    "v2": 2_664_576,
    "v3": 2_664_576,
    "v4": 2_664_576,
    "v4_large_margin": 2_664_576,
    "v2_kl": 2_664_576,
    "v2_large": 7_844_864,
    "v2_large_low_alpha": 7_844_864,
    "ecapa_tdnn": 6_194_048,
    "ecapa_tdnn_1024": 14_660_416,
    "redimnet_b0": 1_009_110,
    "redimnet_b1": 2_193_284,
    "resnet34_se": 7_660_704,
    "resnetse34l": 1_499_576,
    "xvector": 4_354_964,
    "v2_4x384": 7_008_000,
    "v2_6x256": 4_617_216,
    "v2_8x256": 6_003_712,
    "v2_12x128": 2_291_968,
    "v2_bottleneck": 2_796_288,
    "v2_hybrid_lstm": 4_443_264,
    "v2_lstm_front": 2_799_744,
    "v2_sincnet": 2_664_736,
    "v2_token_mlp": 2_491_404,
    "v2_joined": 2_885_952,
    "v2_context_pooling": 2_689_088,
    "v2_parallel_kernels": 2_694_528,
    "v5": 5_050_496,
    "v5_half": 2_664_576,
    "v5_quarter": 2_619_264,
    "v5_fast": 1_189_248,
    "v5_tiny": 919_936,
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny corpus, where experiments go to exp/tiny/<system>/seed_1."""
    place = tmp_path_factory.mktemp("workplace")
    make_corpus(place / "tiny")
    return place


def train(system: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two steps of twelve crops; a system that has been trained stays as it is."""
    monkeypatch.chdir(workplace)
    folder = workplace / "exp" / "tiny" / system / "seed_1"
    if not (folder / "save" / "embedding_model.safetensors").is_file():
        yaml = HPARAMS / f"{system}.yaml"
        arguments = [str(yaml), "--corpus_dir", "tiny", "--number_of_epochs", "1"]
        arguments += [
            "--noprogressbar",
            "--batch_size",
            "12",
            "--crop_seconds",
            "0.5",
            "--num_workers",
            "0",
        ]
        arguments += ["--device", "cpu", "--grad_accumulation_factor", "1"]
        distils = "objective" in merge(read_layers(yaml))
        run_training(DistillBrain if distils else TeacherBrain, arguments)
    return folder


@pytest.mark.parametrize("system", FIRST + [name for name in SYSTEMS if name not in FIRST])
def test_trains_and_exports(system: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in FIRST[: FIRST.index(system)] if system in FIRST else FIRST:
        train(needed, workplace, monkeypatch)
    folder = train(system, workplace, monkeypatch)
    (line,) = [json.loads(text) for text in (folder / "train_log.jsonl").read_text().splitlines()]
    assert line["train"]["loss"] > 0 and line["train"]["utterances"] in (24, 72)
    write_model_folder(folder, folder / "export")
    wavs = 0.1 * torch.randn(2, 16000)
    model = EncoderClassifier.from_hparams(
        source=str(folder / "export"), savedir=str(folder / "export")
    )
    encoder = load_encoder(folder)
    with torch.no_grad():
        expected = encoder(wavs)
    torch.testing.assert_close(model.encode_batch(wavs), expected, atol=1e-4, rtol=1e-4)
    weights = load_file(folder / "save" / "embedding_model.safetensors")
    network = encoder.embedding_model
    assert weights.keys() == network.state_dict().keys()
    if system in PARAMETERS:
        assert sum(p.numel() for p in network.parameters()) == PARAMETERS[system]
