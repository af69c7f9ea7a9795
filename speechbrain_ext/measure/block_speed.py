"""Time the blocks of students side by side, at their full size and with random weights.

    python -m speechbrain_ext.measure.block_speed --out blocks.json \\
        hparams/ssl/sv_mixer_wavlm_large.yaml hparams/ssl/transformer_wavlm_large.yaml

A block alone, without front end and back end, which all of these students share: what a design of
blocks costs in itself. Speeds are relative to those of the last file.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml
from rich.table import Table
from torch import nn

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import atomic_path
from speechbrain_ext.measure.speed import count_macs, time_side_by_side
from speechbrain_ext.systems.yaml import resolve_hparams
from speechbrain_ext.terminal import print_table

FRAMES_A_SECOND = 50  # of WavLM, HuBERT and wav2vec 2.0, and one fewer in all


def load_block(path: Path) -> tuple[str, nn.Module, int]:
    """A system's name, a block of it with random weights, and its channels."""
    yaml = ruamel.yaml.YAML()
    tree = yaml.load(resolve_hparams(path))
    if "block" not in tree or "hidden_size" not in tree:
        raise UserError(
            f"{path} has no block and hidden_size: give students of hparams/ssl",
            code="wrong-system",
        )
    part = io.StringIO()
    yaml.dump({"block": tree["block"]}, part)
    channels = int(tree["hidden_size"])
    return str(tree["system"]), load_hyperpyyaml(part.getvalue())["block"](channels), channels


def time_blocks(paths: list[Path], shapes: list[tuple[int, float]], rounds: int) -> dict[str, Any]:
    """The cost of every system's block for batches of (utterances, seconds)."""
    blocks: dict[str, tuple[nn.Module, int]] = {}
    for path in paths:
        name, block, channels = load_block(path)
        if name in blocks:
            raise UserError(
                f"{path} has the system {name} of a file before it: rename one",
                code="repeated-name",
            )
        blocks[name] = block.eval(), channels
    systems: dict[str, dict[str, Any]] = {
        name: {
            "name": name,
            "channels": channels,
            "parameters": sum(parameter.numel() for parameter in block.parameters()),
            "macs_per_utterance": [],
            "seconds_per_utterance": [],
            "spread": [],
        }
        for name, (block, channels) in blocks.items()
    }
    for utterances, seconds in shapes:
        frames = round(FRAMES_A_SECOND * seconds) - 1
        work = {}
        with torch.inference_mode():
            for name, (block, channels) in blocks.items():
                x = torch.randn(utterances, frames, channels)
                macs = count_macs(block, x[:1].clone(), attention_products=True)
                systems[name]["macs_per_utterance"].append(macs)
                work[name] = partial(block, x)
            for name, times in time_side_by_side(work, rounds, torch.device("cpu")).items():
                each = [time / utterances for time in times]
                systems[name]["seconds_per_utterance"].append(statistics.median(each))
                systems[name]["spread"].append([min(each), max(each)])
    return {
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "shapes": [list(shape) for shape in shapes],
        "systems": list(systems.values()),
    }


def tables_of(figures: dict[str, Any]) -> Iterator[Table]:
    """The figures for the terminal, a table for every shape."""
    for index, (utterances, seconds) in enumerate(figures["shapes"]):
        threads = figures["threads"]
        title = f"{utterances} × {seconds:g} s, an utterance, CPU, {threads} threads, FP32"
        table = Table(title=title)
        table.add_column("block of")
        for heading in ("channels", "parameters", "GMACs", "ms", "ratio"):
            table.add_column(heading, justify="right")
        base = figures["systems"][-1]["seconds_per_utterance"][index]
        for system in figures["systems"]:
            own = system["seconds_per_utterance"][index]
            table.add_row(
                system["name"],
                str(system["channels"]),
                f"{system['parameters']:,}",
                f"{system['macs_per_utterance'][index] / 1e9:.3f}",
                f"{1000 * own:.2f}",
                f"{base / own:.2f}",
            )
        yield table


def _shape(text: str) -> tuple[int, float]:
    utterances, _, seconds = text.partition("x")
    shape = int(utterances), float(seconds)
    if shape[0] < 1 or not 0.1 <= shape[1] <= 3600:
        raise ValueError(text)
    return shape


def _main() -> None:
    """Write the figures and print them."""
    parser = argparse.ArgumentParser(description="Time blocks of students side by side.")
    parser.add_argument("yamls", nargs="+", type=Path, help="of students in hparams/ssl")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=_shape,
        default=[(8, 3.0), (1, 3.0), (1, 60.0)],
        metavar="UTTERANCESxSECONDS",
        help="batches; 8x3 1x3 1x60 by default",
    )
    parser.add_argument("--rounds", type=int, default=10, help="times each block is measured")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    args = parser.parse_args()
    for name in ("rounds", "threads"):
        if getattr(args, name) < 1:
            raise UserError(
                f"--{name} {getattr(args, name)} measures nothing: give 1 or more",
                code="bad-option",
            )
    if args.out.is_dir():
        raise UserError(f"--out {args.out} is a folder: give the name of a file", code="bad-option")
    torch.set_num_threads(args.threads)
    figures = time_blocks(args.yamls, args.shapes, args.rounds)
    with atomic_path(args.out) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for table in tables_of(figures):
        print_table(table)


if __name__ == "__main__":
    with friendly_exit():
        _main()
