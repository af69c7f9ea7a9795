#!/usr/bin/env python3
"""Distil a student from a frozen teacher.

python train_distill.py hparams/v2.yaml --corpus_dir data/mini [--alpha 0.5 --key value ...]
torchrun --standalone --nproc_per_node 4 train_distill.py hparams/v2.yaml ...
"""

from __future__ import annotations

import sys
from typing import Any

import speechbrain as sb
from speechbrain.utils.logger import get_logger

from local.brain import Forward, SpeakerBrain, share
from local.data import CropBatch
from local.training import run_training
from speechbrain_ext.distill.objective import Objective
from speechbrain_ext.errors import friendly_exit

logger = get_logger(__name__)


class DistillBrain(SpeakerBrain):
    """Classification and distillation, weighted by alpha."""

    def __init__(self, hparams: dict[str, Any], run_opts: Any) -> None:
        super().__init__(hparams, run_opts)
        # Not among the modules: no optimiser, no checkpoint, no DDP.
        self.teacher = self.hparams.teacher.to(self.device)

    def objective(self, forward: Forward, batch: CropBatch) -> Objective:
        """The terms of the student's loss."""
        teacher = self.teacher(batch.sig.data)
        return self.hparams.objective(
            self.classification_loss(forward, batch), forward.embedding, teacher.embedding
        )

    def epoch_meta(self) -> dict[str, float]:
        """The weight of the distillation."""
        return {"alpha": self.hparams.objective.alpha}

    def epoch_figures(self, averages: dict[str, float]) -> dict[str, float]:
        """The share of the distillation in the loss."""
        alpha = self.hparams.objective.alpha
        return {"share": share(alpha, averages["distillation"], averages["loss"])}

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Warn when the distillation hardly counts."""
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == sb.Stage.TRAIN:
            stats, least = self.train_stats, self.hparams.min_distillation_share
            if 0 < self.hparams.objective.alpha and stats["share"] < least:
                logger.warning(
                    f"Distillation was {stats['share']:.1%} of the loss in epoch {epoch}, under "
                    f"{least:.0%} (distillation {stats['distillation']:.6f}, classification "
                    f"{stats['classification']:.4f}): raise alpha or choose another distillation"
                )


if __name__ == "__main__":
    with friendly_exit():
        run_training(DistillBrain, sys.argv[1:])
