"""Many systems, several seeds, one table: what compare.py is made of."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
