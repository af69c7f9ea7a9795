"""What the classes of a system's YAML must have made before a training can begin."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import TrainLogger
from torch import nn

from local.augmentation import Augmentation
from local.data import CropReader
from local.settings import Rule

KEPT = ("embedding_model", "classifier", "counter")  # in every checkpoint
NETWORKS = ("compute_features", "mean_var_norm", "embedding_model", "classifier")


def _is_network(x: Any) -> bool:
    return isinstance(x, nn.Module)


def _are_networks(x: Any) -> bool:
    return isinstance(x, Mapping) and all(map(_is_network, x.values())) and x.keys() >= {*NETWORKS}


def _made(kind: type) -> Rule:
    return Rule(lambda x: isinstance(x, kind), f"a {kind.__name__}, made by !new:")


def _called_with(count: int) -> Rule:
    def binds(x: Any) -> bool:
        try:
            inspect.signature(x).bind(*range(count))
        except (TypeError, ValueError):  # not callable, or with other arguments
            return False
        return True

    return Rule(binds, f"callable with {count} argument{'s' * (count > 1)}, as by !name:")


#: For :func:`local.settings.check_settings`, with what was made of a YAML.
PARTS: dict[str, Rule] = {
    **dict.fromkeys(NETWORKS, Rule(_is_network, "a network, made by !new:")),
    "modules": Rule(_are_networks, f"a mapping of networks, {', '.join(NETWORKS)} among them"),
    "objective": _made(nn.Module),
    "classifier_start": Rule(
        lambda x: x is None or hasattr(x, "weights"), "null or first weights, made by !new:"
    ),
    "teacher": Rule(lambda x: x is None or _is_network(x), "null or a teacher, made by !new:"),
    "opt_class": _called_with(1),  # the parameters
    "compute_cost": _called_with(2),  # logits and labels
    "lr_annealing": Rule(callable, "callable"),
    "anneal": _called_with(4),  # the scheduler, the optimizer, the epoch, its EER
    "augmentation": _made(Augmentation),
    "crop_reader": _made(CropReader),
    "checkpointer": Rule(
        lambda x: isinstance(x, Checkpointer) and x.recoverables.keys() >= {*KEPT},
        f"a Checkpointer of {', '.join(KEPT)}, made by !new:",
    ),
    "epoch_counter": _made(EpochCounter),
    "train_logger": _made(TrainLogger),
}
