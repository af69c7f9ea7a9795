"""Speed, size, operations and memory of networks, side by side."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
