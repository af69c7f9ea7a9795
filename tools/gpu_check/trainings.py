"""Speech and trainings of the systems that the check is about."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from local.make_ssl_model import new_model
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tools.gpu_check.plan import RECIPE, Plan, allow_tf32, output_of

TEACHER, WAVLM = "teacher", "sv_mixer_wavlm_large"
SYSTEMS = (TEACHER, "v2", "v3", "ecapa_tdnn", WAVLM)
_SMALL = "--lin_neurons 16 --crop_seconds 0.5 --num_workers 0 --batch_size 8"
DRY = {  # what makes a system tiny
    TEACHER: "--conv_channels 16 --latent_size 16 --lstm_size 16",
    "v2": "--channels 16 --num_blocks 2",
    "v3": "--channels 16 --num_blocks 2",
    "ecapa_tdnn": "--channels [16,16,16,16,48]",
    WAVLM: "--hidden_size 64 --num_blocks 2 --conv_channels 16 --num_tokens 24 "
    "--layer_pairs [[block2,layer2]] --teacher_layers [2]",
}


def corpus(plan: Plan) -> Path:
    """The corpus folder of ``--data``, or of noise; made by the recipe's stage 1 once."""
    folder = plan.work / "corpus"
    if (folder / "manifests" / "train.csv").exists():
        return folder
    data = plan.data or write_noise(plan.work / "noise")
    command = [sys.executable, "local/prepare_manifests.py", "hparams/manifests.yaml"]
    command += ["--corpus_dir", str(folder), "--train", str(data)]
    command += ["--valid_speakers", "4" if plan.data is None else "20"]
    output_of(command)
    return folder


def write_noise(folder: Path) -> Path:
    """Speakers of coloured noise as FLAC, for want of speech."""
    generator = torch.Generator().manual_seed(0)
    for speaker, take in itertools.product(range(12), range(4)):
        noise = torch.randn(48000, generator=generator)
        colour = torch.hann_window(4 + 6 * speaker)
        wave = F.conv1d(noise[None, None], (colour / colour.sum())[None, None])[0, 0]
        path = folder / f"id{speaker:03}" / f"s{take % 2}" / f"{take}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, (0.3 * wave / wave.abs().max()).numpy(), 16000)
    return folder


def trimmed_corpus(plan: Plan, steps: int, batch: int) -> tuple[Path, int]:
    """A corpus whose epoch has that many steps, and its crops of each utterance."""
    whole = corpus(plan) / "manifests"
    with open(whole / "train.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = -(-steps * batch // len(rows))
    # The rows of all speakers in turn, so that each has some.
    by_speaker: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_speaker.setdefault(row["spk_id"], []).append(row)
    mixed = [r for turn in itertools.zip_longest(*by_speaker.values()) for r in turn if r]
    kept = mixed[: steps * batch // crops]
    folder = plan.work / f"corpus_{steps}x{batch}"
    target = folder / "manifests"
    if not target.exists():
        (target / "trials").mkdir(parents=True)
        for name in ("valid.csv", "trials/valid.txt"):
            (target / name).write_bytes((whole / name).read_bytes())
        with open(target / "train.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(sorted(kept, key=lambda row: row["ID"]))
    return folder, crops


def wavlm_folder(plan: Plan) -> Path:
    """A WavLM of random weights as large as WavLM-Large, or tiny."""
    folder = plan.work / "wavlm"
    if not folder.exists():
        sizes = (64, 2, 16) if plan.dry_run else (1024, 24, 512)
        new_model(folder, *sizes, seed=1)
    return folder


def arguments_of(plan: Plan, system: str, folder: Path, steps: int, batch: int) -> list[str]:
    """The command line by which a system trains one epoch of so many steps."""
    data, crops = trimmed_corpus(plan, steps, batch)
    place = "ssl/" if system == WAVLM else ""
    line = [str(RECIPE / f"hparams/{place}{system}.yaml"), "--corpus_dir", str(data)]
    line += ["--output_folder", str(folder), "--number_of_epochs", "1", "--noprogressbar"]
    line += ["--crops_per_utterance", str(crops), "--batch_size", str(batch)]
    line += ["--grad_accumulation_factor", "1", "--device", plan.device]
    line += ["--num_workers", str(min(14, max(0, (os.cpu_count() or 1) - 2)))]
    if system == WAVLM:
        line += ["--teacher_source", str(wavlm_folder(plan)), "--offline", "True"]
    elif system in ("v2", "v3"):
        line += ["--teacher_folder", str(plan.work / TEACHER / "fp32")]
    if plan.dry_run:
        line += [*_SMALL.split(), "--batch_size", str(batch), *DRY[system].split()]
    return line


def brain_class(system: str) -> Any:
    """The Brain that trains a system."""
    return TeacherBrain if system in (TEACHER, "ecapa_tdnn") else DistillBrain


def train(plan: Plan, system: str, precision: str, line: list[str]) -> list[float]:
    """Train in this process; the loss of every step."""
    losses: list[Tensor] = []

    class Recorded(brain_class(system)):  # type: ignore[misc]
        def train(self) -> None:
            allow_tf32(precision == "tf32")  # after SpeechBrain, which allows it
            super().train()

        def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Tensor, step: bool) -> None:
            losses.append(loss.detach())
            super().on_fit_batch_end(batch, outputs, loss, step)

    amp = precision if precision in ("bf16", "fp16") else "fp32"
    run_training(Recorded, [*line, "--precision", amp])
    return [float(loss) for loss in losses]
