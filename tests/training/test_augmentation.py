"""What augmentation does to crops and features, and that it follows from the seed alone."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from torch import Tensor
from torch.utils.data import DataLoader

from speechbrain_ext.corpora.manifest import COLUMNS, read_manifest
from speechbrain_ext.training.augmentation import Augmentation, Mixing
from speechbrain_ext.training.crops import (
    CropBatch,
    CropDataset,
    CropReader,
    count_speakers,
    speakers_of,
    utterance_of,
)
from tests.refusals import refused

RATE = 16000
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def write(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype="FLOAT" if path.suffix == ".wav" else None)


def sine(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def echo(delay: int, length: int = 4000) -> np.ndarray:
    return np.eye(1, length)[0] + 0.5 * np.eye(1, length, delay)[0]


def crops(count: int, hertz: float = 1000) -> Tensor:
    """Crops of a second, so that bin n of their spectrum is n Hz."""
    return torch.from_numpy(sine(hertz, 1.0)).float().repeat(count, 1)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    for index in range(3):
        write(tmp_path / "noise" / f"{index}.wav", np.random.default_rng(index).normal(size=40000))
    return tmp_path / "noise"


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    for delay in (100, 300, 900):
        write(tmp_path / "rooms" / f"{delay}.wav", echo(delay))
    return tmp_path / "rooms"


def folder(key: str, path: Path) -> dict[str, Any]:
    return {key: str(path)}


def changed(heard: Tensor, clean: Tensor) -> Tensor:
    return (heard != clean).any(1)


# Noise and reverberation


def test_kinds_of_noise_and_their_signal_to_noise_ratios(tmp_path: Path) -> None:
    pitches = {"noise": 250, "music": 500, "speech": 750}
    for kind, pitch in pitches.items():
        write(tmp_path / "musan" / kind / "somewhere" / "a.wav", sine(pitch, 5))
    clean = crops(600)
    torch.manual_seed(0)
    spectrum = torch.fft.rfft(Augmentation(str(tmp_path / "musan")).waveforms(clean)).abs()
    power = spectrum.square()
    kinds = torch.zeros(len(clean))
    for kind, (low, high) in {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}.items():
        added = power[:, pitches[kind]] > 1e-3 * power[:, 1000]
        ratios = 10 * torch.log10(power[added, 1000] / power[added, pitches[kind]])
        assert low - 0.01 <= ratios.min() < low + 1 and high - 1 < ratios.max() <= high + 0.01
        assert 0.2 < added.float().mean() < 0.3  # a quarter, as clean crops
        kinds += added
    assert kinds.max() == 1  # one kind at a time
    assert 0.2 < (kinds == 0).float().mean() < 0.3


def test_noise_covers_the_crop_from_a_file_of_any_length_rate_and_channels(tmp_path: Path) -> None:
    wave = sine(500, 0.25, 8000)
    write(tmp_path / "deep" / "er" / "short.FLAC", np.stack([wave, 0 * wave], axis=1), 8000)
    torch.manual_seed(0)
    clean = crops(20)
    heard = Augmentation(str(tmp_path)).waveforms(clean)
    noisy = heard[changed(heard, clean)]
    assert len(noisy) > 5
    for second_half in (noisy[:, :8000], noisy[:, 8000:]):
        spectrum = torch.fft.rfft(second_half).abs()
        spectrum[:, 495:505] = 0  # the crop's own tone
        assert (spectrum.argmax(1) == 250).all()  # of 2 Hz each


def test_noise_comes_from_anywhere_in_a_file(tmp_path: Path) -> None:
    pitches = [250, 350, 450, 550, 650, 750, 850, 950]
    write(tmp_path / "long.wav", np.concatenate([sine(pitch, 1.0) for pitch in pitches]))
    torch.manual_seed(0)
    clean = crops(150)[:, :1600]
    heard = Augmentation(str(tmp_path)).waveforms(clean)
    spectrum = torch.fft.rfft(heard[changed(heard, clean)]).abs()[:, :97]
    assert {round(n / 10) * 100 + 50 for n in (spectrum.argmax(1) - 5).tolist()} == set(pitches)


def test_each_crop_has_a_room_of_its_own(rooms: Path) -> None:
    write(rooms / "slow.wav", echo(400), RATE // 2)
    clean = torch.zeros(60, RATE)
    clean[:, 1000] = 1.0
    torch.manual_seed(0)
    heard = Augmentation(rir_folder=str(rooms)).waveforms(clean)
    reverberated = heard[changed(heard, clean)]
    assert 15 < len(reverberated) < 45  # a half
    assert (reverberated.argmax(1) == 1000).all()  # the direct sound stays in its place
    level = reverberated[:, 1000].clone()
    reverberated[:, 990:1010] = 0
    echoes = reverberated.max(1)
    assert set((echoes.indices - 1000).tolist()) == {100, 300, 900, 800}
    assert torch.allclose(echoes.values / level, torch.tensor(0.5), atol=0.02)


def test_both_folders_share_the_crops(noise: Path, rooms: Path) -> None:
    clean = torch.zeros(300, 4000)
    clean[:, 2000] = 1.0
    torch.manual_seed(0)
    heard = Augmentation(str(noise), str(rooms)).waveforms(clean)
    noisy = (heard[:, :1000].abs() > 1e-4).any(1)
    for fate in (noisy, changed(heard, clean) & ~noisy, ~changed(heard, clean)):
        assert 0.25 < fate.float().mean() < 0.42


@pytest.mark.parametrize("key", ["noise_folder", "rir_folder"])
def test_a_folder_without_audio(key: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(ValueError, match=rf"{key}: {tmp_path} holds no .wav or .flac file"):
        Augmentation(**folder(key, tmp_path))
    with pytest.raises(ValueError, match=rf"{key}: {tmp_path}/away is not a folder"):
        Augmentation(**folder(key, tmp_path / "away"))


@pytest.mark.parametrize("content", [b"not audio", None])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is None:
        write(tmp_path / "bad.wav", np.zeros(0))
    else:
        (tmp_path / "bad.wav").write_bytes(content)
    for key in ("noise_folder", "rir_folder"):
        with refused("unusable-audio", f"{tmp_path}/bad.wav"):
            Augmentation(**folder(key, tmp_path)).waveforms(crops(20))


# SpecAugment and mixup


def test_spec_augment_masks_one_piece_of_time_and_one_of_frequency() -> None:
    feats = torch.rand(200, 151, 80) + 1
    given = feats.clone()
    torch.manual_seed(0)
    masked = torch.cat([Augmentation(spec_augment=True).features(feats) for _ in range(3)])
    assert torch.equal(feats, given)
    zero = masked == 0
    assert torch.equal(masked[~zero], feats.repeat(3, 1, 1)[~zero])
    for mask, longest in ((zero.all(2), 5), (zero.all(1), 10)):
        lengths = mask.sum(1)
        assert lengths.min() == 0 and lengths.max() == longest
        edges = (mask[:, 1:] != mask[:, :-1]).sum(1)
        assert edges.max() == 2  # a single piece
    rest = zero & ~zero.all(2, keepdim=True) & ~zero.all(1, keepdim=True)
    assert not rest.any()


def test_mixing_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])
    mixed = Mixing(torch.tensor([2, 0, 1]), 0.75)(x)
    assert torch.equal(mixed, torch.tensor([[2.0, 4.0], [2.5, 5.0], [4.5, 9.0]]))


def test_shares_of_mixup_follow_the_beta_distribution() -> None:
    augmentation = Augmentation(mixup=0.3)
    torch.manual_seed(0)
    drawn = [augmentation.mixing(16, torch.device("cpu")) for _ in range(500)]
    mixings = [mixing for mixing in drawn if mixing is not None]
    assert len(mixings) == 500
    assert all(sorted(mixing.order.tolist()) == list(range(16)) for mixing in mixings)
    assert len({tuple(mixing.order.tolist()) for mixing in mixings}) > 490
    shares = np.array([mixing.share for mixing in mixings])
    assert shares.min() >= 0 and shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.05
    assert abs(shares.var() - 0.25 / 1.6) < 0.02  # 1 / (4 (2 * 0.3 + 1))


def test_a_mixup_that_is_none() -> None:
    with pytest.raises(ValueError, match="mixup must be 0 or positive, got -0.1"):
        Augmentation(mixup=-0.1)


# Switches and seeds


def test_each_switch_changes_its_own_and_nothing_else(noise: Path) -> None:
    clean, feats, device = crops(8), torch.randn(8, 101, 80), torch.device("cpu")
    off = Augmentation()
    state = torch.get_rng_state()
    assert off.waveforms(clean) is clean and off.features(feats) is feats
    assert off.mixing(8, device) is None
    assert torch.equal(torch.get_rng_state(), state)  # such a training draws what it drew

    given = clean.clone()
    noisy = Augmentation(noise_folder=str(noise))
    assert not torch.equal(noisy.waveforms(clean), clean) and torch.equal(clean, given)
    assert noisy.features(feats) is feats and noisy.mixing(8, device) is None
    masking = Augmentation(spec_augment=True)
    assert not torch.equal(masking.features(feats), feats)
    assert masking.waveforms(clean) is clean and masking.mixing(8, device) is None
    mixing = Augmentation(mixup=0.2)
    assert mixing.mixing(8, device) is not None
    assert mixing.waveforms(clean) is clean and mixing.features(feats) is feats


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_follows_from_the_seed_of_torch_alone(device: str, noise: Path, rooms: Path) -> None:
    clean = crops(24).to(device)
    feats = torch.randn(24, 101, 80, device=device)

    def augmentation() -> Augmentation:
        return Augmentation(str(noise), str(rooms), spec_augment=True, mixup=0.2)

    def step(augmentation: Augmentation, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(seed)
        heard = augmentation.waveforms(clean)
        mixing = augmentation.mixing(len(clean), clean.device)
        assert mixing is not None
        return heard, augmentation.features(feats), mixing(clean)

    random.seed(1)
    np.random.seed(1)
    undisturbed = augmentation()
    for seed in range(6):
        step(undisturbed, seed)
    expected = step(undisturbed, 6)
    random.seed(2)
    np.random.seed(2)
    for one, other in zip(expected, step(augmentation(), 6), strict=True):
        assert torch.equal(one, other) and one.device.type == device
    assert all(
        not torch.equal(one, other)
        for one, other in zip(expected, step(augmentation(), 7), strict=True)
    )


def test_corruption_is_float32_under_autocast(noise: Path, rooms: Path) -> None:
    augmentation = Augmentation(str(noise), str(rooms))
    torch.manual_seed(0)
    expected = augmentation.waveforms(crops(16))
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augmentation.waveforms(crops(16)), expected)


# Speeds


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for speaker, hertz, seconds in (("b", 400, 3.0), ("a", 600, 3.0), ("c", 500, 0.4)):
            wave = tmp_path / "train" / f"{speaker}.wav"
            write(wave, sine(hertz, seconds))
            row = [f"{speaker}/u", seconds, wave, 0, round(seconds * RATE), speaker]
            writer.writerow(row)
    return path


def items(
    manifest: Path, speeds: list[float], epoch: int = 1, workers: int = 0, crops: int = 2
) -> dict[str, tuple[int, Tensor]]:
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(speakers_of(manifest, speeds))
    reader = CropReader(1.0, seed=3)
    reader.epoch = epoch
    dataset = CropDataset(str(manifest), reader, encoder, crops, speeds)
    loader = DataLoader(dataset, 4, num_workers=workers, collate_fn=CropBatch)
    return {
        id: (int(label), sig)
        for batch in loader
        for id, label, sig in zip(batch.id, batch.spk_id_encoded.data, batch.sig.data, strict=True)
    }


def test_speeds_raise_the_pitch_and_make_new_speakers(manifest: Path) -> None:
    speeds = [0.9, 1.0, 1.1]
    names = ["a", "b", "c", "a@sp0.9", "b@sp0.9", "c@sp0.9", "a@sp1.1", "b@sp1.1", "c@sp1.1"]
    assert speakers_of(manifest, speeds) == names
    assert count_speakers(manifest, speeds) == 9 and count_speakers(manifest) == 3
    played = items(manifest, speeds, crops=1)
    tones = {id: int(torch.fft.rfft(sig).abs().argmax()) for id, (_, sig) in played.items()}
    speakers = {id: names[label] for id, (label, _) in played.items()}
    for speaker, hertz in (("a", 600), ("b", 400)):
        for speed, suffix in ((0.9, "@sp0.9"), (1.0, ""), (1.1, "@sp1.1")):
            id = f"{speaker}/u{suffix}@0"
            assert tones[id] == round(hertz * speed)
            assert speakers[id] == speaker + suffix


@pytest.mark.parametrize("speed", [0.5, 0.9, 0.95, 1.0, 1.07, 1.1, 2.0])
@pytest.mark.parametrize("samples", [3001, 6400, 16000, 24000])
def test_a_crop_is_exactly_as_long_as_asked(speed: float, samples: int, tmp_path: Path) -> None:
    reader = CropReader(samples / RATE, seed=0)
    for seconds in (0.05, 0.4, 1.1, 5.0):
        write(tmp_path / "a.wav", sine(300, seconds))
        crop = reader("a@0", str(tmp_path / "a.wav"), 0, round(seconds * RATE), speed)
        assert isinstance(crop, torch.Tensor) and crop.shape == (samples,)
        assert crop.unfold(0, 1500, 1500).square().mean(1).min() > 0.01  # no gap


def test_a_long_utterance_is_not_repeated(tmp_path: Path) -> None:
    rising = np.linspace(0.1, 0.9, 3 * RATE)
    write(tmp_path / "a.wav", rising)
    for speed in (0.9, 1.0, 1.1):
        crop = CropReader(1.0, seed=0)("a@0", str(tmp_path / "a.wav"), 0, 3 * RATE, speed)
        assert isinstance(crop, torch.Tensor)
        rises = crop.unfold(0, 1000, 1000).mean(1).diff() / (1000 * np.diff(rising)[0])
        assert torch.allclose(rises, torch.tensor(speed), atol=0.02)


def test_crops_at_speed_one_and_their_labels_are_those_without_speeds(manifest: Path) -> None:
    alone, all_speeds = items(manifest, [1.0]), items(manifest, [1.0, 1.1])
    assert len(all_speeds) == 2 * len(alone) == 12
    for id, (label, sig) in alone.items():
        assert all_speeds[id][0] == label and torch.equal(all_speeds[id][1], sig)


def test_ids_tell_a_perturbed_crop(manifest: Path) -> None:
    known = {row["ID"] for row in read_manifest(manifest)}
    perturbed = {id for id in items(manifest, [1.0, 1.1]) if utterance_of(id) not in known}
    assert perturbed == {id for id in items(manifest, [1.0, 1.1]) if "@sp1.1@" in id}
    assert {utterance_of(id) for id in items(manifest, [1.0])} == known


def test_perturbed_crops_follow_from_seed_epoch_and_id(manifest: Path) -> None:
    speeds = [1.0, 1.1]
    state = torch.get_rng_state()
    once = CropReader(1.0, seed=3)
    once.epoch = 1
    row = read_manifest(manifest)[0]
    crop = once("b/u@sp1.1@0", row["wav"], row["start"], row["stop"], 1.1)
    assert isinstance(crop, torch.Tensor)
    assert torch.equal(torch.get_rng_state(), state)  # nothing is taken from the networks' numbers
    here, elsewhere = items(manifest, speeds), items(manifest, speeds, workers=2)
    assert list(here) == list(elsewhere)
    for name in here:  # a process of several threads adds up in another order
        torch.testing.assert_close(here[name][1], elsewhere[name][1], atol=1e-6, rtol=0)
    assert torch.equal(here["b/u@sp1.1@0"][1], crop)
    assert not torch.equal(items(manifest, speeds, epoch=2)["b/u@sp1.1@0"][1], crop)


@pytest.mark.parametrize(
    "speeds", [[], [0.9, 1.1], [1.0, 1.0], [1.0, 0.0], [1.0, -1.1], [1.0, 1.111], 1.1, ["1.0"]]
)
def test_bad_speeds_are_named(speeds: list[float], manifest: Path) -> None:
    with pytest.raises(ValueError, match="speeds must be a list of different positive numbers"):
        count_speakers(manifest, speeds)
