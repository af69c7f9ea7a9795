"""Every system of the paper's tables: its size as published, and a training of it made small."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml
from safetensors.torch import load_file
from speechbrain.inference.speaker import EncoderClassifier

from speechbrain_ext.compare.plan import read_plan
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.experiment import encoder_part, load_encoder
from speechbrain_ext.systems.yaml import load_hparams, resolve_hparams
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.lobes.ssl_models import make_model_folder
from tests.recipe.tiny import RECIPE, make_corpus
from tests.refusals import refused

pytestmark = pytest.mark.slow

pytest.importorskip("transformers")

HPARAMS = RECIPE / "hparams"
TABLES = read_plan(HPARAMS / "comparisons" / "sv_mixer_tables.yaml").systems
SYSTEMS = sorted(TABLES)
STUDENTS = [name for name in SYSTEMS if name != "wavlm_finetuned"]
# Millions of a block's parameters.
BLOCKS = {
    "sv_mixer": 3.740,
    "sv_mixer_released": 3.746,
    "transformer": 8.400,
    "mlp_mixer": 8.576,
    "cycle_mlp": 9.447,
    "conv_mixer": 8.852,
    "mlp_mixer_gcm": 1.236,
    "mlp_mixer_lgm": 8.970,
    "mlp_mixer_msm": 2.290,
    "modified_mixer": 7.357,
}
BASE = ("base_plus", "distilhubert")  # teachers with 768 channels
SMALL = {
    "hidden_size": 32,
    "num_blocks": 2,
    "num_tokens": 24,
    "conv_channels": 16,
    "crop_seconds": 0.5,
    "batch_size": 12,
    "number_of_epochs": 1,
    "num_workers": 0,
}


def yaml_of(system: str) -> Path:
    return HPARAMS / TABLES[system].yaml


def overrides_of(system: str) -> dict[str, str]:
    """What the tables choose for a system, as text."""
    chosen = {key: json.dumps(value) for key, value in TABLES[system].overrides.items()}
    return chosen | {"system": system}


def resolved(system: str) -> str:
    return resolve_hparams(yaml_of(system), overrides_of(system))


def depth(system: str) -> int:
    """Layers of the teacher that a YAML names."""
    return 12 if any(name in system for name in BASE) else 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in ``tiny``, and below ``teachers`` a small model like each of the large ones."""
    folder = tmp_path_factory.mktemp("place")
    make_corpus(folder / "tiny")
    for name, architecture, norm, layers, bias in (
        ("wavlm_large", "wavlm", "layer", 24, False),
        ("hubert_large", "hubert", "layer", 24, True),
        ("wav2vec2_large", "wav2vec2", "layer", 24, True),
        ("wavlm_base_plus", "wavlm", "group", 12, False),
    ):
        make_model_folder(
            folder / "teachers" / name,
            architecture,
            norm=norm,
            layers=layers,
            conv_bias=bias,
            normalize=norm == "layer",
        )
    return folder


def teacher_of(system: str, place: Path) -> Path:
    """The small model that stands for a system's teacher."""
    other = "wavlm_large" if depth(system) == 24 else "wavlm_base_plus"
    names = ("hubert_large", "wav2vec2_large")
    return place / "teachers" / next((name for name in names if system.endswith(name)), other)


def pairs(system: str) -> str:
    """Which of the teacher's layers the small student's last one learns from."""
    layers = [4, 8, 12] if "distilhubert" in system else [depth(system)]
    return str([["block2", f"layer{layer}"] for layer in layers])


def small(system: str, place: Path) -> dict[str, str]:
    """Settings that make a system small, as text."""
    tree = ruamel.yaml.YAML().load(resolved(system))
    settings = overrides_of(system) | {k: str(value) for k, value in SMALL.items() if k in tree}
    if tree.get("terms"):
        settings["layer_pairs"] = pairs(system)
    if "num_heads" in tree:
        settings["num_heads"] = "4"
    if system == "wavlm_finetuned":
        settings["teacher_layers"] = "[12, 24]"
    if "teacher_folder" in tree:
        return settings | {"teacher_folder": str(place / "exp" / "wavlm_finetuned")}
    return settings | {"teacher_source": str(teacher_of(system, place)), "offline": "True"}


@pytest.mark.parametrize("system", STUDENTS)
def test_sizes_are_the_published_ones(system: str) -> None:
    text = resolved(system)
    tree = ruamel.yaml.YAML().load(io.StringIO(text))
    student = load_hyperpyyaml(encoder_part(text, system))["embedding_model"]
    width = 768 if any(name in system for name in BASE) else 1024
    assert student.layers == {f"block{i}": width for i in range(1, tree["num_blocks"] + 1)}
    sizes = {sum(p.numel() for p in block.parameters()) for block in student.blocks}
    if width == 1024:
        name = max((name for name in BLOCKS if system.startswith(name)), key=len)
        assert len(sizes) == 1 and sizes.pop() / 1e6 == pytest.approx(BLOCKS[name], abs=0.0006)
    if tree["teacher"] is not None:
        assert tree["teacher_layers"] == [int(pair[1][5:]) for pair in tree["layer_pairs"]]


@pytest.mark.parametrize("system", [name for name in STUDENTS if not name.endswith("aligned")])
def test_training_is_the_published_one(system: str) -> None:
    """Of arXiv 2509.14136: what its tables have in common."""
    tree = ruamel.yaml.YAML().load(io.StringIO(resolved(system)))
    optimiser, margin = tree["opt_class"], tree["margin_loss"]
    assert optimiser.tag.value == "!name:torch.optim.AdamW"
    assert (optimiser["lr"], optimiser["weight_decay"]) == (2e-4, 2e-5)
    assert tree["crop_seconds"] == 3.0
    assert tree["batch_size"] * tree["grad_accumulation_factor"] == 128
    schedule, counter = tree["lr_annealing"], tree["epoch_counter"]
    # SpeechBrain's scheduler halves at the validation after its patience.
    assert (schedule["factor"], schedule["patience"] + 1) == (0.5, 5)
    assert (counter["limit_to_stop"], counter["limit_warmup"]) == (10, 0)
    assert tree["anneal"]["counter"] is counter
    assert margin["k"] == 5
    if system == "sv_mixer_wavlm_large_top_k_weight":
        assert margin["multiplier"] == 10
    else:
        assert margin.tag.value.endswith("InterTopKMargin") and margin["penalty"] == 0.06
    assert tree["term_weights"] == ({} if system == "sv_mixer_no_kd" else {"hidden": 0.5})


def test_the_tables_have_every_file() -> None:
    """By its own name where nothing else is chosen; every choice is made by some system."""
    files = {path.stem for path in (HPARAMS / "ssl").glob("*.yaml")}
    alone = {name: system for name, system in TABLES.items() if not system.overrides}
    assert files == set(alone) and all(yaml_of(name).stem == name for name in alone)
    choices = {path.relative_to(HPARAMS / "ssl") for path in (HPARAMS / "ssl").glob("*/*.yaml")}
    chosen = [name for system in TABLES.values() for name in system.overrides.get("includes", [])]
    texts = [path.read_text() for path in (HPARAMS / "ssl").glob("*.yaml")]
    assert all(str(name) in chosen or any(str(name) in text for text in texts) for name in choices)


# What another one learns from comes first.
@pytest.mark.parametrize("system", ["wavlm_finetuned", *STUDENTS])
def test_trains_and_exports(system: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    folder = place / "exp" / system
    arguments = [str(yaml_of(system)), "--corpus_dir", "tiny"]
    arguments += ["--output_folder", str(folder), "--device", "cpu", "--noprogressbar"]
    for key, value in small(system, place).items():
        arguments += [f"--{key}", value]
    run_training(TeacherBrain if system == "wavlm_finetuned" else DistillBrain, arguments)
    (line,) = [json.loads(text) for text in (folder / "train_log.jsonl").read_text().splitlines()]
    assert line["train"]["loss"] > 0 and line["train"]["utterances"] == 24
    if system in STUDENTS and not system.endswith("no_kd"):
        term = "distillation" if system.endswith("aligned") else "hidden"
        assert line["train"][term] > 0 and 0 < line["train"]["teacher_time"] < 1
        assert line["train"]["share"] == pytest.approx(line["train"][f"share_{term}"])
    weights = load_file(folder / "save" / "embedding_model.safetensors")
    encoder = load_encoder(folder)
    assert weights.keys() == encoder.embedding_model.state_dict().keys()
    write_model_folder(folder, folder / "export")
    model = EncoderClassifier.from_hparams(
        source=str(folder / "export"), savedir=str(folder / "export")
    )
    wavs = 0.1 * torch.randn(2, 16000)
    with torch.no_grad():
        expected = encoder(wavs)
    torch.testing.assert_close(model.encode_batch(wavs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("system", "overrides", "told"),
    [
        ("sv_mixer_wavlm_large", "num_blocks: 1", ("bad-setting", "pairs", "'block2'")),
        ("sv_mixer_wavlm_large", "teacher_layers: [25]", ("bad-setting", "25", "0 to 24")),
        ("sv_mixer_wavlm_large", "layer_pairs: [[block2, layer12]]", ("bad-setting", "'layer12'")),
        ("sv_mixer_wavlm_large", "teacher_architecture: hubert", ("other-network", "wavlm")),
        (
            "sv_mixer_wavlm_large",
            "teacher_source: nobody/nothing",
            ("not-cached", "nobody/nothing"),
        ),
        ("sv_mixer_wavlm_large", "groups: 5", ("bad-setting", "groups=5")),
        ("transformer_wavlm_large", "num_heads: 5", ("bad-setting", "num_heads=5")),
        ("sv_mixer_wavlm_large", "alpha: 0.3", ("bad-setting", "alpha", "0.3")),
        (
            "sv_mixer_wavlm_large",
            "teacher_precision: fp16",
            ("bad-setting", "teacher_precision is 'fp16'", "fp32 or bf16"),
        ),
        (
            "sv_mixer_wavlm_large",
            "teacher_layers: 2",
            ("bad-setting", "teacher_layers is 2", "null"),
        ),
        ("sv_mixer_wavlm_large", "teacher_source: null", ("bad-setting", "source is None")),
        (
            "sv_mixer_wavlm_large",
            "teacher: null",
            ("bad-setting", "teacher is null", "<teacher.layers>"),
        ),
        ("sv_mixer_wavlm_large", "block: null", ("bad-setting", "block is None", "!name:")),
        (
            "sv_mixer_wavlm_large",
            "back_end: ecapa",
            ("bad-setting", "back_end is 'ecapa'", "class"),
        ),
        ("sv_mixer_wavlm_large", "back_end: {odd: 3}", ("bad-setting", "'odd'")),
        (
            "sv_mixer_wavlm_large",
            "layer_pairs: [[[block1], [layer2]]]",
            ("bad-setting", "[['block1'], ['layer2']]"),
        ),
        (
            "sv_mixer_wavlm_large",
            "layer_pairs: {block1: layer2}",
            ("bad-setting", "list", "mapping"),
        ),
        (
            "sv_mixer_wavlm_large",
            "hidden_size: 64.0",
            ("bad-setting", "hidden_size is 64.0", "whole"),
        ),
        ("sv_mixer_wavlm_large", "groups: 0", ("bad-setting", "groups is 0", "1 or more")),
        (
            "sv_mixer_wavlm_large",
            "offline: maybe",
            ("bad-setting", "offline is 'maybe'", "True or False"),
        ),
    ],
)
def test_mistakes_are_one_sentence(
    system: str,
    overrides: str,
    told: tuple[str, ...],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    key, _, value = overrides.partition(": ")
    settings = small(system, place) | {"corpus_dir": "tiny", key: value}
    with refused(*told) as caught:
        load_hparams(yaml_of(system), {k: str(v) for k, v in settings.items()})
    assert "\n" not in str(caught.value)
