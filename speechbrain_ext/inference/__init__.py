"""Trained models on disk: experiment folders, embeddings of files, exported model folders."""

from speechbrain_ext.errors import require

require("train", "torch", "speechbrain")
