#!/usr/bin/env python3
"""Measure trained systems side by side: parameters, operations, utterances per second.

    python benchmark.py --out exp/mini/v2/seed_1/results/speed.json \\
        exp/mini/teacher/seed_1 exp/mini/v2/seed_1
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from local.hparams import read_setting
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import atomic_path
from speechbrain_ext.inference.benchmark import benchmark_encoders
from speechbrain_ext.inference.experiments import load_encoder


def main() -> None:
    """Write the figures and print them."""
    parser = argparse.ArgumentParser(description="Measure trained systems side by side.")
    parser.add_argument(
        "experiments", nargs="+", type=Path, help="folders; the first is compared with"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--batch", type=int, default=8, help="utterances in a batch")
    parser.add_argument("--seconds_of_speech", type=float, default=2.0, help="of an utterance")
    parser.add_argument("--rounds", type=int, default=20, help="times each system is measured")
    parser.add_argument("--threads", type=int, help="of the CPU; PyTorch's choice by default")
    parser.add_argument("--device", help="cpu, cuda:0, ...; a GPU where there is one by default")
    args = parser.parse_args()
    for name in ("batch", "rounds", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} measures nothing: give 1 or more")
    # The front end reflects half a window at both ends.
    if args.seconds_of_speech < 0.1:
        seconds = args.seconds_of_speech
        raise UserError(f"--seconds_of_speech {seconds} is too short: give 0.1 or more")

    if args.threads:
        torch.set_num_threads(args.threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoders = {}
    for folder in args.experiments:
        name = str(read_setting(folder, "system"))
        encoders[name if name not in encoders else str(folder)] = load_encoder(folder)
    figures = benchmark_encoders(encoders, args.batch, args.seconds_of_speech, args.rounds, device)
    with atomic_path(args.out) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    Console().print(speed_table(figures))


def speed_table(figures: dict[str, Any]) -> Table:
    """The figures of :func:`benchmark_encoders` as a table for the terminal."""
    threads = f", {figures['threads']} threads" if figures["device"] == "cpu" else ""
    table = Table(
        title=f"{figures['device']}{threads}, FP32, batches of {figures['batch']} utterances of "
        f"{figures['seconds_of_speech']:g} s, median of {figures['rounds']} rounds"
    )
    table.add_column("system")
    columns = ["parameters", "GMACs", "network utt/s", "spread", "×", "with front end utt/s", "×"]
    for column in columns:
        table.add_column(column, justify="right")
    for system in figures["systems"]:
        whole = system["from_waveform"]
        table.add_row(
            system["name"],
            f"{system['parameters']:,}",
            f"{system['macs_per_utterance'] / 1e9:.3f}",
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
