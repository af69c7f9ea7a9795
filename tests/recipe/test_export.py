"""Exported folders load in SpeechBrain, offline, anywhere, and embed as the recipe does."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import export
import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import constants
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.inference.speaker import SpeakerRecognition

from speechbrain_ext.audio import read_audio
from speechbrain_ext.decisions import Calibration, Decisions, OperatingPoint
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.files import file_digest
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.systems.experiment import load_encoder
from speechbrain_ext.verification.fitted import Fitted, exported_decisions, keep_decisions
from tests.recipe.experiments import SPEAKERS, make_experiment
from tests.refusals import refused


def run_export(*arguments: str | Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["export.py", *map(str, arguments)])
        with export.friendly_exit():
            export.main()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("system", ["v2", "teacher"])
def test_embeddings_are_the_recipes(system: str, tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "exp", system)
    run_export(experiment)
    folder = tmp_path / "moved"
    shutil.move(experiment / "export", folder)
    model = SpeakerRecognition.from_hparams(source=folder, savedir=folder)
    encoder = load_encoder(experiment)
    samples = torch.tensor([20123, 16000, 15999, 4801])
    wavs = 0.1 * torch.randn(4, 20123)
    for index, count in enumerate(samples):
        wavs[index, count:] = 0.3
    together = model.encode_batch(wavs, samples / 20123)
    assert together.shape == (4, 1, 8)
    with torch.no_grad():
        for index, count in enumerate(samples):
            expected = encoder(wavs[index : index + 1, :count])[0]
            alone = model.encode_batch(wavs[index, :count])[0]
            torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(together[index], expected, atol=1e-5, rtol=0)
    normalised = model.encode_batch(wavs, samples / 20123, normalize=True)
    assert torch.equal(normalised, together)


def test_verification_and_classification(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "exp")
    run_export(experiment)
    wavs = 0.1 * torch.randn(2, 16000)
    files = [str(tmp_path / f"{index}.wav") for index in range(2)]
    for file, wave in zip(files, wavs, strict=True):
        soundfile.write(file, wave.numpy(), 16000)
    folder = experiment / "export"
    model = SpeakerRecognition.from_hparams(source=str(folder), savedir=str(folder))
    score, same = model.verify_files(files[0], files[0])
    assert score.item() == pytest.approx(1, abs=1e-5) and bool(same)
    with torch.no_grad():
        a, b = load_encoder(experiment)(wavs).squeeze(1)
    score, _ = model.verify_batch(wavs[:1], wavs[1:])
    assert score.item() == pytest.approx(torch.cosine_similarity(a, b, dim=0).item(), abs=1e-4)

    # Elsewhere saved, and as the other class.
    classifier = EncoderClassifier.from_hparams(source=str(folder), savedir=str(tmp_path / "cache"))
    classifier.hparams.label_encoder.expect_len(len(SPEAKERS))
    probabilities, _, index, names = classifier.classify_batch(wavs)
    assert probabilities.shape == (2, len(SPEAKERS))
    assert names == [SPEAKERS[i] for i in index]


def write_tone(path: Path, rate: int = 16000, channels: int = 1) -> str:
    wave = 0.3 * torch.randn(rate, 1, generator=torch.Generator().manual_seed(rate))
    soundfile.write(path, wave.expand(-1, channels).numpy(), rate)
    return str(path)


def test_a_verifier_decides_by_its_models_threshold(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "exp")
    run_export(experiment)
    folder = str(experiment / "export")
    model = SpeakerVerifier.from_hparams(source=folder, savedir=folder)
    assert model.hparams.threshold == 0.3456
    one = write_tone(tmp_path / "a.wav")
    other = write_tone(tmp_path / "b.flac", 44100, 2)
    score, same = model.verify_files(one, other)
    with torch.no_grad():
        a, b = (load_encoder(experiment)(read_audio(path)[None])[0, 0] for path in (one, other))
    assert score.item() == pytest.approx(torch.cosine_similarity(a, b, dim=0).item(), abs=1e-4)
    assert bool(same) == (score.item() > 0.3456)
    for threshold, decision in ((score.item() - 0.01, True), (score.item() + 0.01, False)):
        assert bool(model.verify_files(one, other, threshold=threshold)[1]) is decision


def test_a_verifier_refuses_what_holds_no_speech(tmp_path: Path) -> None:
    run_export(make_experiment(tmp_path / "exp"))
    folder = str(tmp_path / "exp" / "export")
    model = SpeakerVerifier.from_hparams(source=folder, savedir=folder)
    good, tone = write_tone(tmp_path / "a.wav"), 0.5 * torch.randn(16000, 1)
    for name, wave in (
        ("silence.wav", torch.zeros(16000)),
        ("offset.wav", torch.full((16000,), 0.5)),
        ("soft.wav", 1e-4 * tone),
        ("anti-phase.wav", torch.cat([tone, -tone], dim=1)),
    ):
        soundfile.write(tmp_path / name, wave.numpy(), 16000)
        with refused("unusable-audio", name, "silent"):
            model.verify_files(good, tmp_path / name)
    with refused("unusable-audio", "nowhere.wav"):
        model.verify_files(tmp_path / "nowhere.wav", good)


@pytest.mark.parametrize(
    "source",
    ["/nowhere/export", "./export", "~/nowhere", "exp/mini/v2/seed_1/export", "a b", Path("x/y")],
)
def test_a_verifier_of_a_folder_that_is_not_there(
    source: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a hub could not have it, nothing else is asked; nor is the folder made."""
    monkeypatch.chdir(tmp_path)
    with refused("missing-folder", os.path.expanduser(source), "export.py"):
        SpeakerVerifier.from_hparams(source=source, savedir="saved")
    with refused("missing-folder", "exp/export"):  # it could be on the hub, were it not the folder
        SpeakerVerifier.from_hparams(source="exp/export", savedir="exp/export")
    assert not any(tmp_path.iterdir())


def test_a_verifier_of_a_folder_that_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, told in (
        (tmp_path / "empty", "has no hyperparams.yaml"),
        (make_experiment(tmp_path / "exp"), "python export.py"),
    ):
        with refused("not-a-model", folder, told):
            SpeakerVerifier.from_hparams(source=str(folder), savedir=str(folder))


def test_a_verifier_of_a_name_that_the_hub_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused("hub-refused", "nobody/nothing"):
        SpeakerVerifier.from_hparams(source="nobody/nothing", savedir=tmp_path)
    with refused("hub-refused", "nobody/nothing"):
        SpeakerVerifier.from_hparams("nobody/nothing")


def test_thresholds_are_those_of_cosines(tmp_path: Path) -> None:
    """By which the model decides: a cohort does not come along."""
    experiment = make_experiment(tmp_path / "exp")
    plain = json.loads((experiment / "results" / "test.json").read_text())
    normalized = {**plain, "scores": "AS-norm, a cohort of 20", "eer_threshold": 2.3456}
    (experiment / "results" / "test_normalized.json").write_text(json.dumps(normalized))
    run_export(experiment)
    readme = (experiment / "export" / "README.md").read_text(encoding="utf-8")
    assert "0.4321" in readme and "2.3456" not in readme


@pytest.mark.parametrize("left", ["nothing", "of other weights"])
def test_without_a_score_of_its_own_a_model_asks_for_a_threshold(left: str, tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "exp")
    if left == "nothing":
        shutil.rmtree(experiment / "results")
    else:
        for path in (experiment / "results").iterdir():
            path.write_text(path.read_text().replace('"weights_sha256": "', '"weights_sha256": "0'))
    run_export(experiment)
    folder = experiment / "export"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "has not scored this model" in readme and "threshold=" in readme
    assert "0.4321" not in readme
    model = SpeakerVerifier.from_hparams(source=str(folder), savedir=str(folder))
    one = write_tone(tmp_path / "a.wav")
    with refused("no-threshold", "threshold="):
        model.verify_files(one, one)
    assert bool(model.verify_files(one, one, threshold=0.5)[1])


@pytest.mark.parametrize("name", ["embedding_model.ckpt", "hyperparams.yaml"])
def test_a_verifier_refuses_a_folder_that_was_changed(name: str, tmp_path: Path) -> None:
    run_export(make_experiment(tmp_path / "exp"), "--formats", "none")
    folder = tmp_path / "exp" / "export"
    with open(folder / name, "ab") as file:
        file.write(b"\n")
    with refused("damaged-file", name, "model.json"):
        SpeakerVerifier.from_hparams(source=str(folder), savedir=str(folder))


def test_weights_are_nothing_but_tensors(tmp_path: Path) -> None:
    run_export(make_experiment(tmp_path / "exp"))
    for name in ("embedding_model", "classifier"):
        torch.load(tmp_path / "exp" / "export" / f"{name}.ckpt", weights_only=True)


def test_what_the_recipe_fitted_comes_along(tmp_path: Path) -> None:
    """The operating points with what supports them, the calibration, and a cohort it needs."""
    experiment, folder = make_experiment(tmp_path / "v2" / "seed_1"), tmp_path / "export"
    facts = write_model_folder(experiment, folder)
    assert facts["decisions"] is None and not (folder / "cohort.npy").exists()
    assert "Log-likelihood" not in (folder / "README.md").read_text()
    points = (
        OperatingPoint("eer", 0.0312, 0.2718, 390, True),
        OperatingPoint("false_alarm_0.01", 0.01, 0.3141, 120, True),
        OperatingPoint("false_alarm_0.0001", 0.0001, 0.5772, 1, False),
    )
    counts = {"targets": 50, "nontargets": 12000, "speakers": 40, "digest": "0f"}
    rows = np.eye(8, dtype=np.float16)[:5]
    weighs = Calibration(-4.5, {"score": 9.25, "cohort": -2.0}, 0.05)
    decisions = Decisions({"title": "held-out training speakers", **counts}, weighs, points)
    keep_decisions(experiment, Fitted(decisions, rows), facts["weights_sha256"])
    facts = write_model_folder(experiment, folder)
    kept = json.loads((folder / "model.json").read_text())
    assert Decisions.read(kept["decisions"]) == decisions == Decisions.read(facts["decisions"])
    found = exported_decisions(folder)
    assert found is not None and found.decisions == decisions and found.cohort is not None
    assert found.cohort.dtype == np.float16 and found.cohort.tolist() == rows.tolist()
    assert kept["sha256"]["cohort.npy"] == file_digest(folder / "cohort.npy")
    card = (folder / "README.md").read_text()
    assert "| 3.12 %, as of misses | 0.2718 | 390 false alarms |" in card
    assert "| 1 % | 0.3141 | 120 false alarms |" in card
    assert "| 0.01 % | 0.5772 | not supported by so few as 1 (10 are needed) |" in card
    assert "50 target and 12,000 non-target trials of 40 speakers" in " ".join(card.split())
    assert "-4.500 + 9.250 · score + -2.000 · cohort" in card
    # Of other weights than the experiment has, it is left behind.
    keep_decisions(experiment, Fitted(decisions, rows), "others")
    assert write_model_folder(experiment, folder)["decisions"] is None
    assert not (folder / "cohort.npy").exists()


def test_readme_says_what_is_needed(tmp_path: Path) -> None:
    run_export(make_experiment(tmp_path / "exp"))
    readme = (tmp_path / "exp" / "export" / "README.md").read_text(encoding="utf-8")
    texts = ("0.4321", "0.3456", "synthetic", "HyperPyYAML", "pip install", "from_hparams")
    for text in (*texts, "3 training"):
        assert text in readme


def test_readme_says_whose_model_it_learnt_from(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    student = make_experiment(tmp_path / "exp")
    settings = student / "hyperparams.yaml"
    text = settings.read_text(encoding="utf-8")
    assert "teacher_folder: exp/mini/teacher/seed_1" in text
    settings.write_text(text.replace("exp/mini/teacher/seed_1", str(teacher)), encoding="utf-8")
    readme = student / "export" / "README.md"
    run_export(student)
    assert f"Its teacher was {teacher}." in readme.read_text(encoding="utf-8")
    shutil.copytree(make_experiment(tmp_path / "other"), teacher)
    with open(teacher / "hyperparams.yaml", "a", encoding="utf-8") as file:
        file.write("\nsource: Somebody, a model\nlicence: CC BY 4.0\ncheckpoint_sha256: 12ab\n")
    whose = "Somebody, a model (licence CC BY 4.0, SHA-256 12ab)."
    run_export(student)
    assert f"Its teacher was {whose}" in readme.read_text(encoding="utf-8")
    run_export(teacher)
    text = (teacher / "export" / "README.md").read_text(encoding="utf-8")
    assert f"It is {whose}" in text


def test_a_network_without_classifier(tmp_path: Path) -> None:
    run_export(make_experiment(tmp_path / "exp", classifier=False), "--out", tmp_path / "out")
    model = EncoderClassifier.from_hparams(source=str(tmp_path / "out"))
    assert model.encode_batch(0.1 * torch.randn(16000)).shape == (1, 1, 8)


def test_run_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "exp")
    run_export(experiment)
    (experiment / "export" / "stale").touch()
    run_export(experiment)
    assert not (experiment / "export" / "stale").exists()
    assert sorted(path.name for path in experiment.iterdir()) == [
        "export",
        "hyperparams.yaml",
        "results",
        "save",
    ]


def test_faults_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = make_experiment(tmp_path / "exp")
    for arguments, words in (
        ([tmp_path / "nowhere"], "is not an experiment folder"),
        ([experiment, "--out", tmp_path], "is there and no exported model"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_export(*arguments)
        assert stop.value.code == 1
        assert words in capsys.readouterr().err
    weights = experiment / "save" / "embedding_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(SystemExit):
        run_export(experiment)
    assert "does not fit" in capsys.readouterr().err and not (experiment / "export").exists()
