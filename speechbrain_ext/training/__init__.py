"""Trainings: Brains, their data, their checkpoints and what is noted of them."""

import logging

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")

# SpeechBrain's loggers draw figures by it; those of a training here are made without.
logging.getLogger("speechbrain.utils.train_logger").addFilter(
    lambda record: "torchvision is not available" not in record.getMessage()
)
