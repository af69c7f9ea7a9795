"""Checkpoints that are whole or not there, whatever ends a training; the weights that it leaves."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safetensors import SafetensorError
from speechbrain.utils.checkpoints import (
    CKPT_PREFIX,
    Checkpoint,
    Checkpointer,
    average_checkpoints,
)
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain.utils.logger import get_logger

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import LOCK, MANIFEST, flush, is_current, written_files
from speechbrain_ext.systems.experiment import save_weights
from speechbrain_ext.systems.train_log import Figure

logger = get_logger(__name__)
WHOLE = "a whole checkpoint"
# The networks of which a training begins with weights and leaves weights, where it has them.
TRAINED = ("embedding_model", "classifier")


def save_checkpoint(
    checkpointer: Checkpointer, meta: dict[str, Any], end_of_epoch: bool = True
) -> None:
    """Save a checkpoint beside its place, with the digests of its files, and move it there.

    Arguments
    ---------
    checkpointer : Checkpointer
        Knows what to save, and where.
    meta : dict
        What is to be known of the checkpoint without loading it.
    end_of_epoch : bool
        Whether it is made at an epoch's end, or inside one.
    """
    place, target = checkpointer.checkpoints_dir, checkpointer._new_checkpoint_dirpath()
    checkpointer.checkpoints_dir = place / ".unfinished"
    try:
        saved = checkpointer.save_checkpoint(
            meta=meta, end_of_epoch=end_of_epoch, verbosity=logging.DEBUG
        )
        if if_main_process():
            digests = {"fingerprint": WHOLE, "files": written_files(saved.path)}
            (saved.path / MANIFEST).write_text(json.dumps(digests), encoding="utf-8")
            flush(saved.path)
            saved.path.rename(target)
            logger.info(f"Saved a checkpoint in {target}")
    finally:
        if if_main_process():
            shutil.rmtree(checkpointer.checkpoints_dir, ignore_errors=True)
        checkpointer.checkpoints_dir = place
    ddp_barrier()


def best_checkpoints(checkpointer: Checkpointer, number: int, figure: Figure) -> list[Checkpoint]:
    """The checkpoints that are best by a figure of validation, the best first."""
    by = {"max_key" if figure.highest else "min_key": figure.key}
    return checkpointer.find_checkpoints(**by, max_num_checkpoints=number)


def delete_others(checkpointer: Checkpointer, number: int, figure: Figure) -> None:
    """Delete all checkpoints but the best and the last of so many epochs, and the newest."""
    if if_main_process():
        last = checkpointer.find_checkpoints(
            ckpt_predicate=lambda checkpoint: checkpoint.meta["end-of-epoch"],
            max_num_checkpoints=number,
        )
        newest = checkpointer.find_checkpoints(max_num_checkpoints=1)
        best = best_checkpoints(checkpointer, number, figure)
        kept = {each.path for each in [*best, *last, *newest]}
        for path in {each.path for each in checkpointer.list_checkpoints()} - kept:
            # No more a checkpoint, so that a kill leaves no half of one.
            shutil.rmtree(path.rename(path.with_name(f".{path.name}")))
    ddp_barrier()


def set_damaged_aside(checkpointer: Checkpointer) -> None:
    """Rename what is not whole, before anything is loaded or chosen; clear up after a kill."""
    if if_main_process():
        place: Path = checkpointer.checkpoints_dir
        for leftover in {*place.glob(".*")} - {place / LOCK}:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        found = sorted(place.glob(f"{CKPT_PREFIX}*"))
        damaged = [path for path in found if not is_current(path, WHOLE)]
        for path in damaged:
            aside = path.rename(place / f"damaged_{path.name}")
            logger.warning(f"{path} is damaged: it is {aside.name} now, and is not used any more")
        if damaged and damaged == found:
            logger.warning(f"No checkpoint in {place} is whole: training starts from the beginning")
    ddp_barrier()


@contextlib.contextmanager
def explain_write_errors(folder: str | os.PathLike[str]) -> Iterator[None]:
    """While a training writes into its folder: say so when that fails.

    Raises
    ------
    UserError
        When something cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{folder} could not be written to ({reason}): make room and run again, the checkpoint "
            "before it is intact",
            code="unwritable",
        ) from None


def keep_best(checkpointer: Checkpointer, hparams: SimpleNamespace, figure: Figure) -> None:
    """Write the weights that later stages read: the best checkpoint's, or the best ones' mean."""
    if not if_main_process():
        return
    best = best_checkpoints(checkpointer, hparams.average_checkpoints, figure)
    epochs = [checkpoint.meta["epoch"] for checkpoint in best]
    found = [checkpoint.meta[figure.key] for checkpoint in best]
    about = {"epochs": str(epochs), f"valid_{figure.key}": str(found)}
    for name in TRAINED:
        network = getattr(hparams, name)
        if network is not None:
            network.load_state_dict(average_checkpoints(best, name))
            save_weights(hparams.output_folder, network, about, name)
    shown = ", ".join(map(figure.written, found))
    logger.info(f"Kept epoch {epochs} with valid {figure.words} {shown}")
