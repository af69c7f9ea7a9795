"""run.sh for real, from waveforms to a report, with a self-supervised teacher in a folder."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from speechbrain.inference.speaker import SpeakerRecognition

from speechbrain_ext.systems.experiment import load_encoder
from speechbrain_ext.verification.embeddings import load_embeddings
from tests.lobes.ssl_models import make_model_folder
from tests.processes import HANG, environment
from tests.recipe.tiny import RECIPE

pytestmark = pytest.mark.slow

pytest.importorskip("transformers")

ROOT = RECIPE.parents[2]
# Two teacher's layers by DistilHuBERT's loss, whose heads are not to be exported.
STUDENT = f"""
includes:
    - {RECIPE}/hparams/ssl/sv_mixer_wavlm_large.yaml
    - {RECIPE}/hparams/ssl/teachers/wavlm_base_plus.yaml
    - {RECIPE}/hparams/ssl/losses/distilhubert.yaml
system: tiny
teacher_source: nobody/has-such-a-model
teacher_layers: [1, 3]
layer_pairs: [[block2, layer1], [block2, layer3]]
num_blocks: 2
conv_channels: 16
hidden_size: 32
num_tokens: 24
groups: 4
lin_neurons: 16
back_end: !name:speechbrain_ext.lobes.back_ends.LinearBackEnd
    lin_neurons: !ref <lin_neurons>
number_of_epochs: 2
crop_seconds: 0.5
batch_size: 8
num_workers: 0
"""
EXP = Path("exp/tones/tiny/seed_1")


def write_tones(folder: Path, speakers: range) -> list[str]:
    """<speaker>/<session>/<utterance>.wav, one pitch a speaker; the names of the files."""
    rng, time = np.random.default_rng(0), np.arange(12800) / 16000
    names = []
    for speaker in speakers:
        for session in range(2):
            wave = sum(np.sin(2 * np.pi * (90 + 20 * speaker) * k * time) / k for k in range(1, 9))
            path = folder / f"s{speaker:02}" / f"{session}" / "a.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, 0.1 * wave + 0.02 * rng.standard_normal(len(time)), 16000)
            names.append(path.relative_to(folder).as_posix())
    return names


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house whose rooms are this one's, so that data and experiments are written elsewhere."""
    root = tmp_path_factory.mktemp("house")
    recipe = root / RECIPE.relative_to(ROOT)
    recipe.mkdir(parents=True)
    (recipe / "run.sh").write_text((RECIPE / "run.sh").read_text())
    for path in [*RECIPE.glob("*.py"), RECIPE / "utils", RECIPE / "hparams", RECIPE / "local"]:
        (recipe / path.name).symlink_to(path)
    (root / "speechbrain_ext").symlink_to(ROOT / "speechbrain_ext")
    setup = root / "tools" / "setup_env.sh"
    setup.parent.mkdir()
    setup.write_text(f"#!/bin/sh\necho {shlex.quote(sys.executable)}\n")
    setup.chmod(0o755)
    (root / "tiny.yaml").write_text(STUDENT)
    make_model_folder(root / "my wavlm", norm="group", normalize=False)
    write_tones(root / "tones", range(30))
    pairs = combinations(write_tones(root / "test", range(30, 34)), 2)
    lines = [f"{int(a[:3] == b[:3])} {a} {b}" for a, b in pairs]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def printed(root: Path) -> str:
    """What all stages print, called once, from the folder of the files."""
    script = root / RECIPE.relative_to(ROOT) / "run.sh"
    options = ["--student", "tiny.yaml", "--teacher_source", "my wavlm", "--offline"]
    options += ["--data", "tones", "--trials", "pairs.txt", "--trials_root", "test", "--jobs", "1"]
    done = subprocess.run(
        ["bash", str(script), *options, "--student_args", "--device cpu --noprogressbar"],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def exp(root: Path, printed: str) -> Path:
    """The student's experiment, all stages done."""
    return root / RECIPE.relative_to(ROOT) / EXP


def digests(tensors: Iterable[torch.Tensor]) -> set[bytes]:
    """Of each that is not too small to be told from others."""
    return {
        hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).digest()
        for tensor in tensors
        if tensor.is_floating_point() and tensor.numel() >= 16
    }


def test_every_stage_is_done(root: Path, printed: str, exp: Path) -> None:
    teacher = root / "my wavlm"
    skipped = f"Stage 2 trains nothing: the teacher is {teacher}, which is taken as it is."
    assert skipped in printed.splitlines()
    assert [f"Stage {stage}: done in" in printed for stage in range(7)] == [True] * 7
    assert "Downloading" not in printed
    lines = [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all(line["train"]["hidden"] > 0 for line in lines)
    assert not (exp.parents[1] / "teacher").exists()


def test_results_are_of_the_student_alone(exp: Path) -> None:
    score = json.loads((exp / "results" / "pairs.json").read_text())
    assert (score["targets"], score["nontargets"]) == (4, 24)
    assert {path.name for path in (exp / "results").glob("*.json")} == {
        "engines.json",
        "pairs.json",
        "pairs_normalized.json",
        "valid.json",
        "valid_normalized.json",
        "speed.json",
    }
    speed = json.loads((exp / "results" / "speed.json").read_text())["systems"]
    assert [system["name"] for system in speed] == ["my wavlm", "tiny"]
    results = json.loads((exp / "results.json").read_text())["systems"]
    roles = ["teacher", "student", "student, normalized"]
    assert [system["role"] for system in results] == roles
    assert results[1]["trials"]["pairs"]["eer"] == score["eer"]
    assert (exp / "RESULTS.md").read_text().startswith("# tiny distilled from my wavlm\n")
    assert "my wavlm, is taken as it is" in (exp / "report.html").read_text()


def test_the_teacher_and_the_heads_stay_behind(root: Path, exp: Path) -> None:
    """Checkpoints hold no tensor of the Transformer, the export none of the prediction heads."""
    encoder = load_encoder(exp)
    weights = load_file(root / "my wavlm" / "model.safetensors")
    transformer = digests(value for name, value in weights.items() if name.startswith("encoder."))
    assert len(transformer) > 20
    checkpoint = sorted((exp / "save").glob("CKPT*"))[-1]
    kept = {  # the others are text
        path.stem: torch.load(path, weights_only=True)
        for path in checkpoint.glob("*.ckpt")
        if zipfile.is_zipfile(path)
    }
    optimizer, annealing = kept.pop("optimizer"), kept.pop("lr_annealing")
    assert kept.keys() == {"embedding_model", "classifier", "objective"}
    assert not any(isinstance(value, torch.Tensor) for value in annealing.values())
    for state in [*kept.values(), load_file(exp / "save" / "embedding_model.safetensors")]:
        assert not digests(state.values()) & transformer
    learned = sum(len(state) for state in kept.values())
    learned -= len(list(encoder.embedding_model.buffers()))
    assert sum(len(group["params"]) for group in optimizer["param_groups"]) == learned
    heads = digests(kept["objective"].values())
    exported = torch.load(exp / "export" / "embedding_model.ckpt", weights_only=True)
    assert heads and not digests(exported.values()) & heads
    assert set(exported) == set(encoder.state_dict())


def test_the_export_loads_in_speechbrain(exp: Path) -> None:
    """Without the teacher; its embeddings are those that were scored."""
    folder = str(exp / "export")
    model = SpeakerRecognition.from_hparams(source=folder, savedir=folder)
    assert "my wavlm" not in (exp / "export" / "hyperparams.yaml").read_text()
    scored = load_embeddings(exp / "embeddings" / "test.npz")
    rows = dict(zip(scored.ids, scored.vectors, strict=True))
    test = exp.parents[3] / "data" / "tones" / "test"
    for name, vector in rows.items():
        wave, _ = soundfile.read(next(test.glob(f"{name}.*")), dtype="float32")
        found = model.encode_batch(torch.from_numpy(wave)[None]).flatten()
        np.testing.assert_allclose(found, vector, atol=1e-4)
