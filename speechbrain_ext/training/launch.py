"""Start a script in several processes, one a GPU.

    python -m speechbrain_ext.training.launch 2 train_teacher.py TEACHER.yaml --key value ...

is ``torchrun --standalone --nproc_per_node 2``, and what a user is told is told once, by itself.
"""

from __future__ import annotations

import logging
import os
import sys

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from speechbrain_ext.errors import UserError, friendly_exit


def launch(count: int, command: list[str]) -> None:
    """Run a command in so many processes to its end.

    Arguments
    ---------
    count : int
        Processes.
    command : list of str
        A script and its arguments.

    Raises
    ------
    UserError
        When there are fewer GPUs, and with the sentence of the first process that failed.
    """
    gpus = torch.cuda.device_count()
    if count > gpus and not _on_cpu(command):
        raise UserError(
            f"--ngpu {count} is one process for each of {count} GPUs, and there "
            f"{'is' if gpus == 1 else 'are'} {gpus} here: give --ngpu {gpus}",
            code="gpu-count",
        )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, with ten lines of warning
    try:
        run(parse_args(["--standalone", f"--nproc_per_node={count}", *command]))
    except ChildFailedError as error:
        # A process that says why, rather than one that was only waiting for it.
        failures = error.failures
        rank = min(failures, key=lambda i: (not isinstance(failures[i].message, dict), i))
        message, status = failures[rank].message, failures[rank].exitcode
        if isinstance(message, dict):
            code = message["extraInfo"].get("code", "failed-process")
            raise UserError(message["message"], code=code) from None
        why = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise UserError(
            f"process {rank} of {command[0]} {why}: see above", code="failed-process"
        ) from None
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from None


def _on_cpu(command: list[str]) -> bool:
    words = " ".join(command).replace("--device=", "--device ")
    return "--device cpu" in words or os.environ.get("CUDA_VISIBLE_DEVICES") == ""


if __name__ == "__main__":
    with friendly_exit():
        launch(int(sys.argv[1]), sys.argv[2:])
