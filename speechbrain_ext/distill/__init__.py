"""Frozen teachers, distillation losses and the weights between their terms."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
