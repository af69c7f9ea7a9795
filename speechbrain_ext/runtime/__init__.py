"""Trained speaker models without PyTorch: embeddings, decisions, and galleries of speakers."""

from speechbrain_ext.runtime.decision import Decision
from speechbrain_ext.runtime.gallery import Gallery, Identification
from speechbrain_ext.runtime.hearing import Recording
from speechbrain_ext.runtime.model import SpeakerModel, load_model

__all__ = ["Decision", "Gallery", "Identification", "Recording", "SpeakerModel", "load_model"]
