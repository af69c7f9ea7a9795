"""The processes that torchrun starts go on together, and end together."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

from speechbrain_ext.errors import UserError, brought_by, system_sentence

with brought_by("train"):
    import torch
    from speechbrain.utils.distributed import (
        ddp_broadcast,
        ddp_init_group,
        get_local_rank,
        if_main_process,
    )

Found = TypeVar("Found")


def join_processes(device: str, backend: str | None = None) -> None:
    """Join the other processes that torchrun started; without torchrun, do nothing.

    Arguments
    ---------
    device : str
        Where this process computes.
    backend : str, optional
        Of ``torch.distributed``; by default the one for the device.

    Raises
    ------
    UserError
        When this process has no GPU for itself.
    """
    backend = backend or ("gloo" if device == "cpu" else "nccl")
    try:
        ddp_init_group({"distributed_backend": backend, "device": device})
    except ValueError:
        raise UserError(
            f"process {get_local_rank()} has no GPU, of which there are "
            f"{torch.cuda.device_count()} here: start one process for each, or all of them with "
            "--device cpu (trainings with --distributed_backend gloo as well)",
            code="gpu-count",
        ) from None


def first_decides(decide: Callable[[], Found]) -> Found:
    """Do in the first process what must be done once; the others wait, and leave if it is refused.

    Arguments
    ---------
    decide : callable
        Called in the first process alone.

    Returns
    -------
    anything
        What ``decide`` returned, in every process.

    Raises
    ------
    UserError
        In every process, with what ``decide`` was refused for.
    """
    outcome: Found | UserError | None = None
    if if_main_process():
        try:
            outcome = decide()
        except UserError as error:
            outcome = error
        except OSError as error:
            outcome = UserError(system_sentence(error) or str(error), code="system-error")
    outcome = ddp_broadcast(outcome)
    if isinstance(outcome, UserError):
        leave_together()
        raise outcome
    return outcome


def leave_together() -> None:
    """Wait for the other processes, then leave their group; without torchrun, do nothing.

    A process that ends while another still talks to it, or with a DDP module that still holds the
    group, is aborted by its communication threads. Call this when no DDP module is in use any more.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
