"""Which windows of an utterance a cache has, and which are around a crop."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.speeds import at_speed
from speechbrain_ext.distill.embedding_cache import Windows
from speechbrain_ext.training.crops import CropReader

SECONDS = {"ann/1": 0.5, "ann/b@home": 1.7, "bob/1": 0.65, "bob/2": 0.3}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path)


def write_manifest(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for name, seconds in SECONDS.items():
        path = folder / f"{name.replace('/', '_')}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * 16000)), 16000)
        row = {"ID": name, "duration": seconds, "wav": path, "spk_id": name[:3]}
        rows.append({**row, "start": 0, "stop": int(seconds * 16000)})
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "train.csv"


def starts_of(windows: Windows, name: str) -> list[int]:
    place = list(windows.names).index(name)
    first, end = windows.begins[place : place + 2].tolist()
    return [windows._start(place, number) for number in range(first, end)]


def test_windows_begin_and_end_with_the_utterance(manifest: Path) -> None:
    windows = Windows(manifest, seconds=0.5, hop=0.5)
    # 1.2 s of room are three steps of 0.4 s.
    assert starts_of(windows, "ann/b@home") == [0, 6400, 12800, 19200]
    assert starts_of(windows, "bob/1") == [0, 2400]
    assert starts_of(windows, "ann/1") == starts_of(windows, "bob/2") == [0]
    assert len(windows) == 8 and len(Windows(manifest)) == 4


@pytest.mark.parametrize("speed", [1.0, 0.9])
def test_crops_lie_between_the_windows_that_are_named(manifest: Path, speed: float) -> None:
    windows = Windows(manifest, [1.0, 0.9], seconds=0.37, hop=0.11)
    crops = CropReader(0.37, seed=1)
    for utterance, seconds in SECONDS.items():
        name = at_speed(utterance, speed)
        starts = [crops.place(f"{n}", round(seconds * 16000), speed)[0] for n in range(200)]
        before, after, shares = windows.around([name] * 200, starts)
        place = list(windows.names).index(name)
        begins = np.array(starts_of(windows, name))
        one, other = begins[before - windows.begins[place]], begins[after - windows.begins[place]]
        assert np.abs(one + shares * (other - one) - starts).max() <= 1
        assert ((0 <= shares) & (shares < 1)).all() and (other - one <= 0.11 * 16000 + 1).all()


@pytest.mark.parametrize("speed", [1.0, 1.1])
def test_a_window_sounds_as_the_crop_that_begins_there(manifest: Path, speed: float) -> None:
    windows = Windows(manifest, [1.0, 1.1], seconds=0.4, hop=0.2)
    reader = CropReader(0.4, seed=0)
    places = list(windows.names)
    heard: dict[int, Tensor] = dict(enumerate(windows.read(range(len(windows)))))
    for row in windows.manifest:
        place = places.index(at_speed(row["ID"], speed))
        for number in range(*windows.begins[place : place + 2].tolist()):
            length = reader.place("", row["stop"], speed)[1]
            start = windows._start(place, number)
            reader.place = lambda *_, place=(start, length): place  # type: ignore[method-assign]
            crop = reader("", row["wav"], 0, row["stop"], speed)
            assert torch.equal(heard[number], crop), (row["ID"], start)  # type: ignore[arg-type]
            del reader.place
            assert torch.equal(windows.read([number])[0], heard[number])
            assert row["ID"] in windows.describe(number) and row["wav"] in windows.describe(number)


def test_a_whole_utterance_is_played_at_a_speed(manifest: Path) -> None:
    windows = Windows(manifest, [1.0, 0.5])
    assert list(windows.names) == [*SECONDS, *(f"{name}@sp0.5" for name in SECONDS)]
    (wav,), (slow,) = windows.read([1]), windows.read([5])
    assert torch.equal(wav, read_audio(windows.manifest[1]["wav"])) and len(slow) == 2 * len(wav)
    assert windows.seconds()[5] == 2 * windows.seconds()[1] == 3.4


def test_there_are_no_windows_of_nothing(manifest: Path) -> None:
    for seconds, hop in ((0.0, 1.0), (2.0, 0.0)):
        with pytest.raises(ValueError, match=f"longer than 0, got {seconds} and {hop}"):
            Windows(manifest, seconds=seconds, hop=hop)
