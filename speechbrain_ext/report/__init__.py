"""The report of an experiment: what was run, how well it works, how it was learnt."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
