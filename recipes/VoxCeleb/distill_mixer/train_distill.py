#!/usr/bin/env python3
"""Distil a student from a frozen teacher.

    python train_distill.py hparams/v2.yaml --corpus_dir data/mini [--alpha 0.5 --key value ...]
    torchrun --standalone --nproc_per_node 4 train_distill.py hparams/v2.yaml ...

Any key of the YAML can be given as an option. The teacher is a trained experiment, which
`teacher_folder` names, or a self-supervised model, which `teacher_source` names. The experiment is
written into `exp/<corpus>/<system>/seed_<seed>`; run again, training goes on there from its last
checkpoint.
"""

from __future__ import annotations

import sys

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training

if __name__ == "__main__":
    with friendly_exit():
        run_training(DistillBrain, sys.argv[1:])
