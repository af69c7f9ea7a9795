"""What the plain settings of a system's YAML may be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from speechbrain_ext.errors import UserError


class Rule(NamedTuple):
    """Whether a value will do, and in words what will."""

    holds: Callable[[Any], bool]
    words: str


def _whole(least: int) -> Rule:
    def whole(x: Any) -> bool:
        return isinstance(x, int) and not isinstance(x, bool) and x >= least

    return Rule(whole, f"a whole number, {least} or more")


def _number(holds: Callable[[float], bool], words: str) -> Rule:
    def finite(x: Any) -> bool:
        number = isinstance(x, (int, float)) and not isinstance(x, bool)
        return number and math.isfinite(x) and holds(x)

    return Rule(finite, words)


def _one_of(*values: Any) -> Rule:
    return Rule(lambda x: x in values, " or ".join(map(str, values)))


def _is_name(x: Any) -> bool:
    return isinstance(x, str) and bool(re.fullmatch(r"[^/.\-\s][^/\x00-\x1f]*", x))


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("corpus", "system"),
        Rule(_is_name, "a name for a folder: no slash in it, and neither . nor - first"),
    ),
    **dict.fromkeys(("num_workers", "seed"), _whole(0)),
    **dict.fromkeys(
        (
            "average_checkpoints",
            "batch_size",
            "bottleneck_size",
            "conv_channels",
            "crops_per_utterance",
            "expansion",
            "feed_forward_size",
            "front_lstm_size",
            "grad_accumulation_factor",
            "groups",
            "hidden_size",
            "keep_checkpoints",
            "latent_size",
            "lin_neurons",
            "lstm_size",
            "n_mels",
            "num_blocks",
            "num_heads",
            "num_tokens",
            "number_of_epochs",
            "patience",
            "sinc_stride",
            "stop_after",
        ),
        _whole(1),
    ),
    **dict.fromkeys(
        (
            "crop_seconds",
            "lr",
            "lr_decay",
            "max_batch_seconds",
            "max_grad_norm",
            "scale",
            "temperature",
        ),
        _number(lambda x: x > 0, "a number above 0"),
    ),
    **dict.fromkeys(
        (
            "ckpt_interval_minutes",
            "margin",
            "max_unreadable",
            "min_distillation_share",
            "mixup",
            "reconstruction_weight",
            "weight_decay",
        ),
        _number(lambda x: x >= 0, "a number, 0 or more"),
    ),
    **dict.fromkeys(
        ("conv_dropout", "dropout", "lstm_dropout"),
        _number(lambda x: 0 <= x < 1, "a number from 0 to below 1"),
    ),
    **dict.fromkeys(
        (
            "conv_bias",
            "conv_layer_norm",
            "drop_last",
            "freeze_classifier",
            "normalize_wav",
            "offline",
            "skip_nonfinite_grads",
            "spec_augment",
            "train_front_end",
        ),
        Rule(lambda x: isinstance(x, bool), "True or False"),
    ),
    "precision": _one_of("fp32", "fp16", "bf16"),
    **dict.fromkeys(
        ("corpus_dir", "output_folder", "save_folder", "train_csv", "valid_csv", "valid_trials"),
        Rule(lambda x: isinstance(x, str) and x != "", "a path"),
    ),
}


# Keys that hold text whatever a file has there: a path or a name, null or a reference to one.
TEXT = re.compile(r"corpus|start_from|system|\w+_(cache|csv|dir|file|folder|root|source|trials)")
_TEXT = Rule(lambda x: not isinstance(x, (bool, int, float)), "null or text: put it in quotes")


def holds_text(key: str, defaults: Sequence[Any]) -> bool:
    """Whether the value of a key is text, so that ``1.10``, ``a: b`` and ``yes`` are just that.

    Arguments
    ---------
    key : str
        The key.
    defaults : sequence
        What a file, the one it builds on and so on have there, as ruamel.yaml reads them.

    Returns
    -------
    bool
        True for the path of a file or folder, for a name, and where the files have only text.

    Example
    -------
    >>> holds_text("noise_folder", [None]), holds_text("precision", ["fp32"])
    (True, True)
    >>> holds_text("alpha", ["auto", 0.7])
    False
    """
    return bool(TEXT.fullmatch(key)) or all(isinstance(value, str) for value in defaults)


def check_settings(
    path: object, settings: Mapping[str, Any], rules: Mapping[str, Rule] = RULES
) -> None:
    """Refuse a value with which training would fail, or mislead, later.

    Arguments
    ---------
    path : path
        The YAML file, for the message.
    settings : mapping
        Its values, with those of the command line.
    rules : mapping
        Whether a key's value will do; others may have any, but text where they hold text.

    Raises
    ------
    UserError
        Naming the key, its value and what will do.

    Example
    -------
    >>> check_settings("v2.yaml", {"batch_size": 64, "lr": 0.001})
    >>> check_settings("v2.yaml", {"lr": "fast"})
    Traceback (most recent call last):
    speechbrain_ext.errors.UserError: v2.yaml: lr is 'fast', and must be a number above 0
    """
    texts = {key: _TEXT for key in settings if TEXT.fullmatch(key)}
    for key, rule in (texts | dict(rules)).items():
        if key in settings and not rule.holds(value := settings[key]):
            shown = repr(value)
            if not isinstance(value, str) and (len(shown) > 60 or "\n" in shown):
                shown = f"a {type(value).__name__}"
            raise UserError(f"{path}: {key} is {shown}, and must be {rule.words}")
