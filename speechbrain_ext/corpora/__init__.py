"""Corpora: stage 0 makes them, stage 1 lists what is in them, and later stages read the lists."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
