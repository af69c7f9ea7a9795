"""What training and embedding cost on a GPU, in time and memory."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
from hyperpyyaml import load_hyperpyyaml
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.measure.speed import benchmark_encoders, count_macs, time_side_by_side
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.systems.experiment import encoder_part
from speechbrain_ext.systems.yaml import resolve_hparams
from speechbrain_ext.training.crops import (
    CropBatch,
    CropDataset,
    CropReader,
    encode_speakers,
    speakers_of,
)
from tests.lobes.published_networks import PublishedFrontEnd, PublishedMixer
from tools.gpu_check.plan import RECIPE, Plan, allow_tf32, output_of
from tools.gpu_check.trainings import TEACHER, WAVLM, arguments_of, train, trimmed_corpus


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
    steps, batch = (4, 8) if plan.dry_run else (40, 256)
    teacher = plan.work / TEACHER / "fp32" / "save" / "embedding_model.safetensors"
    if not teacher.exists():
        train(plan, TEACHER, "fp32", arguments_of(plan, TEACHER, teacher.parents[2], 4, 8))
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
