"""What only a GPU can show, measured by one command in a few minutes.

    python -m tools.gpu_check --data SPEECH            on a GPU
    python -m tools.gpu_check --dry_run --out /tmp/x   the same on a CPU, tiny: does it run?

SPEECH is <speaker>/<session>/<utterance>.flac. Parts: correctness (precisions side by side, an
export), memory (of a step with WavLM-Large), embedding (utterances a second), nccl (torchrun with
one process), tests (those marked gpu), training (crops a second). Each runs in a process of its
own, with a limit of its own, and writes what it knows into OUT/figures.json at once; OUT/RESULTS.md
is made of that. Nothing is installed or fetched.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "VoxCeleb" / "distill_mixer"

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
STEPS = 30
# How far a loss may be from that in fp32: at the first step, and the mean of the last third.
DISTANCES = {"fp32": (0.0, 0.0), "tf32": (0.01, 0.05), "bf16": (0.03, 0.10), "fp16": (0.03, 0.10)}
# And an export's embedding on the GPU from the CPU's, as a share of its length.
EMBEDDING = 1e-3
# And an embedding of a network trained under torchrun from that of one trained without. Adam makes
# whole steps of the rounding in gradients that are zero, such as those before a normalisation.
TORCHRUN = 1e-2
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


class Plan(NamedTuple):
    """Where it runs, and how much."""

    work: Path  # a folder for what is made on the way
    out: Path
    data: Path | None
    dry_run: bool
    deadline: float  # of the part, in time.time()

    @property
    def device(self) -> str:
        """Where networks are computed."""
        return "cpu" if self.dry_run else "cuda"

    def figure(self, part: str, name: str, value: Any) -> None:
        """Write a figure down; what is known stays if the part is stopped."""
        path = self.out / "figures.json"
        figures = read_figures(path)
        figures.setdefault("parts", {}).setdefault(part, {})[name] = value
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"{part}: {name}: {json.dumps(value)}", flush=True)

    def time_left(self, seconds: float) -> bool:
        """Whether something that takes so long still fits."""
        return time.time() + seconds < self.deadline


def read_figures(path: Path) -> dict[str, Any]:
    """What has been measured so far."""
    with contextlib.suppress(FileNotFoundError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


# Speech and trainings


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
    import soundfile

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
    from local.make_ssl_model import new_model

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
    from speechbrain_ext.training.distill import DistillBrain
    from speechbrain_ext.training.teacher import TeacherBrain

    return TeacherBrain if system in (TEACHER, "ecapa_tdnn") else DistillBrain


def train(plan: Plan, system: str, precision: str, line: list[str]) -> list[float]:
    """Train in this process; the loss of every step."""
    from speechbrain_ext.training.run import run_training

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


def allow_tf32(allowed: bool) -> None:
    """Whether products of fp32 may be computed with ten bits of their fractions."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def environment() -> dict[str, str]:
    """That of commands which are started from here."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


# The parts


def correctness(plan: Plan) -> None:
    """Losses of every system in every precision, and an export of V2."""
    steps, batch = (4, 8) if plan.dry_run else (STEPS, 64)
    wanted = ("fp32", "bf16") if plan.dry_run else PRECISIONS  # fp16 is for GPUs
    for system in SYSTEMS:
        losses: dict[str, list[float]] = {}
        for precision in wanted:
            folder = plan.work / system / precision
            line = arguments_of(plan, system, folder, steps, batch)
            losses[precision] = train(plan, system, precision, line)
            plan.figure("correctness", f"{system} {precision}", compare_losses(losses, precision))
        if system == "v2":
            plan.figure("correctness", "export", compare_export(plan, folder.parent / "fp32"))


def compare_losses(losses: dict[str, list[float]], precision: str) -> dict[str, Any]:
    """First and last losses of a precision, their distance from fp32, and whether it will do."""
    own, exact = losses[precision], losses["fp32"]
    tail = max(1, len(own) // 3)
    last, last_exact = statistics.fmean(own[-tail:]), statistics.fmean(exact[-tail:])
    first, end = abs(own[0] / exact[0] - 1), abs(last / last_exact - 1)
    near = first <= DISTANCES[precision][0] and end <= DISTANCES[precision][1]
    return {
        "steps": len(own),
        "first_loss": own[0],
        "last_losses": last,
        "first_distance": first,
        "last_distance": end,
        "good": near and all(map(math.isfinite, own)),
    }


@torch.no_grad()
def compare_export(plan: Plan, experiment: Path) -> dict[str, Any]:
    """Embeddings of a folder exported where it was trained: the GPU's against the CPU's."""
    from speechbrain_ext.export.model_folder import write_model_folder
    from speechbrain_ext.systems.pretrained import load_pretrained

    allow_tf32(False)
    folder = plan.work / "export"
    write_model_folder(experiment, folder)
    encoder = load_pretrained(folder)
    noise = 0.1 * torch.randn(4, 48000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([1.0, 0.9, 0.5, 0.3])
    expected = encoder(noise, lengths)
    found = encoder.to(plan.device)(noise.to(plan.device), lengths.to(plan.device)).cpu()
    return distance(found, expected, EMBEDDING)


def training(plan: Plan) -> None:
    """Crops a second of V2 and of the published network, and what the real loader adds."""
    device = torch.device(plan.device)
    batches = (4,) if plan.dry_run else (64, 256, 1024)
    peaks = {precision: matrix_peak(plan, precision) for precision in ("fp32", "tf32", "bf16")}
    plan.figure("training", "matrix products, TFLOP/s", peaks)
    for compiled in (False, True):
        for precision in ("bf16", "tf32", "fp32"):
            for batch in batches:
                name = f"{precision}{' compiled' if compiled else ''}, batch {batch}"
                skipped = precision != "bf16" if plan.dry_run else not plan.time_left(60)
                if compiled and skipped:
                    plan.figure("training", name, "not reached")
                    continue
                figures = step_speed(plan, device, precision, batch, compiled)
                for system in figures.values():
                    share = system["tflops"] / peaks[precision]
                    system["share_of_peak"] = share
                plan.figure("training", name, figures)
        if not compiled:
            loader(plan)


def matrix_peak(plan: Plan, precision: str) -> float:
    """TFLOP/s of a large matrix product, by the median of several."""
    from speechbrain_ext.measure.speed import time_side_by_side

    allow_tf32(precision == "tf32")
    size = 256 if plan.dry_run else 8192
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=plan.device, dtype=dtype) for _ in range(2))
    seconds = time_side_by_side({"": lambda: a @ b}, 10, torch.device(plan.device))[""]
    return 2 * size**3 / statistics.median(seconds) / 1e12


def step_speed(
    plan: Plan, device: torch.device, precision: str, batch: int, compiled: bool
) -> dict[str, dict[str, float]]:
    """Time whole steps on crops of 2 s, of 1,000 speakers, in turns."""
    from speechbrain_ext.lobes.encoders import SpeakerEncoder
    from speechbrain_ext.lobes.features import LogMel
    from speechbrain_ext.lobes.mixer import MLPMixer
    from speechbrain_ext.measure.speed import count_macs, time_side_by_side
    from speechbrain_ext.nnet.normalization import UtteranceNorm
    from tests.lobes.published_networks import PublishedFrontEnd, PublishedMixer

    allow_tf32(precision == "tf32")
    torch.manual_seed(0)
    wavs = 0.1 * torch.randn(batch, 8000 if plan.dry_run else 32000, device=device)
    blocks = 1 if plan.dry_run else 6
    networks = {
        "v2": SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(num_blocks=blocks)),
        "published": nn.Sequential(PublishedFrontEnd(), PublishedMixer(num_blocks=blocks)),
    }
    work: dict[str, Callable[[], object]] = {}
    macs = {}
    for name, network in networks.items():
        network = network.to(device).train()
        macs[name] = count_macs(network.eval(), wavs[:2]) / 2
        step = SpeakerStep(network.train(), wavs, precision == "bf16", compiled)
        work[name] = step
    rounds = 2 if plan.dry_run else 10
    seconds = time_side_by_side(work, rounds, device, warm_up=1 if plan.dry_run else 3)
    figures = {}
    for name, own in seconds.items():
        rate = batch / statistics.median(own)
        # Forward once, backward twice.
        figures[name] = {"crops_a_second": rate, "tflops": 6 * macs[name] * rate / 1e12}
    return figures


class SpeakerStep:
    """A step of training: forward, loss, backward, Adam."""

    def __init__(self, network: nn.Module, wavs: Tensor, amp: bool, compiled: bool) -> None:
        self.network = torch.compile(network) if compiled else network
        self.wavs, self.amp = wavs, amp
        self.classifier = nn.Linear(512, 1000).to(wavs.device)
        self.labels = torch.arange(len(wavs), device=wavs.device) % 1000
        parameters = [*network.parameters(), *self.classifier.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3)

    def __call__(self) -> None:
        """Make the step."""
        with torch.autocast(self.wavs.device.type, torch.bfloat16, enabled=self.amp):
            embeddings = self.network(self.wavs)
        logits = self.classifier(embeddings.float().flatten(1))
        F.cross_entropy(logits, self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def loader(plan: Plan) -> None:
    """How long a step of V2 waits for data, and what a crop costs on the way."""
    from speechbrain_ext.training.crops import (
        CropBatch,
        CropDataset,
        CropReader,
        encode_speakers,
        speakers_of,
    )

    steps, batch = (4, 8) if plan.dry_run else (40, 256)
    teacher = plan.work / TEACHER / "fp32" / "save" / "embedding_model.safetensors"
    if not teacher.exists():
        train(plan, TEACHER, "fp32", arguments_of(plan, TEACHER, teacher.parents[1], 4, 8))
    folder = plan.work / "v2_with_data"
    train(plan, "v2", "bf16", arguments_of(plan, "v2", folder, steps, batch))
    log = json.loads((folder / "train_log.jsonl").read_text(encoding="utf-8"))["train"]
    plan.figure(
        "training",
        "v2 and its teacher, bf16, the real loader",
        {
            "batch": batch,
            "crops_a_second": log["utterances"] / log["seconds"],
            "share_that_waits_for_data": log["data_wait"],
            "share_of_the_teacher": log["teacher_time"],
        },
    )
    data, crops = trimmed_corpus(plan, steps, batch)
    manifest = data / "manifests" / "train.csv"
    encoder = encode_speakers(manifest, [1.0], len(speakers_of(manifest)))
    reader = CropReader(0.5 if plan.dry_run else 2.0, seed=1)
    dataset = CropDataset(str(manifest), reader, encoder, crops)
    start = time.perf_counter()
    items = [dataset[index] for index in range(batch)]
    read = time.perf_counter()
    made = CropBatch(items)
    collated = time.perf_counter()
    if plan.device == "cuda":
        made.pin_memory()
    pinned = time.perf_counter()
    made.to(plan.device)
    if plan.device == "cuda":
        torch.cuda.synchronize()
    moved = time.perf_counter()
    figures = {
        "read and decode, ms a crop": 1000 * (read - start) / batch,
        "collate, ms a batch": 1000 * (collated - read),
        "pin, ms a batch": 1000 * (pinned - collated),
        "move to the device, ms a batch": 1000 * (moved - pinned),
    }
    plan.figure("training", "a crop's way, in one process", figures)
    for workers in (0, 1) if plan.dry_run else (0, 4, 8, 15):
        batches = torch.utils.data.DataLoader(
            dataset, batch, num_workers=workers, collate_fn=CropBatch, drop_last=True
        )
        stream = iter(batches)
        next(stream)
        start = time.perf_counter()
        count = sum(len(item.id) for item in stream)
        rate = count / (time.perf_counter() - start)
        plan.figure("training", f"the loader alone, {workers} workers, crops a second", rate)


def embedding(plan: Plan) -> None:
    """Utterances a second from waveform to embedding."""
    from hyperpyyaml import load_hyperpyyaml

    from speechbrain_ext.lobes.encoders import SpeakerEncoder
    from speechbrain_ext.measure.speed import benchmark_encoders
    from speechbrain_ext.systems.experiment import encoder_part
    from speechbrain_ext.systems.yaml import resolve_hparams

    encoders = {}
    for system in (TEACHER, "v2", "ecapa_tdnn"):
        yaml = RECIPE / "hparams" / f"{system}.yaml"
        torch.manual_seed(0)
        encoders[system] = SpeakerEncoder(
            **load_hyperpyyaml(encoder_part(resolve_hparams(yaml), yaml))
        )
    for tf32, (batch, seconds) in itertools.product(
        (False, True), ((2, 1.0),) if plan.dry_run else ((1, 2.0), (64, 2.0), (16, 30.0))
    ):
        allow_tf32(tf32)
        rounds = 2 if plan.dry_run else 20
        found = benchmark_encoders(encoders, batch, seconds, rounds, plan.device)
        rates = {
            s["name"]: {
                key: s["from_waveform"][key] for key in ("utterances_per_second", "relative")
            }
            for s in found["systems"]
        }
        name = f"{'tf32' if tf32 else 'fp32'}, {batch} of {seconds:g} s"
        plan.figure("embedding", name, rates)


def memory(plan: Plan) -> None:
    """The most memory of a step with WavLM-Large, beside what step_memory.py estimates."""
    steps, batch = (2, 8) if plan.dry_run else (4, 128)
    for precision in ("bf16",) if plan.dry_run else ("bf16", "fp32"):
        folder = plan.work / f"memory_{precision}"
        line = arguments_of(plan, WAVLM, folder, steps, batch)
        precise = ["--precision", precision]
        module = ["-m", "speechbrain_ext.measure.step_memory"]
        said = output_of([sys.executable, *module, *line, *precise])
        estimate = json.loads(said[said.index("{") :])["total"]
        figures = {"batch": batch, "estimated_gb": estimate, "peak_gb": None}
        if plan.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            losses = train(plan, WAVLM, precision, line)
        except torch.OutOfMemoryError as error:
            plan.figure("memory", precision, {**figures, "out_of_memory": str(error).split(".")[0]})
            continue
        if plan.device == "cuda":
            figures["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        good = all(map(math.isfinite, losses))
        plan.figure("memory", precision, {**figures, "steps": len(losses), "good": good})


@torch.no_grad()
def nccl(plan: Plan) -> None:
    """One process under torchrun ends as one without."""
    from speechbrain_ext.systems.experiment import load_encoder

    steps, batch = (4, 8) if plan.dry_run else (10, 64)
    noise = 0.1 * torch.randn(4, 32000, generator=torch.Generator().manual_seed(0))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    embeddings = []
    for name, launcher in (("alone", []), ("torchrun", torchrun)):
        folder = plan.work / f"nccl_{name}"
        command = [sys.executable, *launcher, "train_teacher.py"]
        command += arguments_of(plan, TEACHER, folder, steps, batch)
        if launcher:
            command += ["--distributed_backend", "gloo" if plan.dry_run else "nccl"]
        output_of(command)
        embeddings.append(load_encoder(folder)(noise))
    alone, under = embeddings
    figures = {"steps": steps, **distance(under, alone, TORCHRUN)}
    plan.figure("nccl", "torchrun, one process", figures)


def distance(found: Tensor, expected: Tensor, bound: float) -> dict[str, Any]:
    """The largest distance between embeddings, as a share of their length."""
    largest = ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()
    return {"largest_distance": largest, "good": largest <= bound}


def output_of(command: list[str]) -> str:
    """What a command of the recipe prints; its own words where it fails."""
    done = subprocess.run(command, cwd=RECIPE, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-3000:]}")
    return done.stdout


def tests(plan: Plan) -> None:
    """pytest's tests marked gpu."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/recipe/test_gpu.py",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    print(done.stdout[-4000:], flush=True)
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    wanted = "skipped" if plan.dry_run else "passed"
    good = done.returncode == 0 and counts.get(wanted, 0) > 0
    plan.figure("tests", "pytest -m gpu", {**counts, "good": good})


class Part(NamedTuple):
    """A measurement and the most seconds it may take."""

    measure: Callable[[Plan], None]
    limit: float


PARTS = {
    "correctness": Part(correctness, 150),
    "memory": Part(memory, 75),
    "embedding": Part(embedding, 40),
    "nccl": Part(nccl, 50),
    "tests": Part(tests, 60),
    "training": Part(training, 200),
}


# The whole


def run_parts(options: argparse.Namespace, out: Path, work: Path) -> bool:
    """Run the parts one after another; whether all ended well."""
    begun, well = time.time(), True
    for name in options.parts:
        left = begun + 60 * options.minutes - time.time()
        limit = min(PARTS[name].limit * (10 if options.dry_run else 1), left)
        outcome, start = "no time was left", time.time()
        if limit > 5:
            command = [sys.executable, "-m", "tools.gpu_check", "--part", name, "--out", str(out)]
            command += ["--work", str(work), "--deadline", str(start + limit)]
            command += ["--dry_run"] if options.dry_run else []
            command += ["--data", str(options.data)] if options.data else []
            try:
                done = subprocess.run(command, env=environment(), timeout=limit)
                outcome = "done" if done.returncode == 0 else f"failed, status {done.returncode}"
            except subprocess.TimeoutExpired:
                outcome = f"stopped after {limit:.0f} s"
        plan = Plan(work, out, None, options.dry_run, 0)
        plan.figure(name, "outcome", outcome)
        plan.figure(name, "seconds", round(time.time() - start, 1))
        figures = read_figures(out / "figures.json")
        well &= outcome == "done" and all(good for good in _verdicts(figures["parts"][name]))
        with atomic_path(out / "RESULTS.md") as temporary:
            temporary.write_text(page(figures), encoding="utf-8")
    return well


def _verdicts(tree: Any) -> Iterator[bool]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "good":
                yield value
            else:
                yield from _verdicts(value)


def page(figures: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    machine = figures["machine"]
    lines = ["# GPU check", "", ", ".join(f"{k} {v}" for k, v in machine.items()), ""]
    for part, found in figures["parts"].items():
        outcome, seconds = found.get("outcome", "running"), found.get("seconds", "")
        lines += [f"## {part}: {outcome}, {seconds} s", "", "| what | figures |", "| --- | --- |"]
        for name, value in found.items():
            if name not in ("outcome", "seconds"):
                lines.append(f"| {name} | {_plain(value)} |")
        lines.append("")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine(dry_run: bool) -> dict[str, Any]:
    """Where it was measured."""
    name = "CPU, dry run" if dry_run else torch.cuda.get_device_name()
    versions = {"PyTorch": torch.__version__, "Python": platform.python_version()}
    return {"device": name, **versions, "cores": os.cpu_count(), "date": str(date.today())}


def main() -> None:
    """Run all parts, or in a child one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="speech, 16 kHz mono; noise is made without it")
    parser.add_argument(
        "--out", type=Path, default=RECIPE / "results" / "gpu", help="folder of the figures"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together")
    parser.add_argument("--dry_run", action="store_true", help="tiny, on the CPU")
    for name, kind in (("part", str), ("work", Path), ("deadline", float)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with friendly_exit():
        out, data = options.out.absolute(), options.data and options.data.absolute()
        if options.part:
            plan = Plan(options.work, out, data, options.dry_run, options.deadline)
            PARTS[options.part].measure(plan)
            return
        if not options.dry_run and not torch.cuda.is_available():
            raise UserError(
                "there is no GPU here: give --dry_run to try the check on the CPU",
                code="bad-device",
            )
        if data and not data.is_dir():
            raise UserError(f"--data {data}: there is no such folder", code="missing-folder")
        options.data = data
        if options.dry_run and options.minutes == parser.get_default("minutes"):
            options.minutes = 60.0
        out.mkdir(parents=True, exist_ok=True)
        (out / "figures.json").write_text(
            json.dumps({"machine": machine(options.dry_run), "parts": {}}), encoding="utf-8"
        )
        with tempfile.TemporaryDirectory(prefix="gpu_check_") as work:
            well = run_parts(options, out, Path(work))
        print(f"wrote {out / 'RESULTS.md'}")
        if not well:
            raise UserError(f"something is amiss: see {out / 'RESULTS.md'}", code="failed-process")


if __name__ == "__main__":
    main()
