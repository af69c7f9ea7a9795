#!/usr/bin/env python3
"""Train a speaker-embedding network with labels alone.

    python train_teacher.py hparams/teacher.yaml --corpus_dir data/mini [--key value ...]
    torchrun --standalone --nproc_per_node 4 train_teacher.py hparams/teacher.yaml ...

Any key of the YAML can be given as an option. The experiment is written into
`exp/<corpus>/<system>/seed_<seed>`; run again, training goes on there from its last checkpoint.
"""

from __future__ import annotations

import sys

from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.distill.objective import Objective
from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.training.brain import Forward, SpeakerBrain
from speechbrain_ext.training.crops import CropBatch
from speechbrain_ext.training.run import run_training


class TeacherBrain(SpeakerBrain):
    """Classification, and reconstruction of the features where its weight is positive."""

    reads = SpeakerBrain.reads | {"reconstruction_weight"}

    @property
    def wants_hidden(self) -> bool:  # type: ignore[override]
        """Whether the reconstruction, made from the first hidden output, is wanted."""
        return self.reconstruction_weight > 0

    @property
    def reconstruction_weight(self) -> float:
        """Of a network with a decoder; others have no such key."""
        return getattr(self.hparams, "reconstruction_weight", 0.0)

    def objective(self, forward: Forward, batch: CropBatch) -> Objective:
        """The classification loss and, where wanted, the error of the rebuilt features."""
        terms = {"classification": self.classification_loss(forward, batch)}
        weights: dict[str, float | Tensor] = {"classification": 1.0}
        if self.wants_hidden:
            latent = forward.student.hidden["bottleneck"]
            rebuilt = self.hparams.embedding_model.decode(latent)
            terms["reconstruction"] = F.mse_loss(rebuilt.float(), forward.student.feats)
            weights["reconstruction"] = self.reconstruction_weight
        return Objective(terms, weights)


if __name__ == "__main__":
    with friendly_exit():
        run_training(TeacherBrain, sys.argv[1:])
