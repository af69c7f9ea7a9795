"""Where networks are computed."""

from __future__ import annotations

import torch
from speechbrain.utils.distributed import infer_device

from speechbrain_ext.errors import UserError


def check_device(device: str | None) -> str:
    """The device given, or the best there is.

    Raises
    ------
    UserError
        When there is no such device.

    Example
    -------
    >>> check_device("cpu")
    'cpu'
    """
    device = device or infer_device()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA asserts that it has it
        reason = " ".join(str(error).split(".")[0].split())
        raise UserError(
            f"--device {device} cannot be used ({reason}): give another.", code="bad-device"
        ) from None
    return device
