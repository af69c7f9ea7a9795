"""The processes that torchrun starts end together."""

from __future__ import annotations

import gc

import torch


def leave_together() -> None:
    """Wait for the other processes, then leave their group; without torchrun, do nothing.

    A process that ends while another still talks to it, or with a DDP module that still holds the
    group, is aborted by its communication threads. Call this when no DDP module is in use any more.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
