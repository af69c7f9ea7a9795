"""Layers that whole networks are made of: mixing, pooling, recurrence, masking."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
