#!/usr/bin/env python3
"""Bring a checkpoint of voxceleb_trainer along as a trained experiment.

    python local/import_voxceleb_trainer.py model000000012.model hparams/teacher.yaml \\
        --out exp/voxceleb/teacher/seed_1 [--lin_neurons 512 --key value ...]

The YAML says which network the checkpoint is of. The classifier of the checkpoint is left out: the
order of its speakers is not in the file.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hyperpyyaml import load_hyperpyyaml
from torch import Tensor, nn

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from speechbrain_ext.systems.command_line import read_command_line
from speechbrain_ext.systems.experiment import encoder_part, save_weights
from speechbrain_ext.systems.weights import read_tensors
from speechbrain_ext.systems.yaml import resolve_hparams
from speechbrain_ext.training.identity import claim_experiment

Rule = tuple[str, str]
# Our name -> the published one, as regular expressions tried in order.
MIXER: list[Rule] = [
    (r"front_conv\.(.*)", r"frontend.0.\1"),
    (r"front_norm\.norm\.(.*)", r"frontend.1.\1"),
    (r"blocks\.(\d+)\.id_conv\.weight", r"mixer_blocks.\1.id_conv.conv.weight"),
    (r"blocks\.(\d+)\.id_conv\.norm\.norm\.(.*)", r"mixer_blocks.\1.id_conv.bn.\2"),
    (r"blocks\.(.*)", r"mixer_blocks.\1"),
    (r"norm\.(.*)", r"encoder_norm.\1"),
    (r"fc_norm\.(.*)", r"bn.\1"),
]
# A published layer is convolution, norm, ReLU and dropout: every fourth entry is a convolution.
LSTM_AUTOENCODER: list[Rule] = [
    *[
        rule
        for layer in range(3)
        for rule in (
            (rf"(..coder)\.convs\.{layer}\.(.*)", rf"autoencoder.\1.{4 * layer}.\2"),
            (rf"(..coder)\.norms\.{layer}\.norm\.(.*)", rf"autoencoder.\1.{4 * layer + 1}.\2"),
        )
    ],
    (r"lstm\.forwards\.(\d+)\.(.*)_l0", r"lstm_encoder.lstm.\2_l\1"),
    (r"lstm\.backwards\.(\d+)\.(.*)_l0", r"lstm_encoder.lstm.\2_l\1_reverse"),
    (r"norm\.(.*)", r"lstm_encoder.layer_norm.\1"),
    (r"fc_norm\.(.*)", r"bn.\1"),
]


class Checkpoint(NamedTuple):
    """What a checkpoint holds, by published name without prefix."""

    network: dict[str, Tensor]
    has_classifier: bool


def main() -> None:
    """Write the experiment folder."""
    parser = argparse.ArgumentParser(
        description="Bring a checkpoint of voxceleb_trainer along as a trained experiment.",
        epilog="Further options, --key value, override keys of the YAML.",
    )
    parser.add_argument("checkpoint", type=Path, help="the trainer's .model file")
    parser.add_argument("hparams", type=Path, help="YAML of the network, hparams/teacher.yaml say")
    parser.add_argument("--out", type=Path, required=True, help="experiment folder to write")
    args, rest = parser.parse_known_args()

    line = read_command_line([str(args.hparams), *rest])
    resolved = resolve_hparams(args.hparams, {"output_folder": str(args.out), **line.overrides})
    try:
        model = load_hyperpyyaml(encoder_part(resolved, args.hparams))["embedding_model"]
    except ValueError as error:
        raise UserError(f"{args.hparams}: {error}", code="bad-setting") from None
    checkpoint = read_checkpoint(args.checkpoint)
    load_published(model, checkpoint.network, args.checkpoint)
    claim_experiment(args.out, resolved, {})
    save_weights(args.out, model, {"imported_from": args.checkpoint.name})
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{type(model).__name__} with {count:,} parameters imported into {args.out}")
    if checkpoint.has_classifier:
        print("The classifier of the checkpoint was left out: its speakers have no names.")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a state dict of voxceleb_trainer; no code in the file is run.

    Arguments
    ---------
    path : Path
        The file. Its keys may start with ``__S__.``, ``module.__S__.``, ``module.`` or nothing.

    Returns
    -------
    Checkpoint
        Without the front end (``torchfb``), which holds nothing that is learnt.

    Raises
    ------
    UserError
        When the file is missing or is no state dict.
    """
    network: dict[str, Tensor] = {}
    has_classifier = False
    for name, value in read_tensors(path).items():
        if name.startswith("__L__."):
            has_classifier = True
            continue
        name = name.removeprefix("__S__.")
        if name in network:
            raise UserError(
                f"{path} has '{name}' twice, with different prefixes: keep one network",
                code="repeated-name",
            )
        if name.endswith(".flipped_filter"):
            print(f"warning: {path} was trained with pre-emphasis, which our front end has not")
        if not name.startswith("torchfb."):
            network[name] = value
    return Checkpoint(network, has_classifier)


def load_published(model: nn.Module, network: Mapping[str, Tensor], path: Path) -> None:
    """Fill a lobe with the weights of its published form.

    Arguments
    ---------
    model : Module
        An :class:`MLPMixer` or :class:`LSTMAutoencoder`.
    network : mapping
        Weights by published name.
    path : Path
        Where they come from, for the messages.

    Raises
    ------
    UserError
        When a weight is missing, left over or of another shape than the network's.
    """
    rules = {MLPMixer: MIXER, LSTMAutoencoder: LSTM_AUTOENCODER}.get(type(model))
    if rules is None:
        raise UserError(
            f"{type(model).__name__} has no published form in voxceleb_trainer: choose the YAML of "
            "an LSTMAutoencoder or an MLPMixer",
            code="wrong-system",
        )
    wanted = {published_name(name, rules): name for name in model.state_dict()}
    for trouble, keys in (
        ("lacks", [name for name in wanted if name not in network]),
        ("has, which the network has not,", [name for name in network if name not in wanted]),
    ):
        if keys:
            raise UserError(
                f"{path} {trouble} {_some(keys)}: choose the YAML of the network that it is of",
                code="other-network",
            )
    state = model.state_dict()
    wrong = []
    for published, name in wanted.items():
        value = _reshape(network[published], name)
        if value.shape != state[name].shape:
            found, expected = list(network[published].shape), list(state[name].shape)
            wrong.append(f"{published} (is {found}, becomes {expected})")
        state[name] = value
    if wrong:
        raise UserError(
            f"{path} has other sizes than the YAML in {_some(wrong)}: give the sizes that it was "
            "trained with as --key value",
            code="other-network",
        )
    model.load_state_dict(state)


def published_name(name: str, rules: list[Rule]) -> str:
    """The published name of one of our weights.

    Example
    -------
    >>> published_name("lstm.backwards.1.weight_ih_l0", LSTM_AUTOENCODER)
    'lstm_encoder.lstm.weight_ih_l1_reverse'
    """
    for ours, published in rules:
        if match := re.fullmatch(ours, name):
            return match.expand(published)
    return name


def _reshape(value: Tensor, name: str) -> Tensor:
    """A published weight in our layout: channels last needs no convolution of width 1."""
    if name.endswith("id_conv.weight"):
        return value.squeeze(1).t()
    return value.squeeze(2) if value.dim() == 3 and value.shape[2] == 1 else value


def _some(keys: list[str], count: int = 5) -> str:
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(keys[:count]) + more


if __name__ == "__main__":
    with friendly_exit():
        main()
