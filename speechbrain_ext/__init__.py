"""Attention-free speaker-verification students for SpeechBrain: lobes, distillation, verification, inference."""

__version__ = "0.1.0"
