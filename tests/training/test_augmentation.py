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
from speechbrain_ext.lobes.features import front_end_variants
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.training.augmentation import Augmentation, Choice, Mixing
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


class Add(torch.nn.Module):
    """Marks the crops that it changes."""

    def __init__(self, mark: float) -> None:
        super().__init__()
        self.mark = mark

    def forward(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        assert torch.equal(lengths, torch.ones(len(wavs)))
        return wavs + self.mark


def shares(choice: Choice, crops: int = 4000) -> list[float]:
    """Which part of the crops is unchanged, marked by 1, by 2 and so on."""
    torch.manual_seed(0)
    marks = choice(torch.zeros(crops, 3))
    assert torch.equal(marks, marks[:, :1].expand_as(marks))
    return (marks[:, 0].long().bincount(minlength=len(choice.kinds) + 1) / crops).tolist()


@pytest.mark.parametrize("probability", [None, 0.6, 1.0, 0.1])
def test_how_often_crops_are_changed_and_how(probability: float | None) -> None:
    found = shares(Choice([Add(1), Add(2), Add(3)], probability))
    changed = 0.75 if probability is None else probability
    assert found == pytest.approx([1 - changed, *[changed / 3] * 3], abs=0.03)


def test_noise_comes_as_often_as_it_is_told(noise: Path, rooms: Path) -> None:
    torch.manual_seed(0)
    clean = crops(400)[:, :4000]
    heard = Augmentation(str(noise), str(rooms), noise_probability=0.6).waveforms(clean)
    assert 0.5 < changed(heard, clean).float().mean() < 0.7


CHANNELS = ["gain_probability", "band_limit_probability", "codec_probability"]


@pytest.mark.parametrize("key", CHANNELS)
def test_what_a_recording_goes_through_comes_as_often_as_it_is_told(key: str) -> None:
    torch.manual_seed(0)
    clean = crops(100)[:, :4000]
    heard = Augmentation(**{key: 0.3}).waveforms(clean)  # type: ignore[arg-type]
    assert 0.15 < changed(heard, clean).float().mean() < 0.45


def test_a_crop_goes_through_all_in_order(noise: Path) -> None:
    """Noise above 4 kHz does not come through the band; the codec has the last word."""
    torch.manual_seed(0)
    all_of_it = Augmentation(
        str(noise),
        noise_probability=1,
        gain_probability=1,
        band_limit_probability=1,
        codec_probability=0.5,
    )
    power = torch.fft.rfft(all_of_it.waveforms(crops(20, 500))).abs().square()
    assert (power[:, 4600:].sum(1) < 0.02 * power[:, 1000:3500].sum(1)).all()
    kinds = [type(kind).__name__ for kind in all_of_it.kinds]
    assert kinds == ["AddNoise", "Gain", "NarrowBand", "G711", "G711", "Codec", "Codec"]


@pytest.mark.parametrize("key", ["noise_probability", *CHANNELS])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_probabilities_that_are_none(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{key} must be in \[0, 1\], got {value}"):
        Augmentation(**{key: value})  # type: ignore[arg-type]


# Front ends


def test_each_combination_is_a_front_end() -> None:
    choices: dict[str, list[Any]] = {"window": ["povey", "hamming"], "high_freq": [0.0, -400.0]}
    variants = front_end_variants(KaldiFbank, choices)
    wavs = crops(1)[:, :4000]
    expected = [
        KaldiFbank(window=window, high_freq=high)(wavs)
        for window in ("povey", "hamming")
        for high in (0.0, -400.0)
    ]
    assert len(variants) == 4
    for variant, features in zip(variants, expected, strict=True):
        assert torch.equal(variant(wavs), features)


def test_each_batch_has_one_of_the_front_ends() -> None:
    variants = front_end_variants(KaldiFbank, {"snip_edges": [True, False], "n_mels": [8]})
    augmentation, own = Augmentation(front_ends=variants), KaldiFbank(8)
    drawn = []
    for seed in range(60):
        torch.manual_seed(seed)
        drawn.append(variants.index(augmentation.front_end(own)))
        torch.manual_seed(seed)
        assert variants.index(augmentation.front_end(own)) == drawn[-1]
    assert 15 < sum(drawn) < 45
    state = torch.get_rng_state()
    assert Augmentation().front_end(own) is own
    assert torch.equal(torch.get_rng_state(), state)


def test_front_ends_are_moved_with_the_rest() -> None:
    """To another precision here, since there may be one device alone."""
    augmentation = Augmentation(front_ends=front_end_variants(KaldiFbank, {"n_mels": [8]}))
    variant = augmentation.to(torch.float64).front_end(KaldiFbank(8))
    assert {buffer.dtype for buffer in variant.buffers()} == {torch.float64}


@pytest.mark.parametrize("values", [[], "povey", 3])
def test_an_argument_without_values(values: Any) -> None:
    with pytest.raises(ValueError, match="choices: window is"):
        front_end_variants(KaldiFbank, {"window": values})


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
        probabilities: dict[str, Any] = dict.fromkeys(CHANNELS, 0.3)
        return Augmentation(str(noise), str(rooms), True, 0.2, **probabilities).to(device)

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
