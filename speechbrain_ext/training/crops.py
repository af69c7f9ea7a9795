"""Training data: crops drawn anew every epoch from the utterances of a manifest."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.encoder import CategoricalEncoder
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.corpora.speeds import at_speed, fill_crop, original_first, samples_before
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.sound import AudioFault
from speechbrain_ext.workers import reading_options


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
    """

    def __init__(self, seconds: float, seed: int) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be positive, got {seconds}")
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number, 0 or more, got {seed!r}")
        self.samples = round(seconds * SAMPLE_RATE)
        self.seed = seed
        self.epoch = 0

    def __call__(
        self, id: str, wav: str, start: int, stop: int, speed: float = 1.0
    ) -> Tensor | str:
        """A crop (samples,) of the utterance played at a speed; why not when it cannot be read."""
        first, length = self.place(id, stop - start, speed)
        first += start
        try:
            signal = read_audio(wav, first, first + length)
        except AudioFault as fault:
            return f"{wav} ({fault.detail})"
        return fill_crop(signal, self.samples, speed)

    def place(self, id: str, length: int, speed: float = 1.0) -> tuple[int, int]:
        """Where a crop of an utterance of that many samples begins, and how many it is made of."""
        wanted = samples_before(self.samples, speed)
        if length <= wanted:
            return 0, length
        draw = np.random.default_rng([self.seed, self.epoch, zlib.crc32(id.encode())])
        return int(draw.integers(length - wanted + 1)), wanted


class CropBatch(PaddedBatch):
    """A batch without the crops that could not be read; ``unreadable`` has their files and why."""

    def __init__(self, examples: list[dict[str, Any]]) -> None:
        readable = [example for example in examples if isinstance(example["sig"], Tensor)]
        self.unreadable: list[str] = [e["sig"] for e in examples if isinstance(e["sig"], str)]
        self.id: list[str] = []
        if readable:
            super().__init__(readable, nonpadded_stack=False)

    def pin_memory(self) -> CropBatch:
        """Move what there is to pinned memory, in place."""
        return super().pin_memory() if self.id else self


class CropDataset(Dataset):
    """The crops of a manifest's utterances.

    Each has ``id``, ``sig``, ``spk_id_encoded``, -1 without a label, and ``start``, the sample of
    its utterance at which it begins. At each speed but 1 every utterance comes up again as another
    speaker's (see :mod:`~speechbrain_ext.corpora.speeds`). A crop's id is its utterance's and its
    number: ``id001/a@0``, ``id001/a@sp1.1@0``.

    Arguments
    ---------
    manifest : str or path
        CSV with ID, duration, wav, start, stop, spk_id.
    reader : CropReader
        Draws and reads the crops.
    label_encoder : CategoricalEncoder
        Speaker indices; knows every speaker of ``speakers_of(manifest, speeds)``.
    crops_per_utterance : int
        How often each utterance comes up in an epoch, at each speed.
    speeds : sequence of float
        Speeds to play the utterances at, 1 among them.
    labelled_only : bool
        Whether utterances without a label are left out.

    Raises
    ------
    UserError
        When the manifest cannot be used.
    ValueError
        When the speeds are no such list.
    """

    def __init__(
        self,
        manifest: str | os.PathLike[str],
        reader: CropReader,
        label_encoder: CategoricalEncoder,
        crops_per_utterance: int = 1,
        speeds: Sequence[float] = (1.0,),
        labelled_only: bool = False,
    ) -> None:
        self.manifest = read_manifest(manifest)
        labelled = self.manifest.speaker_index >= 0
        # Of the manifest's utterances, those that are used.
        self.places = np.flatnonzero(labelled | (not labelled_only)).astype(np.int32)
        self.unlabelled = len(self.places) - int(labelled.sum())
        self.reader = reader
        self.label_encoder = label_encoder
        self.crops_per_utterance = crops_per_utterance
        self.speeds = original_first(speeds)

    def __len__(self) -> int:
        return self.crops_per_utterance * len(self.speeds) * len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # Utterance by utterance, then speed by speed, then number by number.
        index, place = divmod(index, len(self.places))
        number, speed_index = divmod(index, len(self.speeds))
        row, speed = self.manifest[int(self.places[place])], self.speeds[speed_index]
        name, label = f"{at_speed(row['ID'], speed)}@{number}", -1
        if row["spk_id"]:
            label = self.label_encoder.encode_label(at_speed(row["spk_id"], speed))
        return {
            "id": name,
            "sig": self.reader(name, row["wav"], row["start"], row["stop"], speed),
            "start": self.reader.place(name, row["stop"] - row["start"], speed)[0],
            "spk_id_encoded": torch.tensor([label]),
        }


def utterance_of(crop: str) -> str:
    """The utterance of a crop's id: the manifest's ID, and its speed if that is not 1.

    Example
    -------
    >>> utterance_of("id001/a@3"), utterance_of("id001/a@sp1.1@3")
    ('id001/a', 'id001/a@sp1.1')
    """
    return crop.rpartition("@")[0]


def speakers_of(path: str | Path, speeds: Sequence[float] = (1.0,)) -> list[str]:
    """The known speakers of a manifest in order, then those each other speed makes of them.

    So the label of a speaker is the same whatever the speeds.

    Raises
    ------
    ValueError
        When the speeds are no list of different positive numbers with 1 among them.
    """
    speakers = read_manifest(path).speakers
    return [at_speed(speaker, speed) for speed in original_first(speeds) for speaker in speakers]


def encode_speakers(path: str | Path, speeds: Sequence[float], count: int) -> CategoricalEncoder:
    """The labels of a manifest's speakers at the speeds.

    Raises
    ------
    UserError
        When there are not ``count`` of them, for which the classifier was made.
    """
    speakers = speakers_of(path, speeds)
    if len(speakers) != count:
        raise UserError(
            f"num_speakers is {count}, and {path} has {len(speakers)} at the speeds {speeds}: "
            "leave num_speakers to the manifest",
            code="bad-setting",
        )
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(speakers)
    encoder.expect_len(count)
    return encoder


def count_speakers(path: str | Path, speeds: Sequence[float] = (1.0,)) -> int:
    """The number of different speakers in a manifest whose utterances are played at the speeds."""
    return len(speakers_of(path, speeds))


class EpochOrder(Sampler[int]):
    """Every item of an epoch once, in an order drawn by seed and epoch and by nothing else.

    The processes of a training take turns: the k-th batches of all of them are what one process
    with batches as large as theirs together would take. Only as many integers of 32 bits as there
    are items are kept, and no list.

    Arguments
    ---------
    items : int
        Number of items.
    seed : int
        Seed of the draw.
    process, processes : int
        This process's number, and how many share the items.
    drop_last : bool
        Where the items cannot be shared evenly, whether the last ones are left out; otherwise the
        first ones come up again.

    Example
    -------
    >>> order = EpochOrder(5, seed=1)
    >>> order.epoch = 2
    >>> sorted(order) == [0, 1, 2, 3, 4], list(order) == list(order)
    (True, True)
    """

    def __init__(
        self,
        items: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.items = items
        self.seed = seed
        self.process, self.processes = process, processes
        self.each = items // processes if drop_last else -(-items // processes)
        self.epoch = 0

    def __len__(self) -> int:
        return self.each

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.items, dtype=np.int32)
        # Not seed + epoch: epoch 2 of seed 1 would have the order of epoch 1 of seed 2.
        np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        shared = np.resize(order, self.each * self.processes)
        return map(int, shared[self.process :: self.processes])


def crop_loader(
    data: CropDataset,
    order: EpochOrder,
    batch_size: int,
    drop_last: bool,
    num_workers: int,
    pin_memory: bool,
) -> SaveableDataLoader:
    """Batches of an epoch's crops, in worker processes; its place in the epoch can be saved.

    SpeechBrain's own would keep each process's part of the order as a list.
    """
    return SaveableDataLoader(
        data,
        sampler=order,
        batch_size=batch_size,
        drop_last=drop_last,
        pin_memory=pin_memory,
        **reading_options(num_workers, CropBatch),
        # Its own generator: the workers' seeds must not take from the networks' random numbers.
        generator=torch.Generator(),
    )
