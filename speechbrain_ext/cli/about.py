"""``spk info``, ``benchmark`` and ``export``: what a model is, how fast, and how it is made."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from speechbrain_ext.cli.options import (
    DecisionsFile,
    Json,
    Model,
    Precision,
    Threads,
    number,
    open_model,
    tell,
)
from speechbrain_ext.cli.trials import decision_lines
from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.speech import speech_gate
from speechbrain_ext.terminal import print_table


def info(
    model: Model = None,
    decisions: DecisionsFile = None,
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """Say what a model is and what it decides by."""
    found = open_model(model, precision, 1, decisions)
    vad = speech_gate(found.sample_rate).name
    facts = {
        "file": found.file,
        "sha256": found.digest,
        "reads": found.reads,
        "sample_rate": found.sample_rate,
        "embedding_size": found.dim,
        "vad": vad,
        "decisions": found.decisions and found.decisions.tree(),
        "model": found.facts,
    }
    lines = [
        f"{found.facts.get('title', 'a model')}: {found.file}",
        f"reads {found.reads} at {found.sample_rate} Hz, gives {found.dim} numbers; SHA-256 "
        f"{found.digest[:12]}",
        f"speech is told by {vad}",
    ]
    if found.decisions is None:
        lines.append("no threshold of its own: give --threshold, or calibrate it on your trials")
    else:
        lines += decision_lines(found.decisions)
    tell(as_json, facts, *lines)


def benchmark(
    model: Model = None,
    seconds: Annotated[
        list[float], typer.Option(help="Of a recording; may be repeated.", parser=number)
    ] = [  # noqa: B006
        2.0,
        10.0,
        60.0,
    ],
    rounds: Annotated[int, typer.Option(min=1, help="How often each is embedded.")] = 10,
    precision: Precision = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Measure how long an embedding takes on this machine."""
    if not all(0.1 <= each <= 3600 for each in seconds):
        raise UserError("--seconds is out of range: give 0.1 to 3600", code="bad-option")
    found = open_model(model, precision, threads)
    noise = np.random.default_rng(0).normal(0, 0.1, round(max(seconds) * found.sample_rate))
    rows = []
    for length in seconds:
        samples = noise[: round(length * found.sample_rate)].astype(np.float32)
        found.embed(samples)  # the first of a length is slower
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            found.embed(samples)
            times.append(time.perf_counter() - begun)
        middle = statistics.median(times)
        rows.append(
            {"seconds": length, "milliseconds": 1000 * middle, "times_real_time": length / middle}
        )
    if as_json:
        tell(True, {"file": found.file, "threads": threads, "rounds": rounds, "speeds": rows})
        return
    table = Table(
        "seconds", "ms (median)", "× real time", title=Text(Path(found.file).name), box=None
    )
    for row in rows:
        table.add_row(
            f"{row['seconds']:g}", f"{row['milliseconds']:.1f}", f"{row['times_real_time']:.0f}"
        )
    print_table(table)


def export(
    experiment: Annotated[Path, typer.Argument(help="Folder of a finished training.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; EXPERIMENT/export else.")
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of onnx, int8 and fp16, with commas, or none; else onnx and int8 where the "
            "network can leave PyTorch."
        ),
    ] = None,
    manifests: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpus that measures the files; the training's else."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a model folder of a training. Its YAML is executed: trust it first."""
    from speechbrain_ext.export.command import FORMATS, export_experiment

    wanted = None if formats is None else formats.split(",")
    if unknown := [each for each in wanted or () if each not in ("none", *FORMATS)]:
        raise UserError(
            f"--formats {unknown[0]} is none: give {', '.join(FORMATS)}, or none",
            code="bad-option",
        )
    lines = export_experiment(experiment, out, wanted, manifests)
    tell(as_json, {"out": str(out or experiment / "export"), "lines": lines}, *lines)
