"""A model without PyTorch embeds as with it, decides as its folder says, and refuses plainly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_ext.decisions import bayes_threshold
from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime import Recording, SpeakerModel, load_model
from speechbrain_ext.runtime import model as model_module
from tests.processes import ROOT
from tests.refusals import refused
from tests.runtime.models import CALIBRATION, DIM, RATE, make_model, voice, write_facts, write_graph


@pytest.fixture(scope="module")
def model(folder: Path) -> SpeakerModel:
    return load_model(folder)


def test_the_same_tones_are_the_same_speaker(model: SpeakerModel, tmp_path: Path) -> None:
    one, again, other = tmp_path / "1.wav", voice(1, 1), voice(2)
    soundfile.write(one, voice(1), RATE)
    same, different = model.verify(one, again), model.verify(one, other)
    assert same.same and same.score > 0.95
    assert not different.same and different.score < 0.5
    assert same.threshold == 0.7 and same.operating_point == "false_alarm_0.01" and same.supported
    assert same.scale == "cosine"
    assert all(2 < seconds < 3.5 for seconds in same.seconds_of_speech)
    assert not model.verify(one, again, 0.0001).supported


def test_a_decision_by_prior_and_costs_is_of_the_log_likelihood_ratio(model: SpeakerModel) -> None:
    a, b = model.hear(voice(1, seconds=2.0)), model.hear(voice(1, 1, seconds=5.0))
    decision = model.verify(a, b, p_target=0.01, c_miss=10)
    assert decision.scale == "log-likelihood ratio" and "p_target 0.01" in decision.operating_point
    assert decision.threshold == bayes_threshold(0.01, 10)
    assert decision.llr is not None and decision.same == (decision.llr >= decision.threshold)
    cohort = np.load(Path(model.file).parent / "cohort.npy").astype(np.float32)
    norms = [np.linalg.norm(each.embedding) for each in (a, b)]
    nearest = [
        np.sort(cohort @ (each.embedding / norm))[-10:].mean()
        for each, norm in zip((a, b), norms, strict=True)
    ]
    expected = CALIBRATION.llr(
        {
            "score": decision.score,
            "duration": np.log(2.0),
            "norm": np.log(min(norms)),
            "cohort": np.mean(nearest),
        }
    )
    assert decision.llr == pytest.approx(expected, rel=1e-5)


def test_an_embedding_that_is_none_is_refused(model: SpeakerModel) -> None:
    for given in (np.zeros(DIM), np.full(DIM, np.nan)):
        with refused("bad-embedding", "the embedding is zero or not finite"):
            model.similarity(given, voice(1))


def test_a_threshold_of_ones_own_counts(model: SpeakerModel) -> None:
    decision = model.verify(voice(1), voice(1, 1), threshold=1.01)
    assert not decision.same and decision.operating_point == "given"


@pytest.mark.parametrize("threshold", [np.nan, np.inf])
def test_a_threshold_that_is_no_number_is_refused(model: SpeakerModel, threshold: float) -> None:
    with refused("bad-option", f"threshold is {threshold}"):
        model.verify(voice(1), voice(1, 1), threshold=threshold)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "no JSON", 9**5 * "["])
def test_decisions_of_ones_own_that_are_none(folder: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(UserError, match="give a file that spk calibrate wrote") as raised:
        load_model(folder, decisions=path)
    assert str(path) in str(raised.value)


def test_audio_comes_as_file_samples_or_recording(model: SpeakerModel, tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, voice(3), RATE, subtype="PCM_16")
    expected = model.embed(path)
    samples, _ = soundfile.read(path, dtype="float32")
    whole, _ = soundfile.read(path, dtype="int16")
    recording = model.listen(path)
    assert expected.shape == (DIM,) and expected.dtype == np.float32
    assert isinstance(recording, Recording) and recording.seconds == 4.0 and recording.vad
    for given in (samples, samples.astype(np.float64), whole, recording, str(path)):
        np.testing.assert_allclose(model.embed(given), expected, atol=1e-5)
    assert model.similarity(expected, path) == pytest.approx(1, abs=1e-5)
    many = list(model.embed_many([path, samples]))
    np.testing.assert_allclose(many, [expected, expected], atol=1e-5)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (96000, 6), (22050, 1)])
def test_any_rate_and_number_of_channels(
    model: SpeakerModel, tmp_path: Path, rate: int, channels: int
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([voice(1, rate=rate)] * channels, axis=1), rate)
    assert model.listen(path).seconds == pytest.approx(4.0, abs=0.01)
    assert model.similarity(path, voice(1)) > 0.98


def test_a_long_recording_is_the_mean_of_its_parts(
    model: SpeakerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "LONGEST", 3)
    samples = voice(1, seconds=8.5)
    parts = [samples[: 3 * RATE], samples[3 * RATE : 6 * RATE], samples[6 * RATE :]]
    expected = np.average([model.embed(part) for part in parts], axis=0, weights=[3, 3, 2.5])
    np.testing.assert_allclose(model.embed(samples), expected, atol=1e-5)
    nearly = samples[: 3 * RATE + 800]  # what is left over belongs to the part before it
    np.testing.assert_allclose(model.embed(nearly), model._engine.embed(nearly[None])[0])


def test_memory_does_not_grow_with_the_length(model: SpeakerModel, tmp_path: Path) -> None:
    """Ten minutes are 38 MB at the model's rate; a part of them is held."""
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for take in range(10):
            file.write(voice(1, take, seconds=60, rate=8000))
    tracemalloc.start()
    try:
        heard = model.hear(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard.seconds == 600 and 300 < heard.seconds_of_speech < 550
    assert most < 30e6
    assert model.similarity(heard.embedding, voice(1)) > 0.98


def test_windows_slide_to_the_end(model: SpeakerModel) -> None:
    times, embeddings = model.windows(voice(1, seconds=20.4), duration=3, step=1)
    assert times[:2].tolist() == [[0, 3], [1, 4]] and times[-1].tolist() == [17.4, 20.4]
    assert embeddings.shape == (19, DIM)
    np.testing.assert_allclose(embeddings[1], model.embed(voice(1, seconds=20.4)[RATE : 4 * RATE]))
    times, embeddings = model.windows(voice(1, seconds=2))
    assert times.tolist() == [[0, 2]] and len(embeddings) == 1
    for duration, step in ((0, 1), (np.inf, 1), (3, np.inf), (3, np.nan)):
        with refused("bad-option", f"{duration} s", f"{step} s"):
            model.windows(voice(1), duration, step)


FAULTS = {
    "silent": (np.zeros(RATE), "silent"),
    "quiet": (1e-5 * voice(1), "silent"),
    "one_sample": (np.array([0.5]), "silent"),
    "two_samples": (np.array([0.5, -0.5]), "too_short"),
    "not_a_number": (np.where(np.arange(RATE) == 99, np.nan, voice(1)[:RATE]), "not_finite"),
    "infinite": (np.where(np.arange(RATE) == 99, np.inf, voice(1)[:RATE]), "not_finite"),
    "too_large": (voice(1).astype(np.float64) * 1e300, "not_finite"),
    "empty": (np.zeros(0), "empty"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_recording_is_a_sentence(model: SpeakerModel, tmp_path: Path, name: str) -> None:
    """As a file, which is named, and as samples."""
    samples, cause = FAULTS[name]
    path = tmp_path / f"{name}.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    for given, named in ((path, path), (samples, "the samples")):
        for listen in (model.embed, model.listen, model.hear, model.windows):
            with refused("unusable-audio", named, cause):
                listen(given)


def test_files_that_are_no_audio(model: SpeakerModel, tmp_path: Path) -> None:
    text, nothing, cut = (tmp_path / name for name in ("text.wav", "nothing.wav", "cut.flac"))
    text.write_text("this is no sound")
    nothing.touch()
    soundfile.write(cut, voice(1), RATE)
    cut.write_bytes(cut.read_bytes()[:9000])
    missing = tmp_path / "missing.wav"
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    faults = {text: "unreadable", nothing: "empty", cut: "unreadable"}
    for path, cause in {**faults, pipe: "a pipe", tmp_path: "a folder"}.items():
        with refused("unusable-audio", path, cause):
            model.embed(path)
    with refused("unusable-audio", missing, "No such file"):
        model.embed(missing)
    with refused("unusable-audio", "null byte"):
        model.embed("a\0b.wav")


def test_clipped_speech_is_heard(model: SpeakerModel) -> None:
    clipped = np.clip(20 * voice(1), -1, 1)
    assert model.verify(clipped, voice(1, 1)).seconds_of_speech[0] > 2


def test_samples_of_another_shape_or_type(model: SpeakerModel) -> None:
    with refused("bad-samples", "(2, 8000)"):
        model.embed(np.zeros((2, 8000)))
    with refused("bad-samples", "int64"):
        model.embed(np.arange(8000))
    for given in ([0.1, 0.2], 5, None):
        with refused("bad-samples", type(given).__name__, "NumPy array"):
            model.embed(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0, -8000, 8000.5, np.nan, 10**6])
def test_sample_rates_that_are_none(model: SpeakerModel, rate: float) -> None:
    with refused("unusable-audio", "sample_rate", str(rate)):
        model.embed(voice(1), rate)  # type: ignore[arg-type]


def test_a_long_array_is_heard_in_little_memory(model: SpeakerModel) -> None:
    samples = np.concatenate([voice(1, take, seconds=60, rate=8000) for take in range(10)])
    tracemalloc.start()
    try:
        model.hear(samples, 8000.0)  # type: ignore[arg-type]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 35e6


def test_a_damaged_file_is_told_by_its_digest(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    content = bytearray((copy / "waveform.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "waveform.onnx").write_bytes(content)
    with refused("damaged-file", copy / "waveform.onnx", "model.json"):
        load_model(copy)


def test_models_that_are_none(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    with refused("bad-model", text):
        load_model(text)
    with refused("missing-file", tmp_path / "absent"):
        load_model(tmp_path / "absent")
    with refused("not-a-model", tmp_path, "waveform.onnx"):
        load_model(tmp_path)
    with refused("not-a-model", "waveform.int8.onnx"):
        load_model(folder, precision="int8")
    with refused("bad-option", "int4"):
        load_model(folder, precision="int4")
    with refused("bad-option", "0 threads"):
        load_model(folder, threads=0)
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    for content in ("{", "[]", "{}", 9**5 * "["):
        (broken / "model.json").write_text(content)
        with refused("damaged-file", broken / "model.json"):
            load_model(broken)


def test_int8_comes_first(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    write_graph(copy / "waveform.int8.onnx", seed=1)
    write_facts(copy, json.loads((copy / "model.json").read_text()))
    assert load_model(copy).file.endswith("waveform.int8.onnx")
    assert load_model(copy, precision="fp32").digest == load_model(folder).digest


def test_a_single_file_has_no_threshold_of_its_own(folder: Path) -> None:
    model = load_model(folder / "waveform.onnx")
    assert model.decisions is None and model.facts == {}
    with refused("no-threshold"):
        model.verify(voice(1), voice(2))
    decision = model.verify(voice(1), voice(2), threshold=0.7)
    assert decision.llr is None
    with refused("no-threshold"):
        model.verify(voice(1), voice(2), p_target=0.01)


def test_yaml_of_a_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    """A folder from anybody is as harmless as its network."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    trap = tmp_path / "trap"
    code = f"trap: !apply:os.mkdir ['{trap}']\nother: !new:subprocess.Popen ['touch {trap}']\n"
    (copy / "hyperparams.yaml").write_text(code)
    load_model(copy).verify(voice(1), voice(2))
    assert not trap.exists()


def test_a_damaged_cohort_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    copy = make_model(tmp_path / "copy")
    facts = json.loads((copy / "model.json").read_text())
    for content in (b"no array", np.array([{}], dtype=object)):
        if isinstance(content, bytes):
            (copy / "cohort.npy").write_bytes(content)
        else:
            np.save(copy / "cohort.npy", content)  # a pickle, which nothing loads
        write_facts(copy, facts)
        with refused("damaged-file", copy / "cohort.npy"):
            load_model(copy).verify(voice(1), voice(2))


def test_neither_pytorch_nor_scipy_is_imported(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1), RATE)
    program = (
        "import sys; from speechbrain_ext.runtime import Gallery, load_model\n"
        "model = load_model(sys.argv[1]); model.verify(sys.argv[2], sys.argv[2])\n"
        "Gallery.open(sys.argv[2] + '.gallery', model).enroll('a', [sys.argv[2]], least_speech=1)\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'pandas', 'speechbrain', 'silero_vad'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "a.wav")]
    subprocess.run(command, check=True, cwd=ROOT)
