"""Model folders: what leaves the recipe, checked before it is believed."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
