"""Systems: YAML that builds on YAML, experiment folders, trained models."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
