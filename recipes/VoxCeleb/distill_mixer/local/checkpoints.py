"""Checkpoints that survive a full disk, a kill and a damaged file."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.logger import get_logger

from speechbrain_ext.errors import UserError

logger = get_logger(__name__)


@contextlib.contextmanager
def whole_or_none(checkpointer: Checkpointer) -> Iterator[None]:
    """While a checkpoint is saved: when that fails, remove what was written of it.

    Arguments
    ---------
    checkpointer : Checkpointer
        Saves inside the block.

    Raises
    ------
    UserError
        When the checkpoint cannot be written; the ones before it stay.
    """
    before = {checkpoint.path for checkpoint in checkpointer.list_checkpoints()}
    try:
        yield
    except (OSError, RuntimeError) as error:
        for checkpoint in checkpointer.list_checkpoints():
            if checkpoint.path not in before:
                shutil.rmtree(checkpoint.path, ignore_errors=True)
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{checkpointer.checkpoints_dir} could not take a checkpoint ({reason}): make room and "
            "run again, the checkpoint before it is intact"
        ) from None


def recover(checkpointer: Checkpointer) -> None:
    """Load the newest checkpoint that is whole; name those that are not.

    Raises
    ------
    UserError
        When there are checkpoints but none can be loaded.
    """
    checkpoints = checkpointer.list_checkpoints()
    checkpoints.sort(key=lambda checkpoint: -checkpoint.meta["unixtime"])
    for checkpoint in checkpoints:
        try:
            checkpointer.load_checkpoint(checkpoint)
            return
        except Exception as error:  # a damaged file fails in as many ways as there are formats
            reason = str(error).strip().split("\n")[0]
            logger.warning(f"{checkpoint.path} is damaged ({reason}): trying the one before it")
    if checkpoints:
        raise UserError(
            f"no checkpoint in {checkpointer.checkpoints_dir} can be loaded: remove the folder to "
            "train from the start"
        )
