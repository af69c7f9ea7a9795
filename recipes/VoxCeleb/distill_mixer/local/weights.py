"""The weights that a training begins with, and those that it leaves behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer, average_checkpoints
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger

from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.experiments import load_weights, save_weights

logger = get_logger(__name__)
NETWORKS = ("embedding_model", "classifier")


def start_from(hparams: SimpleNamespace, speakers: CategoricalEncoder) -> None:
    """Take the weights of the finished training that ``start_from`` names.

    A checkpoint of the training that begins here comes over them.

    Raises
    ------
    UserError
        When it has not finished, or was trained on other speakers.
    """
    folder, known = Path(hparams.start_from), CategoricalEncoder()
    if not known.load_if_possible(folder / "save" / "label_encoder.txt"):
        raise UserError(f"start_from: {folder} has no finished training: run it first")
    if known.lab2ind != speakers.lab2ind:
        raise UserError(
            f"start_from: {folder} was trained on other speakers than {hparams.train_csv} "
            f"has at speeds {hparams.speeds}: start from a training of the same"
        )
    for name in NETWORKS:
        load_weights(folder, getattr(hparams, name), name)


def keep_best(checkpointer: Checkpointer, hparams: SimpleNamespace) -> None:
    """Write the weights that later stages read: the best checkpoint's, or the best ones' mean."""
    best: list[Checkpoint] = checkpointer.find_checkpoints(
        min_key="eer", max_num_checkpoints=hparams.average_checkpoints
    )
    if not if_main_process():
        return
    epochs = [checkpoint.meta["epoch"] for checkpoint in best]
    about = {"epochs": str(epochs), "valid_eer": str([c.meta["eer"] for c in best])}
    for name in NETWORKS:
        network = getattr(hparams, name)
        network.load_state_dict(average_checkpoints(best, name))
        save_weights(hparams.output_folder, network, about, name)
    logger.info(f"Kept epoch {epochs} with valid EER {about['valid_eer']} %")
