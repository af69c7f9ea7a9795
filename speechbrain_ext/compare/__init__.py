"""Many systems, several seeds, one table: what ablate.py is made of."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
