"""Trainings: Brains, their data, their checkpoints and what is noted of them."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
