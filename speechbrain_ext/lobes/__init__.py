"""Whole networks: front ends, students, teachers and the encoder that joins them."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
