"""Speaker models of others become experiment folders."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from huggingface_hub import constants
from torch import Tensor

from local import import_teacher
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.lobes.cam_plus_plus import CAMPlusPlus
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel, PassThrough
from speechbrain_ext.lobes.foreign import OnnxModel
from speechbrain_ext.lobes.ge2e import GE2E, MelPower
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.systems import fetch
from speechbrain_ext.systems.experiment import load_encoder, read_setting, save_weights
from speechbrain_ext.systems.imported import model_name, model_settings
from tests.lobes.published_networks import randomise_norms
from tests.lobes.ssl_systems import make_waveforms
from tests.lobes.test_foreign import Pooled, export
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes/VoxCeleb/distill_mixer"
REAL = ROOT.parent / "shared/data/libri_mini"


def run_import(model: object, out: Path, **overrides: object) -> SpeakerEncoder:
    """Run the script's ``main`` in this process."""
    argv = ["import_teacher.py", str(model), "--out", str(out)]
    for key, value in overrides.items():
        argv += [f"--{key}", str(value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)
        import_teacher.main()
    return load_encoder(out)


def embed(encoder: Any, wavs: Tensor) -> Tensor:
    with torch.no_grad():
        embeddings: Tensor = encoder(wavs)
    return embeddings


def test_cam_plus_plus_of_3d_speaker_and_wespeaker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same network on other features; WeSpeaker's file holds its classifier too."""
    torch.manual_seed(0)
    network, wavs = randomise_norms(CAMPlusPlus(80, 192)), make_waveforms(2, 16000)
    norm = UtteranceNorm(std_norm=False)
    for name, front_end, extra in (
        ("campplus", KaldiFbank(), {}),
        (
            "campplus_wespeaker",
            KaldiFbank(window="hamming", scale=32768.0),
            {"projection.weight": torch.ones(5, 192)},
        ),
    ):
        checkpoint = tmp_path / f"{name}.pt"
        torch.save({**network.state_dict(), **extra}, checkpoint)
        out = tmp_path / name
        given = {"checkpoint": checkpoint, "lin_neurons": 192}
        encoder = run_import(name, out, **given)
        expected = embed(SpeakerEncoder(front_end, norm, network).eval(), wavs)
        torch.testing.assert_close(embed(encoder, wavs), expected)
        assert read_setting(out, "system") == name and read_setting(out, "lin_neurons") == 192
        digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        assert read_setting(out, "checkpoint_sha256") == digest
        # Whoever trained the file, it is not the one that campplus.yaml tells of.
        own = name == "campplus"
        assert read_setting(out, "licence") == ("unknown" if own else "CC BY 4.0")
        assert ("3D-Speaker" in read_setting(out, "source")) is False
    assert "licence CC BY 4.0" in capsys.readouterr().out


def test_a_checkpoint_of_ones_own_is_what_its_owner_says(tmp_path: Path) -> None:
    """And the file where a fetched one lies, if it is another, is not taken for that one."""
    torch.save(GE2E().state_dict(), tmp_path / "mine.pt")
    given = {"checkpoint": tmp_path / "mine.pt", "source": "us", "licence": "MIT"}
    run_import("ge2e", tmp_path / "exp", **given)
    told = {key: read_setting(tmp_path / "exp", key) for key in ("source", "licence", "package")}
    assert told == {"source": "us", "licence": "MIT", "package": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_teacher, "RECIPE", tmp_path)
        (tmp_path / "data/teachers").mkdir(parents=True)
        torch.save(GE2E().state_dict(), tmp_path / "data/teachers/ge2e.pt")
        before = (tmp_path / "data/teachers/ge2e.pt").read_bytes()
        with refused("bad-weights", tmp_path / "data/teachers/ge2e.pt", "--checkpoint"):
            run_import("ge2e", tmp_path / "other")
    assert (tmp_path / "data/teachers/ge2e.pt").read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_ge2e(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, wavs = GE2E().eval(), make_waveforms(2, 40000)
    state = {**network.state_dict(), "similarity_weight": torch.ones(1)}
    torch.save({"step": 1, "model_state": state}, tmp_path / "x.pt")
    encoder = run_import("ge2e", tmp_path / "exp", checkpoint=tmp_path / "x.pt")
    expected = embed(SpeakerEncoder(MelPower(), PassThrough(), network), wavs)
    torch.testing.assert_close(embed(encoder, wavs), expected)


def test_torchscript_leaves_nothing_behind_that_is_needed(tmp_path: Path) -> None:
    path, wavs = tmp_path / "model.pt", make_waveforms(2, 16000)
    network = torch.jit.script(Pooled(80).eval())
    torch.jit.save(network, path)
    run_import(path, tmp_path / "exp", framework="3d-speaker")
    path.unlink()
    expected = network(UtteranceNorm(std_norm=False)(KaldiFbank()(wavs)))
    found = embed(load_encoder(tmp_path / "exp"), wavs).squeeze(1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert read_setting(tmp_path / "exp", "lin_neurons") == 6


@pytest.mark.parametrize("said", ["0", "1"])
def test_an_onnx_file_reads_the_same_when_it_is_loaded(said: str, tmp_path: Path) -> None:
    """What its metadata say of the samples is kept; quiet speech tells, by the log's floor."""
    metadata = {"framework": "wespeaker", "normalize_samples": said}
    path = export(tmp_path / "model.onnx", Pooled(80), torch.randn(1, 50, 80), metadata)
    wavs = 1e-4 * make_waveforms(2, 16000)
    expected = embed(OnnxModel(path), wavs)
    encoder = run_import(path, tmp_path / "exp")
    path.unlink()
    assert torch.equal(embed(encoder, wavs), expected)


def make_export(folder: Path) -> MLPMixer:
    """Write ``model``, an export of a small network."""
    experiment = folder / "trained"
    experiment.mkdir()
    (experiment / "hyperparams.yaml").write_text(
        "compute_features: !new:speechbrain_ext.lobes.features.LogMel\n"
        "mean_var_norm: !new:speechbrain_ext.nnet.normalization.UtteranceNorm\n"
        "embedding_model: !new:speechbrain_ext.lobes.mixer.MLPMixer\n"
        "    channels: 16\n    num_blocks: 1\n    lin_neurons: 8\nsystem: small\n"
    )
    torch.manual_seed(0)
    network = randomise_norms(MLPMixer(channels=16, num_blocks=1, lin_neurons=8))
    save_weights(experiment, network, {})
    write_model_folder(experiment, folder / "model")
    return network


def test_an_export_and_so_a_folder_of_speechbrains(tmp_path: Path) -> None:
    network = make_export(tmp_path)
    wavs = make_waveforms(2, 16000)
    lengths = torch.tensor([1.0, 0.6])
    encoder = run_import(tmp_path / "model", tmp_path / "exp")
    with torch.no_grad():
        found = encoder(wavs, lengths)
        expected = SpeakerEncoder(LogMel(), UtteranceNorm(), network)(wavs, lengths)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_model_of_speechbrains_that_gives_nan_is_refused(tmp_path: Path) -> None:
    make_export(tmp_path)
    path = tmp_path / "model" / "embedding_model.ckpt"
    weights = torch.load(path)
    for value in weights.values():
        if value.is_floating_point():
            value.fill_(torch.nan)
    torch.save(weights, path)
    with refused("bad-model", tmp_path / "model", "not finite"):
        run_import(tmp_path / "model", tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


def test_the_export_of_an_onnx_model_says_what_it_needs(tmp_path: Path) -> None:
    model = export(tmp_path / "model.onnx", Pooled(80), torch.randn(1, 50, 80))
    run_import(model, tmp_path / "exp")
    write_model_folder(tmp_path / "exp", tmp_path / "exported")
    readme = (tmp_path / "exported" / "README.md").read_text()
    assert 'pip install ".[export]"' in readme and "A model in a file of its own" in readme


def test_what_cannot_be_taken_along_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "exp"
    torch.save(CAMPlusPlus(80, 512).state_dict(), tmp_path / "wide.pt")
    with refused("other-network", "wide.pt", "CAMPlusPlus", "[512, 1024, 1]", "[192, 1024, 1]"):
        run_import("campplus", out, checkpoint=tmp_path / "wide.pt")
    with refused("missing-file", "none.pt"):
        run_import("ge2e", out, checkpoint=tmp_path / "none.pt")
    with refused("unknown-name", "camplus", "campplus"):
        run_import("camplus", out)
    with refused("unknown-name", "model.onnx", "campplus_wespeaker, ge2e."):
        run_import(tmp_path / "model.onnx", out)
    with refused(
        "missing-key", "campplus_wespeaker.yaml", "checkpoint has no value", "--checkpoint"
    ):
        run_import("campplus_wespeaker", out)
    with refused("no-effect", "precision", "ge2e"):
        run_import("ge2e", out, precision="bf16")
    (tmp_path / "empty").mkdir()
    with refused("not-a-model", tmp_path / "empty"):
        run_import(tmp_path / "empty", out)
    assert not out.exists()


def test_another_model_does_not_take_the_folder(tmp_path: Path) -> None:
    for name in "ab":
        torch.save(GE2E().state_dict(), tmp_path / f"{name}.pt")
    run_import("ge2e", tmp_path / "exp", checkpoint=tmp_path / "a.pt")
    run_import("ge2e", tmp_path / "exp", checkpoint=tmp_path / "a.pt")
    with refused("other-settings", tmp_path / "exp", "checkpoint", "--out"):
        run_import("ge2e", tmp_path / "exp", checkpoint=tmp_path / "b.pt")
    torch.save(GE2E().state_dict(), tmp_path / "a.pt")
    with refused("other-settings", tmp_path / "exp", "checkpoint_sha256"):
        run_import("ge2e", tmp_path / "exp", checkpoint=tmp_path / "a.pt")


def test_a_model_is_found_and_named(tmp_path: Path) -> None:
    """A hub's name may have a dot; models of one file name have folders of two."""
    teachers = RECIPE / "hparams/teachers"
    found = model_settings("org/model-2.5", [], teachers)
    assert found.path.name == "speechbrain.yaml" and found.tree["model"] == "org/model-2.5"
    assert model_name("campplus", teachers) == "campplus"
    assert model_name("org/model-2.5", teachers) == "org_model-2.5"
    names = set()
    for place in "ab":
        (tmp_path / place / "export").mkdir(parents=True)
        names.add(model_name(str(tmp_path / place / "export"), teachers))
    assert len(names) == 2 and all(name.startswith("export_") for name in names)


def test_offline_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(import_teacher, "RECIPE", tmp_path)
    with refused("not-cached", tmp_path / "data/teachers/ge2e.pt", "get_teacher.py ge2e"):
        run_import("ge2e", tmp_path / "exp")
    assert list(tmp_path.iterdir()) == []


def wheel(folder: Path, content: bytes) -> Path:
    path = folder / "nothing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/weights.pt", content)
    return path


def test_a_checkpoint_is_fetched_if_it_is_the_one_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wheel(tmp_path, b"weights")
    monkeypatch.setattr(fetch, "_download", lambda *arguments: made)
    settings = {
        "system": "x",
        "licence": "MIT",
        "package": "package==1.0",
        "package_sha256": "0",
        "package_file": "package/weights.pt",
        "checkpoint_sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    path = tmp_path / "data/teachers/weights.pt"
    fetch.fetch_checkpoint(settings, path)
    assert path.read_bytes() == b"weights"
    made.unlink()
    fetch.fetch_checkpoint(settings, path)  # it is there
    wheel(tmp_path, b"other")
    path.unlink()
    with refused("bad-weights", "weights.pt", "package==1.0", "was not kept"):
        fetch.fetch_checkpoint(settings, path)
    assert list(path.parent.iterdir()) == []


def test_a_download_that_fails_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index, as without a network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    settings = {"package": "nothing==1.0", "package_sha256": "0" * 64, "checkpoint_sha256": "0"}
    settings |= {"system": "x", "licence": "MIT"}
    with refused("hub-refused", "nothing==1.0"):
        fetch.fetch_checkpoint(settings, tmp_path / "weights.pt")
    assert list(tmp_path.iterdir()) == []
    made = wheel(tmp_path, b"weights")  # which is there, but is another one
    found = hashlib.sha256(made.read_bytes()).hexdigest()
    with refused("bad-weights", "nothing==1.0", found, "0" * 64):
        fetch.fetch_checkpoint(settings, tmp_path / "weights.pt")
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.slow
@pytest.mark.skipif(
    not (RECIPE / "data/teachers/campplus.pt").is_file() or not REAL.is_dir(),
    reason="the weights of CAM++ are not fetched, or libri_mini is not there",
)
def test_published_cam_plus_plus_tells_speakers_apart(tmp_path: Path) -> None:
    """Of 20 speakers of libri_mini, with the features that it was trained on and with no others."""
    encoder = run_import("campplus", tmp_path / "exp")
    speakers, embeddings = [], []
    for folder in sorted((REAL / "dev").iterdir())[:20]:
        for path in sorted(folder.rglob("*.flac"))[:2]:
            wav = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
            embeddings.append(embed(encoder, wav[None]).flatten())
            speakers.append(os.path.basename(folder))
    vectors = torch.nn.functional.normalize(torch.stack(embeddings), dim=1)
    scores = vectors @ vectors.T
    same = torch.tensor([[a == b for b in speakers] for a in speakers])
    same.fill_diagonal_(False)
    others = ~same & ~torch.eye(len(speakers), dtype=torch.bool)
    assert scores[same].min() > scores[others].max()
