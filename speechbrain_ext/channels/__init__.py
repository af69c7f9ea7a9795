"""What happens to speech between a mouth and a listener: rooms, noise, levels, bands, codecs."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
