"""A corpus and networks so small that a training takes seconds."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.processes import HANG, ROOT, environment

RECIPE = ROOT / "recipes" / "VoxCeleb" / "distill_mixer"
TRAIN_SPEAKERS, VALID_SPEAKERS, UTTERANCES, SECONDS = 6, 4, 4, 1.0

COMMON = ["--lin_neurons", "16", "--crop_seconds", "0.5", "--number_of_epochs", "2"]
COMMON += ["--num_workers", "0", "--device", "cpu"]
TEACHER = ["hparams/teacher.yaml", "--batch_size", "8", "--grad_accumulation_factor", "1"]
TEACHER += ["--conv_channels", "16", "--latent_size", "16", "--lstm_size", "16", *COMMON]
STUDENT = ["hparams/v2.yaml", "--batch_size", "8", "--channels", "16", "--num_blocks", "2", *COMMON]


def make_corpus(folder: Path) -> Path:
    """Write recordings of harmonic tones, one pitch a speaker, with their manifests."""
    rng = np.random.default_rng(0)
    time = np.arange(int(SECONDS * 16000)) / 16000
    manifests = folder / "manifests"
    (manifests / "trials").mkdir(parents=True)
    for name, count, first in (("train", TRAIN_SPEAKERS, 0), ("valid", VALID_SPEAKERS, 50)):
        rows: list[dict[str, Any]] = []
        for speaker in range(first, first + count):
            pitch = 90 + 25 * (speaker % 50)
            for utterance in range(UTTERANCES):
                wave = sum(
                    np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k
                    for k in range(1, 9)
                )
                wave = 0.1 * wave + 0.02 * rng.standard_normal(len(time))
                path = folder / name / f"id{speaker:03}" / f"s{utterance % 2}" / f"{utterance}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, wave, 16000)
                rows.append(
                    {
                        "ID": f"id{speaker:03}/s{utterance % 2}/{utterance}",
                        "duration": SECONDS,
                        "wav": str(path),
                        "start": 0,
                        "stop": len(time),
                        "spk_id": f"id{speaker:03}",
                    }
                )
        with open(manifests / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        lines = [
            f"{int(a['spk_id'] == b['spk_id'])} {a['ID']} {b['ID']}"
            for a, b in combinations(rows, 2)
        ]
        (manifests / "trials" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    # Of the systems that hear the training speech in other voices too, which here are none.
    shutil.copy(manifests / "train.csv", manifests / "train_voices.csv")
    return folder


def command(script: str, *arguments: Any, processes: int = 1) -> list[str]:
    """The command that a user would type in the recipe's folder."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "speechbrain_ext.training.launch", str(processes)]
    return [*launcher, script, *map(str, arguments)]


def run(
    script: str, *arguments: Any, processes: int = 1, gpus: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a script of the recipe to its end."""
    return subprocess.run(
        command(script, *arguments, processes=processes),
        cwd=RECIPE,
        env=environment(gpus),
        capture_output=True,
        text=True,
        timeout=HANG,
    )
