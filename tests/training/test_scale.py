"""What a training needs before its first step when the corpus has VoxCeleb2's size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from speechbrain_ext.corpora.manifest import COLUMNS
from tests.processes import environment

UTTERANCES, SPEAKERS = 1_100_000, 6_000
# A process may grow by this (MB), and a worker have this for itself, beyond what either has with
# a manifest of one utterance a speaker.
LEAST_PROCESS, LEAST_WORKER = 300, 50

PROGRAM = """
import json, os, sys
from pathlib import Path

import numpy as np
import torch
from speechbrain.dataio.dataloader import SaveableDataLoader

from speechbrain_ext.training import brain  # all that a training imports
from speechbrain_ext.training.crops import CropBatch, CropReader, CropDataset
from speechbrain_ext.training.crops import EpochOrder, encode_speakers


class Silent(CropReader):
    def __call__(self, *_):
        return torch.zeros(1)


def megabytes(names, file):
    lines = (line.split() for line in Path(file).read_text().splitlines())
    return sum(int(line[1]) for line in lines if line[0].rstrip(":") in names) / 1024


def started(manifest, batches):
    encoder = encode_speakers(manifest, SPEEDS, SPEAKERS * len(SPEEDS))
    data = CropDataset(manifest, Silent(2.0, 1), encoder, CROPS, SPEEDS)
    order = EpochOrder(len(data), seed=1)
    loader = iter(SaveableDataLoader(
        data, 64, sampler=order, num_workers=2, collate_fn=CropBatch, generator=torch.Generator()
    ))
    ids = {name for _ in range(batches) for name in next(loader).id}
    private = [
        megabytes(["Private_Clean", "Private_Dirty"], f"/proc/{worker.pid}/smaps_rollup")
        for worker in loader._workers
    ]
    return len(data), len(ids), max(private)


few, many, SPEAKERS, SPEEDS, CROPS = json.loads(sys.argv[1])
started(few, 2)
before = megabytes(["VmHWM"], "/proc/self/status")
base = started(few, 80)[-1]
crops, ids, private = started(many, 2000)
after = megabytes(["VmHWM"], "/proc/self/status")
print(json.dumps([crops, ids, before, after - before, base, private - base]))
"""


def write_manifest(path: Path, each: int) -> str:
    root = "/corpora/voxceleb/voxceleb2/dev/mono_16k_flac"
    with open(path, "w") as file:
        file.write(",".join(COLUMNS) + "\n")
        for speaker in range(SPEAKERS):
            for number in range(each):
                frames = 64000 + 640 * (number * speaker % 250)
                name = f"id{speaker:05}/{hash((speaker, number // 8)) % 10**11:011}/{number % 8:05}"
                wav = f"{root}/{name}.flac"
                file.write(f"{name},{frames / 16000:.4f},{wav},0,{frames},id{speaker:05}\n")
    return str(path)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One with an utterance of each speaker, and a full one."""
    folder = tmp_path_factory.mktemp("scale")
    return [
        write_manifest(folder / f"{each}.csv", each) for each in (1, -(-UTTERANCES // SPEAKERS))
    ]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells memory")
@pytest.mark.parametrize("speeds, crops", [([1.0], 1), ([1.0, 0.9, 1.1], 3)])
def test_memory_of_a_process_and_of_its_workers(
    manifests: list[str], speeds: list[float], crops: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([*manifests, SPEAKERS, speeds, crops])],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    items, ids, before, more, base, more_in_a_worker = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{items} crops: {before:.0f} MB and {more:.0f} more; "
        f"a worker {base:.0f} and {more_in_a_worker:.0f} more"
    )
    assert items >= UTTERANCES * len(speeds) * crops and ids == 2000 * 64
    assert more < LEAST_PROCESS
    assert more_in_a_worker < LEAST_WORKER
