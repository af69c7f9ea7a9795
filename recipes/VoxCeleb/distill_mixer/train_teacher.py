#!/usr/bin/env python3
"""Train a speaker-embedding network with labels alone.

    python train_teacher.py hparams/teacher.yaml --corpus_dir data/mini [--key value ...]
    torchrun --standalone --nproc_per_node 4 train_teacher.py hparams/teacher.yaml ...

Any key of the YAML can be given as an option. The experiment is written into
`exp/<corpus>/<system>/seed_<seed>`; run again, training goes on there from its last checkpoint.
"""

from __future__ import annotations

import sys

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain

if __name__ == "__main__":
    with friendly_exit():
        run_training(TeacherBrain, sys.argv[1:])
