"""Files of weights: read without running what they hold, and compared with a network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from speechbrain_ext.errors import UserError

# Under these names trainers keep the network beside the state of the optimiser and the like.
_NETWORK = ("model_state", "model_state_dict", "state_dict", "model")
# What training alone needs: the classifier of WeSpeaker, the loss of Resemblyzer.
_TRAINING = ("projection.", "similarity_")


def read_tensors(path: str | os.PathLike[str], said: str = "") -> dict[str, Tensor]:
    """Read a state dict; no code in the file is run.

    Arguments
    ---------
    path : str or path
        A ``.safetensors`` file, or what ``torch.save`` made of tensors by name, also where they
        stand beside other things under ``model_state``, ``state_dict`` or ``model``, or have the
        ``module.`` of DDP before their names.
    said : str
        What stands before the path in a refusal, such as the option that named it.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    UserError
        When the file is missing or holds something else.

    Example
    -------
    >>> path = getfixture("tmp_path") / "trained.pt"
    >>> torch.save({"step": 3, "model_state": {"module.weight": torch.ones(2)}}, path)
    >>> read_tensors(path)
    {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{said}{path}: there is no such file.", code="missing-file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(
            f"{said}{path} does not load as a file of tensors alone ({reason}): give one, as "
            "torch.save of a state_dict writes it",
            code="bad-weights",
        ) from None
    if isinstance(state, Mapping):
        state = next((state[key] for key in _NETWORK if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(
            f"{said}{path} is no state dict, tensors by name: give a file that holds one",
            code="bad-weights",
        )
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


def differences(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """How tensors differ from those of a network, each in words.

    Example
    -------
    >>> differences({"a": torch.ones(2)}, {"a": torch.ones(3), "b": torch.ones(1)})
    ['it has no b', 'a is [2] there and [3] here']
    """
    words = [f"it has no {name}" for name in own if name not in found]
    words += [f"it has a {name}" for name in found if name not in own]
    for name, value in found.items():
        if name in own and value.shape != own[name].shape:
            words.append(f"{name} is {list(value.shape)} there and {list(own[name].shape)} here")
    return words


def load_published(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Fill a network with the weights of a published checkpoint that uses its names.

    Each weight must be there and of the same shape. What training alone needs is left out: the
    classifier of WeSpeaker's checkpoints and the loss of Resemblyzer's.

    Arguments
    ---------
    network : Module
        A lobe whose names are those of the checkpoint, as
        :class:`~speechbrain_ext.lobes.cam_plus_plus.CAMPlusPlus`.
    path : str or path
        For :func:`read_tensors`.

    Raises
    ------
    UserError
        When the file cannot be read or is of another network.

    Example
    -------
    >>> path = getfixture("tmp_path") / "other.pt"
    >>> torch.save({"weight": torch.ones(2, 3)}, path)
    >>> load_published(nn.Linear(3, 4, bias=False), path)
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ...is of another Linear: weight is [2, 3] there and...
    """
    own = network.state_dict()
    found = {
        name: value
        for name, value in read_tensors(path).items()
        if name in own or not name.startswith(_TRAINING)
    }
    if different := differences(found, own):
        raise UserError(
            f"{path} is of another {type(network).__name__}: {different[0]} ({len(different)} "
            "differences in all): give the sizes that it was trained with as --key value, or "
            "another file (run.sh: --teacher_args '--key value')",
            code="other-network",
        )
    network.load_state_dict(found)
