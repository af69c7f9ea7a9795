"""Training data: crops drawn anew every epoch from the utterances of a manifest."""

from __future__ import annotations

import csv
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.dataio import audio_io
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder
from torch import Tensor

from speechbrain_ext.errors import UserError


class CropReader:
    """Reads a crop of each utterance, drawn by seed, epoch and ID and by nothing else.

    So a training that was killed draws the same crops when it runs again, in any number of worker
    processes.

    Arguments
    ---------
    seconds : float
        Length of a crop; a shorter utterance is repeated.
    seed : int
        Seed of the draw.
    sample_rate : int
        Samples per second.
    """

    def __init__(self, seconds: float, seed: int, sample_rate: int = 16000) -> None:
        if seconds <= 0:
            raise ValueError(f"crop_seconds must be positive, got {seconds}")
        self.samples = round(seconds * sample_rate)
        self.seed = seed
        self.epoch = 0

    def __call__(self, id: str, wav: str, start: str, stop: str) -> Tensor | None:
        """A crop (samples,), or None when the file cannot be read."""
        first, length = int(start), int(stop) - int(start)
        if length > self.samples:
            draw = np.random.default_rng([self.seed, self.epoch, zlib.crc32(id.encode())])
            first += int(draw.integers(length - self.samples + 1))
            length = self.samples
        try:
            signal, _ = audio_io.load(wav, frame_offset=first, num_frames=length)
        except Exception:  # libsndfile's wrapper raises several kinds
            return None
        if signal.shape[1] != length or not bool(torch.isfinite(signal).all()):
            return None
        return signal[0].repeat(-(-self.samples // length))[: self.samples]


class CropBatch(PaddedBatch):
    """A batch without the utterances that could not be read; ``unreadable`` lists their IDs."""

    def __init__(self, examples: list[dict[str, Any]]) -> None:
        readable = [example for example in examples if example["sig"] is not None]
        self.unreadable = [e["id"].split("@")[0] for e in examples if e["sig"] is None]
        self.id: list[str] = []
        if readable:
            super().__init__(readable)


def crop_dataset(
    manifest: str,
    reader: CropReader,
    label_encoder: CategoricalEncoder,
    crops_per_utterance: int = 1,
) -> DynamicItemDataset:
    """The training set of a manifest; its items have ``id``, ``sig`` and ``spk_id_encoded``.

    Arguments
    ---------
    manifest : str
        CSV with ID, duration, wav, start, stop, spk_id.
    reader : CropReader
        Draws and reads the crops.
    label_encoder : CategoricalEncoder
        Speaker indices; knows every speaker of the manifest.
    crops_per_utterance : int
        How often each utterance comes up in an epoch.

    Returns
    -------
    DynamicItemDataset
        Of ``crops_per_utterance`` times the utterances of the manifest.
    """
    rows = read_manifest(manifest)
    data = {f"{row['ID']}@{n}": row for n in range(crops_per_utterance) for row in rows}
    dataset = DynamicItemDataset({key: dict(row) for key, row in data.items()})
    dataset.add_dynamic_item(reader, takes=["id", "wav", "start", "stop"], provides="sig")
    dataset.add_dynamic_item(
        label_encoder.encode_label_torch, takes="spk_id", provides="spk_id_encoded"
    )
    dataset.set_output_keys(["id", "sig", "spk_id_encoded"])
    return dataset


def read_manifest(path: str | Path) -> list[dict[str, str]]:
    """The rows of a manifest.

    Raises
    ------
    UserError
        When it is missing (stage 1 makes it) or has no row.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run stage 1 first, which makes it") from None
    if not rows:
        raise UserError(f"{path} lists no utterance: run stage 1 again on a folder with speech")
    return rows


def count_speakers(path: str | Path) -> int:
    """The number of different speakers in a manifest."""
    return len({row["spk_id"] for row in read_manifest(path)})
