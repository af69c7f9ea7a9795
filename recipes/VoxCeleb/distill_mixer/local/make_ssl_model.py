#!/usr/bin/env python3
"""Folders of self-supervised Transformers: a new one to train, or what a training made of one.

    python local/make_ssl_model.py new data/wavlm_new --hidden_size 256 --num_layers 6
    python local/make_ssl_model.py save exp/mini/wavlm_finetuned/seed_1 data/wavlm_finetuned

Both write what `teacher_source` takes: config.json, model.safetensors and preprocessor_config.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import replaced_folder
from speechbrain_ext.lobes.ssl_encoder import SSLEncoder
from speechbrain_ext.lobes.ssl_loading import require_transformers
from speechbrain_ext.systems.experiment import load_encoder


def new_model(
    folder: Path, hidden_size: int, num_layers: int, conv_channels: int, seed: int
) -> int:
    """Write a WavLM of a size, built as WavLM-Large is, with random weights; its parameters."""
    require_transformers()
    from transformers import WavLMConfig, WavLMModel

    if hidden_size < 1 or hidden_size % 64:
        raise UserError(
            f"--hidden_size {hidden_size} is not a multiple of 64, the size of a head",
            code="bad-option",
        )
    if num_layers < 1 or conv_channels < 1:
        sizes = f"--num_layers {num_layers} --conv_channels {conv_channels}"
        raise UserError(f"{sizes}: give 1 or more of each", code="bad-option")
    _check_new(folder)
    torch.manual_seed(seed)
    model = WavLMModel(
        WavLMConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=hidden_size // 64,
            intermediate_size=4 * hidden_size,
            conv_dim=[conv_channels] * 7,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            conv_bias=False,
        )
    )
    with replaced_folder(folder) as draft:
        _save(model, True, draft)
    return sum(parameter.numel() for parameter in model.parameters())


def save_model(experiment: Path, folder: Path) -> int:
    """Write the Transformer that an experiment fine-tuned; its parameters."""
    _check_new(folder)
    encoder = load_encoder(experiment).embedding_model
    if not isinstance(encoder, SSLEncoder):
        raise UserError(
            f"{experiment} trained a {type(encoder).__name__}, which is no self-supervised "
            "Transformer: give an experiment of hparams/ssl/wavlm_finetuned.yaml",
            code="wrong-system",
        )
    if isinstance(encoder.model.encoder.layer_norm, nn.Identity):
        raise UserError(
            f"{experiment} trained the first {encoder.chosen[-1]} layers alone, and a folder holds "
            "a whole model: train with teacher_layers null",
            code="wrong-system",
        )
    with replaced_folder(folder) as draft:
        _save(encoder.model, encoder.normalize, draft)
    return sum(parameter.numel() for parameter in encoder.model.parameters())


def _save(model: Any, normalize: bool, folder: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    for path in folder.iterdir():  # weights are written for their owner alone
        path.chmod((folder / "config.json").stat().st_mode)


def _check_new(folder: Path) -> None:
    if folder.exists():
        raise UserError(
            f"{folder} is there: choose another folder, or remove it", code="already-there"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write a self-supervised Transformer.")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="a WavLM with random weights")
    new.add_argument("folder", type=Path, help="folder to write")
    new.add_argument("--hidden_size", type=int, default=256, help="of the Transformer")
    new.add_argument("--num_layers", type=int, default=6, help="of the Transformer")
    new.add_argument("--conv_channels", type=int, default=128, help="of the convolutions before it")
    new.add_argument("--seed", type=int, default=1, help="of the weights")
    save = commands.add_parser("save", help="what an experiment fine-tuned; its YAML is executed")
    save.add_argument("experiment", type=Path, help="folder of a finished training")
    save.add_argument("folder", type=Path, help="folder to write")
    args = parser.parse_args()
    if args.command == "new":
        sizes = args.hidden_size, args.num_layers, args.conv_channels
        parameters = new_model(args.folder, *sizes, args.seed)
    else:
        parameters = save_model(args.experiment, args.folder)
    print(f"{args.folder}: {parameters:,} parameters")


if __name__ == "__main__":
    with friendly_exit():
        main()
