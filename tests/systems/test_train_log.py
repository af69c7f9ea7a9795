"""Training, report and curves mean one epoch by the best."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_ext.report.figures import draw_curve
from speechbrain_ext.report.page import training_facts
from speechbrain_ext.report.records import TrainedSystem
from speechbrain_ext.systems.train_log import EER, RANK_CORRELATION, best_epoch, selecting_figure
from speechbrain_ext.training.checkpoints import best_checkpoints


@pytest.mark.parametrize(
    ("eers", "best"), [([9.0, 5.0, 5.0, 7.0], 3), ([5.0, 5.0], 2), ([4.0, 5.0], 1)]
)
def test_of_equal_epochs_the_last(tmp_path: Path, eers: list[float], best: int) -> None:
    """As the checkpointer, whose choice the weights are."""
    checkpointer = Checkpointer(tmp_path, {"network": torch.nn.Linear(1, 1)})
    log = [{"epoch": n, "train": {}, "valid": {"eer": eer}} for n, eer in enumerate(eers, 1)]
    for line in log:
        meta = {"epoch": line["epoch"], **line["valid"]}  # type: ignore[dict-item]
        checkpointer.save_and_keep_only(meta=meta, min_keys=["eer"], num_to_keep=2)
    kept = checkpointer.find_checkpoint(min_key="eer")
    chosen = best_epoch(log)
    assert kept is not None and chosen is not None
    assert kept.meta["epoch"] == chosen["epoch"] == best
    system = TrainedSystem("student", "v2", tmp_path, {}, log, {}, {})
    assert training_facts(system)["best valid EER"].endswith(f"(epoch {best})")
    draw_curve("valid-eer", "EER", [system], "valid", "eer", scale=1.0)


@pytest.mark.parametrize("error_rate", ["eer", "halves_eer"])
def test_of_a_student_of_its_teacher_alone_the_highest_rank_correlation(
    tmp_path: Path, error_rate: str
) -> None:
    checkpointer = Checkpointer(tmp_path, {"network": torch.nn.Linear(1, 1)})
    ranks = [0.2, 0.9, 0.9, 0.7]
    log = [
        {"epoch": n, "train": {}, "valid": {"rank_correlation": rank, error_rate: float(n)}}
        for n, rank in enumerate(ranks, 1)
    ]
    for line in log:
        meta = {"epoch": line["epoch"], **line["valid"]}  # type: ignore[dict-item]
        checkpointer.save_checkpoint(meta=meta)
    assert selecting_figure(log) is RANK_CORRELATION
    kept, *_ = best_checkpoints(checkpointer, 2, RANK_CORRELATION)
    chosen = best_epoch(log)
    assert chosen is not None and kept.meta["epoch"] == chosen["epoch"] == 3
    system = TrainedSystem("student", "v2", tmp_path, {}, log, {}, {})
    assert training_facts(system)["best valid rank correlation"] == "0.900 (epoch 3)"


def test_beside_a_classifier_the_lowest_eer() -> None:
    log = [
        {"epoch": n, "train": {"classification": 1.0}, "valid": {"rank_correlation": n, "eer": n}}
        for n in (1, 2)
    ]
    chosen = best_epoch(log)
    assert selecting_figure(log) is EER and chosen is not None and chosen["epoch"] == 1


def test_an_imported_network_has_none() -> None:
    assert best_epoch([]) is None
