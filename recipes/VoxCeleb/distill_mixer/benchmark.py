#!/usr/bin/env python3
"""Measure trained systems side by side: parameters, operations, utterances per second.

    python benchmark.py --out exp/mini/v2/seed_1/results/speed.json \\
        exp/mini/teacher/seed_1 exp/mini/v2/seed_1

A YAML in the place of an experiment is its network with random weights, which is as fast. All
systems are measured in turns, in one run, and speeds are relative to the first. With
`--with_teacher` the teacher of the first experiment comes before it: a self-supervised model has no
experiment folder. With `--lengths 1 3 10 30 60` the cost of one utterance of so many seconds is
measured as well, and drawn. With `--engines eager onnx int8` every system is measured in each
engine too, for every number of `--threads`, every `--batch` and every length of
`--seconds_of_speech`:

    python benchmark.py --out speed.json hparams/teacher.yaml hparams/v2.yaml hparams/v6.yaml \\
        --engines eager onnx int8 --threads 1 2 --batch 8 1 --seconds_of_speech 2 30
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import atomic_path
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.measure.by_length import length_figure, length_tables
from speechbrain_ext.measure.speed import ENGINES, benchmark_encoders, benchmark_lengths
from speechbrain_ext.systems.devices import check_device
from speechbrain_ext.systems.experiment import (
    load_encoder,
    load_teacher,
    read_setting,
    untrained_encoder,
)
from speechbrain_ext.terminal import print_table
from speechbrain_ext.verification.plots import save_figure


def main() -> None:
    """Write the figures and print them."""
    parser = argparse.ArgumentParser(description="Measure trained systems side by side.")
    parser.add_argument(
        "experiments", nargs="+", type=Path, help="folders or YAMLs; the first is compared with"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--with_teacher", action="store_true", help="first of all the teacher of the first folder"
    )
    parser.add_argument(
        "--lengths", nargs="+", type=float, metavar="SECONDS", help="one utterance of each as well"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="utterances in a batch")
    parser.add_argument(
        "--seconds_of_speech", type=float, nargs="+", default=[2.0], help="of an utterance"
    )
    parser.add_argument("--rounds", type=int, default=20, help="times each system is measured")
    parser.add_argument(
        "--threads", type=int, nargs="+", help="of the CPU; PyTorch's choice by default"
    )
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, help="each on the CPU, eager among them"
    )
    parser.add_argument("--device", help="cpu, cuda:0, ...; a GPU where there is one by default")
    args = parser.parse_args()
    counts = [("batch", args.batch), ("rounds", [args.rounds]), ("threads", args.threads)]
    for name, values in counts:
        for value in values or ():
            if value < 1:
                raise UserError(
                    f"--{name} {value} measures nothing: give 1 or more", code="bad-option"
                )
    for name in ("seconds_of_speech", "lengths"):
        for seconds in getattr(args, name) or ():
            # The front end reflects half a window at both ends.
            if not 0.1 <= seconds < math.inf:
                raise UserError(
                    f"--{name} {seconds} cannot be measured: give seconds, 0.1 or more",
                    code="bad-option",
                )
    if args.engines and "eager" not in args.engines:
        raise UserError(
            f"--engines {' '.join(args.engines)} has nothing to compare with: give eager too",
            code="bad-option",
        )
    if args.out.is_dir():
        raise UserError(f"--out {args.out} is a folder: give the name of a file", code="bad-option")

    if args.threads:
        torch.set_num_threads(args.threads[0])
    # Of the accelerators only CUDA is waited for when times are taken.
    device = check_device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    encoders: dict[str, SpeakerEncoder] = {}
    if args.with_teacher:
        try:
            name, encoder = load_teacher(args.experiments[0])
            encoders[name] = encoder
        except UserError as error:
            print(f"Measured without the teacher: {error}")
    for path in args.experiments:
        if path.is_file():
            name, encoder = untrained_encoder(path)
        else:
            name, encoder = str(read_setting(path, "system")), load_encoder(path)
        encoders[name if name not in encoders else str(path)] = encoder
    batch, seconds = args.batch[0], args.seconds_of_speech[0]
    figures = benchmark_encoders(encoders, batch, seconds, args.rounds, device)
    if args.engines:
        # With the extra export
        from speechbrain_ext.measure.engines import benchmark_engines, engine_figure

        on_cpu = {name: encoder.cpu() for name, encoder in encoders.items()}
        threads = args.threads or [torch.get_num_threads()]
        figures["engines"] = benchmark_engines(
            on_cpu, args.engines, threads, args.batch, args.seconds_of_speech, args.rounds
        )
        save_figure(engine_figure(figures["engines"]), args.out.with_name("time_by_engine"))
    if args.lengths:
        lengths = sorted(set(args.lengths))
        figures["by_length"] = benchmark_lengths(encoders, lengths, device=device)
        save_figure(length_figure(figures["by_length"]), args.out.with_name("time_by_length"))
    with atomic_path(args.out) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for table in [speed_table(figures), *tables_by_length(figures), *engine_tables(figures)]:
        print_table(table)


def tables_by_length(figures: dict[str, Any]) -> Iterator[Table]:
    """What an utterance costs by its length, for the terminal; nothing where it was not asked."""
    for headings, lines in length_tables(figures["by_length"]) if "by_length" in figures else ():
        table = Table(*headings)
        for line in lines:
            table.add_row(*line)
        yield table


def engine_tables(figures: dict[str, Any]) -> Iterator[Table]:
    """The figures of :func:`benchmark_engines`, a table for each place."""
    rows = figures.get("engines", [])
    places = dict.fromkeys((r["threads"], r["batch"], r["seconds_of_speech"]) for r in rows)
    for place in places:
        threads, batch, seconds = place
        table = Table(title=f"cpu, {threads} threads, {batch} utterances of {seconds:g} s")
        for column in ("system", "engine", "input"):
            table.add_column(column)
        for column in ("ms", "p95", "utt/s", "real time", "ratio", "of ceiling", "peak MB"):
            table.add_column(column, justify="right")
        for row in rows:
            if (row["threads"], row["batch"], row["seconds_of_speech"]) != place:
                continue
            share, peak = row["share_of_ceiling"], row["peak_mb"]
            table.add_row(
                *(row[key] for key in ("system", "engine", "input")),
                f"{1e3 * row['median']:.1f}",
                f"{1e3 * row['p95']:.1f}",
                f"{row['utterances_per_second']:.1f}",
                f"{row['real_time_factor']:.4f}",
                f"{row['relative']:.2f}",
                "–" if share is None else f"{100 * share:.0f} %",
                "–" if peak is None else f"{peak:.0f}",
            )
        yield table


def speed_table(figures: dict[str, Any]) -> Table:
    """The figures of :func:`benchmark_encoders` as a table for the terminal."""
    threads = f", {figures['threads']} threads" if figures["device"] == "cpu" else ""
    table = Table(
        title=f"{figures['device']}{threads}, FP32, batches of {figures['batch']} utterances of "
        f"{figures['seconds_of_speech']:g} s, median of {figures['rounds']} rounds"
    )
    table.add_column("system")
    columns = ["parameters", "GMACs", "network utt/s", "spread", "ratio"]
    columns += ["with front end utt/s", "ratio"]
    for column in columns:
        table.add_column(column, justify="right")
    for system in figures["systems"]:
        whole, parameters = system["from_waveform"], system["parameters"]
        known = parameters is not None
        table.add_row(
            system["name"],
            f"{parameters:,}" if known else "–",
            f"{system['macs_per_utterance'] / 1e9:.3f}" if known else "–",
            f"{system['utterances_per_second']:.1f}",
            "{:.0f}-{:.0f}".format(*system["spread"]),
            f"{system['relative']:.2f}",
            f"{whole['utterances_per_second']:.1f}",
            f"{whole['relative']:.2f}",
        )
    return table


if __name__ == "__main__":
    with friendly_exit():
        main()
