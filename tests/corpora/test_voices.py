"""Recordings in other voices: what is moved and what is not, and the rows that stage 1 adds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch import Tensor

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.corpora.manifest_folder import ManifestSources, make_manifests
from speechbrain_ext.corpora.manifest_settings import ManifestSettings
from speechbrain_ext.corpora.voices import KNOTS, Voice
from speechbrain_ext.formats import SAMPLE_RATE
from tests.audio_files import TONE, tree, wav
from tests.refusals import refused

PITCH, FORMANT = 100, 1000


def vowel(seconds: float = 2.0) -> Tensor:
    """Pulses at 100 Hz through a resonance at 1000 Hz, 100 Hz wide."""
    pulses = np.zeros(round(seconds * SAMPLE_RATE))
    pulses[:: SAMPLE_RATE // PITCH] = 1
    pole = np.exp(np.pi * (-100 + 2j * FORMANT) / SAMPLE_RATE)
    sound = lfilter([1], np.poly([pole, pole.conj()]), pulses)
    return torch.from_numpy(0.5 * sound / np.abs(sound).max()).float()


def loudest(signal: Tensor) -> float:
    """The frequency (Hz) of the strongest partial."""
    spectrum = torch.fft.rfft(signal * torch.hann_window(len(signal))).abs()
    return float(spectrum.argmax()) * SAMPLE_RATE / len(signal)


def between_partials(signal: Tensor, pitch: float) -> float:
    """The share of the energy that lies further than 10 Hz from every multiple of a pitch."""
    energy = torch.fft.rfft(signal * torch.hann_window(len(signal))).abs().square()
    hertz = torch.arange(len(energy)) * SAMPLE_RATE / len(signal)
    distance = (hertz / pitch - (hertz / pitch).round()).abs() * pitch
    return float(energy[distance > 10].sum() / energy.sum())


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_formants_are_moved_and_the_pitch_is_not(factor: float) -> None:
    said = Voice(formants=(factor,) * len(KNOTS)).says(vowel())
    assert len(said) == len(vowel())
    assert loudest(said) == pytest.approx(factor * FORMANT, abs=PITCH)
    assert between_partials(said, PITCH) < 0.02


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_the_pitch_is_moved_and_formants_are_not(speed: float) -> None:
    said = Voice(speed).says(vowel())
    assert len(said) == pytest.approx(len(vowel()) / speed, abs=1)
    assert loudest(said) == pytest.approx(FORMANT, abs=speed * PITCH)
    assert between_partials(said, speed * PITCH) < 0.02


@pytest.mark.parametrize("samples", [100, 4800, 16000])
def test_the_voice_that_changes_nothing(samples: int) -> None:
    signal = 0.1 * torch.randn(samples, generator=torch.manual_seed(1))
    torch.testing.assert_close(Voice().says(signal), signal, atol=1e-4, rtol=0)


def test_silence_and_a_telephones_band_stay_what_they_are() -> None:
    """Nothing is made of nothing: a frequency becomes louder by 26 dB at most."""
    voice = Voice(formants=(1.25,) * len(KNOTS))
    assert float(voice.says(torch.zeros(16000)).abs().max()) < 1e-3
    spectrum = torch.fft.rfft(torch.randn(32000, generator=torch.manual_seed(2)))
    spectrum[len(spectrum) // 2 :] = 0
    signal = torch.fft.irfft(spectrum)
    energy = torch.fft.rfft(voice.says(0.05 * signal / signal.std())).abs().square()
    assert float(energy[len(energy) * 3 // 4 :].sum() / energy.sum()) < 0.01


def test_voices_are_all_different_and_near_enough() -> None:
    voices = [Voice.drawn(name, number) for name in ("a/1", "a/2") for number in range(200)]
    assert len(set(voices)) == len(voices)
    assert all(0.8 <= voice.speed <= 1.25 for voice in voices)
    formants = np.array([voice.formants for voice in voices])
    assert formants.min() > 0.7 and formants.max() < 1.4
    moved = KNOTS * formants
    assert (np.diff(moved) > 0).all()  # no formant overtakes another


# Stage 1

SETTINGS = {"valid_speakers": 2, "valid_seed": 1, "valid_utterances_per_speaker": 10}


def settings(voices: int) -> ManifestSettings:
    return ManifestSettings(**SETTINGS, min_seconds=0.3, valid_files=2, voices=voices)


def make(corpus: Path, voices: int, jobs: int = 1, **sources: Any) -> dict[str, Any]:
    manifest, _ = make_manifests(corpus, ManifestSources(**sources), settings(voices), jobs)
    return manifest


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for speaker in "abcd":
        for number in "12":
            samples = TONE + 0.05 * rng.standard_normal(len(TONE))
            path = tmp_path / f"speech/{speaker}/{number}.wav"
            wav(path, samples=np.tile(samples, 2))
    return tmp_path / "speech"


def test_training_files_come_in_other_voices_without_labels(speech: Path, tmp_path: Path) -> None:
    before = tree(speech)
    plain = make(tmp_path / "plain", 0, train=[str(speech)])
    made = make(tmp_path / "voiced", 3, train=[str(speech)])
    assert tree(speech) == before and not (tmp_path / "plain/voices").exists()
    assert plain["train"] == made["train"] and plain["valid"] == made["valid"]
    assert made["train_voices"]["utterances"] == 16 and made["train_voices"]["unlabelled"] == 12
    rows = list(read_manifest(tmp_path / "voiced/manifests/train_voices.csv"))
    assert rows[:4] == list(read_manifest(tmp_path / "voiced/manifests/train.csv"))
    assert len({row["ID"] for row in rows}) == 16
    held_out = {row["spk_id"] for row in read_manifest(tmp_path / "voiced/manifests/valid.csv")}
    for row in rows[4:]:
        assert row["spk_id"] == "" and not {row["ID"].split("%2F")[1]} & held_out
        said = read_audio(row["wav"])
        assert (row["start"], row["stop"]) == (0, len(said)) and 0.1 < float(said.abs().max()) <= 1


def test_unlabelled_files_do_too_and_held_out_ones_do_not(speech: Path, tmp_path: Path) -> None:
    made = make(tmp_path, 2, unlabelled=str(speech))
    assert made["train_voices"]["unlabelled"] == 18
    held_out = {row["wav"] for row in read_manifest(tmp_path / "manifests/valid.csv")}
    said = [row["ID"] for row in read_manifest(tmp_path / "manifests/train_voices.csv")]
    for path in held_out:
        assert not [
            name for name in said if "%2F".join(Path(path).with_suffix("").parts[-2:]) in name
        ]


def test_what_is_there_stays_and_what_is_not_wanted_goes(speech: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    make(corpus, 3, train=[str(speech)], jobs=2)
    voices = {p: p.stat().st_mtime_ns for p in (corpus / "voices").rglob("*.flac")}
    gone = min(voices)
    content = gone.read_bytes()
    gone.unlink()
    (corpus / "manifests/manifest.json").unlink()  # as where it was stopped before the end
    make(corpus, 3, train=[str(speech)])
    assert gone.read_bytes() == content
    assert all(path.stat().st_mtime_ns == when for path, when in voices.items() if path != gone)
    changed = next(Path(row["wav"]) for row in read_manifest(corpus / "manifests/train.csv"))
    wav(changed, samples=0.5 * TONE)
    make(corpus, 1, train=[str(speech)])
    kept = set((corpus / "voices").rglob("*.flac"))
    assert len(kept) == 4 and len(kept & voices.keys()) == 3
    make(corpus, 0, train=[str(speech)])
    assert not (corpus / "voices").exists()


def test_voices_that_were_removed_are_made_again(speech: Path, tmp_path: Path) -> None:
    make(tmp_path / "corpus", 1, train=[str(speech)])
    shutil.rmtree(tmp_path / "corpus/voices")
    make(tmp_path / "corpus", 1, train=[str(speech)])
    rows = read_manifest(tmp_path / "corpus/manifests/train_voices.csv")
    assert all(Path(row["wav"]).is_file() for row in rows)


def test_manifests_name_voices_by_whole_paths(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do all speech: a training need not be started where stage 1 was."""
    monkeypatch.chdir(tmp_path)
    make(Path("corpus"), 1, train=["speech"])
    rows = read_manifest("corpus/manifests/train_voices.csv")
    assert all(Path(row["wav"]).is_absolute() and Path(row["wav"]).is_file() for row in rows)


def test_voices_stay_with_the_manifests_that_name_them(speech: Path, tmp_path: Path) -> None:
    """A stage 1 that is refused leaves both as they were."""
    make(tmp_path / "corpus", 2, train=[str(speech)])
    before = tree(tmp_path / "corpus/voices")
    for speaker in "abc":
        shutil.rmtree(speech / speaker)
    for voices in (0, 1):
        with refused("few-speakers"):
            make(tmp_path / "corpus", voices, train=[str(speech)])
    assert tree(tmp_path / "corpus/voices") == before


def test_without_voices_their_manifest_is_told_how_to_be_made(speech: Path, tmp_path: Path) -> None:
    make(tmp_path / "corpus", 0, train=[str(speech)])
    with refused("earlier-stage", "--voices 10", "--manifest_args"):
        read_manifest(tmp_path / "corpus/manifests/train_voices.csv")


def test_a_number_of_voices_that_is_none() -> None:
    with refused("bad-setting", "voices is -1"):
        settings(-1)
