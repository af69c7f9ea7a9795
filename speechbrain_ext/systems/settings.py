"""What the keys of a system's YAML may be, and which of them a training reads.

A setting has its rule here, whether it is a plain value or what a class made: a number is checked
before anything is made, an object after.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from speechbrain_ext.errors import UserError


class Rule(NamedTuple):
    """Whether a value will do, and in words what will."""

    holds: Callable[[Any], bool]
    words: str


class Keys(NamedTuple):
    """The keys that a training reads itself, besides those that other keys refer to.

    Arguments
    ---------
    needed : frozenset of str
        Those that a YAML must have.
    known : frozenset of str
        Those that it may have.
    """

    needed: frozenset[str]
    known: frozenset[str]


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


def _is(x: Any, kind: str) -> bool:
    """Whether something is of a class of this name, which a library or a room further up has."""
    return any(each.__name__ == kind for each in type(x).__mro__)


def _made(kind: str) -> Rule:
    return Rule(lambda x: _is(x, kind), f"a {kind}, made by !new:")


def _is_network(x: Any) -> bool:
    return _is(x, "Module") and hasattr(x, "state_dict")


def _is_classifier(x: Any) -> bool:
    return x is None or _is_network(x)


def _are_networks(x: Any) -> bool:
    if not isinstance(x, Mapping) or not x.keys() >= {*NETWORKS}:
        return False
    others = [value for key, value in x.items() if key != "classifier"]
    return all(map(_is_network, others)) and _is_classifier(x["classifier"])


def _are_odd(x: Any) -> bool:
    return isinstance(x, list) and x != [] and all(COUNT.holds(size) and size % 2 for size in x)


def _called_with(count: int) -> Rule:
    def binds(x: Any) -> bool:
        try:
            inspect.signature(x).bind(*range(count))
        except (TypeError, ValueError):  # not callable, or with other arguments
            return False
        return True

    return Rule(binds, f"callable with {count} argument{'s' * (count > 1)}, as by !name:")


KEPT = ("embedding_model", "classifier", "counter")  # in every checkpoint
NETWORKS = ("compute_features", "mean_var_norm", "embedding_model", "classifier")
ANYTHING = Rule(lambda x: True, "anything")  # what reads it says more
NAME = Rule(_is_name, "a name for a folder: no slash in it, and neither . nor - first")
PATH = Rule(lambda x: isinstance(x, str) and x != "", "a path")
SWITCH = Rule(lambda x: isinstance(x, bool), "True or False")
CLASS = Rule(callable, "a class, by !name:")
CLASS_OR_NONE = Rule(lambda x: x is None or callable(x), "null or a class, by !name:")
COUNT = _whole(1)
POSITIVE = _number(lambda x: x > 0, "a number above 0")
NOT_NEGATIVE = _number(lambda x: x >= 0, "a number, 0 or more")
SHARE = _number(lambda x: 0 <= x < 1, "a number from 0 to below 1")
PROBABILITY = _number(lambda x: 0 <= x <= 1, "a number from 0 to 1")

#: What every training reads.
TRAINING: dict[str, Rule] = {
    "seed": _whole(0),
    "system": NAME,
    "output_folder": PATH,
    "save_folder": PATH,
    "train_csv": PATH,
    "valid_csv": PATH,
    "valid_trials": PATH,
    "speeds": ANYTHING,
    "crop_reader": _made("CropReader"),
    "crops_per_utterance": COUNT,
    "batch_size": COUNT,
    "drop_last": SWITCH,
    "num_workers": _whole(0),
    "max_batch_seconds": POSITIVE,
    "max_unreadable": NOT_NEGATIVE,
    "augmentation": _made("Augmentation"),
    "start_from": ANYTHING,
    "num_speakers": ANYTHING,
    **dict.fromkeys(NETWORKS, Rule(_is_network, "a network, made by !new:")),
    "classifier": Rule(_is_classifier, "a network, made by !new:, or null"),
    "modules": Rule(_are_networks, f"a mapping of networks, {', '.join(NETWORKS)} among them"),
    "compute_cost": _called_with(2),  # logits and labels
    "opt_class": _called_with(1),  # the parameters
    "lr_annealing": Rule(callable, "callable"),
    "epoch_counter": _made("EpochCounter"),
    "checkpointer": Rule(
        lambda x: _is(x, "Checkpointer") and x.recoverables.keys() >= {*KEPT},
        f"a Checkpointer of {', '.join(KEPT)}, made by !new:",
    ),
    "keep_checkpoints": COUNT,
    "average_checkpoints": COUNT,
    "train_logger": _made("TrainLogger"),
}
#: What a training with a teacher reads besides.
DISTILLATION: dict[str, Rule] = {
    "teacher": Rule(lambda x: x is None or _is_network(x), "null or a teacher, made by !new:"),
    "teacher_hears": ANYTHING,
    "objective": _made("Module"),
    "classifier_start": Rule(
        lambda x: x is None or hasattr(x, "weights"), "null or first weights, made by !new:"
    ),
    "freeze_classifier": SWITCH,
    "min_distillation_share": NOT_NEGATIVE,
}
#: What trainings read where a file has it.
OPTIONAL: dict[str, Rule] = {
    "anneal": _called_with(4),  # the scheduler, the optimizer, the epoch, its EER or the like
    "reconstruction_weight": NOT_NEGATIVE,
    "teacher_folder": ANYTHING,  # run.sh gives it to every student of the mel path
    "front_end_start": ANYTHING,
    "anchors": Rule(lambda x: hasattr(x, "vectors"), "a teacher's Anchors, made by !new:"),
    "teacher_classifier": Rule(
        lambda x: hasattr(x, "weights"), "the teacher's rows of the speakers, made by !new:"
    ),
}
#: What classes are made of.
ARGUMENTS: dict[str, Rule] = {
    "corpus": NAME,
    "corpus_dir": PATH,
    **dict.fromkeys(
        (
            "bottleneck_size",
            "conv_channels",
            "feed_forward_size",
            "front_lstm_size",
            "grad_accumulation_factor",
            "groups",
            "hidden_size",
            "latent_size",
            "lin_neurons",
            "lstm_size",
            "most_anchors",
            "n_mels",
            "num_blocks",
            "num_heads",
            "num_tokens",
            "number_of_epochs",
            "patience",
            "sinc_stride",
            "stop_after",
            "sub_centers",
            "subsampling",
            "top_k",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        (
            "anchor_temperature",
            "cache_hop",
            "contrast_temperature",
            "crop_seconds",
            "cycle_epochs",
            "expansion",
            "label_temperature",
            "lr",
            "lr_decay",
            "max_grad_norm",
            "scale",
            "temperature",
        ),
        POSITIVE,
    ),
    **dict.fromkeys(
        (
            "ckpt_interval_minutes",
            "lowest_lr",
            "margin",
            "margin_start",
            "margin_stop",
            "mixup",
            "non_target_weight",
            "penalty",
            "warmup_epochs",
            "weight_decay",
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        ("band_limit_probability", "codec_probability", "gain_probability"), PROBABILITY
    ),
    "term_weights": Rule(
        lambda x: x is None or (isinstance(x, Mapping) and all(map(POSITIVE.holds, x.values()))),
        "positive numbers by the names of terms, such as {contrast: 0.5}",
    ),
    "front_ends": Rule(
        lambda x: x is None or (isinstance(x, list) and all(map(_is_network, x))),
        "null or a list of front ends, each made by !new:",
    ),
    "noise_probability": Rule(
        lambda x: x is None or PROBABILITY.holds(x), f"null or {PROBABILITY.words}"
    ),
    **dict.fromkeys(("conv_dropout", "dropout", "lstm_dropout"), SHARE),
    **dict.fromkeys(
        (
            "conv_bias",
            "conv_layer_norm",
            "normalize_wav",
            "offline",
            "skip_nonfinite_grads",
            "spec_augment",
            "train_front_end",
        ),
        SWITCH,
    ),
    **dict.fromkeys(("back_end", "block", "output_layer", "pooling", "token_mixing"), CLASS),
    **dict.fromkeys(("aggregation", "input_layer"), CLASS_OR_NONE),
    "kernel_sizes": Rule(_are_odd, "a list of odd numbers, such as [3, 7, 15]"),
    "precision": _one_of("fp32", "fp16", "bf16"),
    "teacher_precision": _one_of("fp32", "bf16"),
    "teacher_layers": Rule(
        lambda x: x is None or isinstance(x, list), "null or a list of layers, such as [24]"
    ),
}
RULES = {**TRAINING, **DISTILLATION, **OPTIONAL, **ARGUMENTS}

TEACHER = Keys(frozenset(TRAINING), frozenset({*TRAINING, "anneal", "reconstruction_weight"}))
STUDENT = Keys(
    frozenset({*TRAINING, *DISTILLATION}),
    frozenset({*TRAINING, *DISTILLATION, "anneal", "teacher_folder", "front_end_start"}),
)

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


def check_settings(path: object, settings: Mapping[str, Any]) -> None:
    """Refuse a value with which training would fail, or mislead, later.

    Arguments
    ---------
    path : path
        The YAML file, for the message.
    settings : mapping
        Its values, with those of the command line: a YAML tree, of which nothing has been made and
        what is to be made is let pass, or what was made of it.

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
    for key, value in settings.items():
        if _to_be_made(value):
            continue
        for rule in (_TEXT if TEXT.fullmatch(key) else ANYTHING, RULES.get(key, ANYTHING)):
            if not rule.holds(value):
                shown = repr(value)
                if not isinstance(value, str) and (len(shown) > 60 or "\n" in shown):
                    shown = "a dict" if isinstance(value, dict) else f"a {type(value).__name__}"
                raise UserError(
                    f"{path}: {key} is {shown}, and must be {rule.words}", code="bad-setting"
                )


def _to_be_made(node: Any) -> bool:
    """Whether a YAML tree has a tag somewhere, such as ``!new:``."""
    if getattr(getattr(node, "tag", None), "value", None):
        return True
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return any(map(_to_be_made, children))
