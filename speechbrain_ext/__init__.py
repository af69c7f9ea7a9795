"""Attention-free speaker-verification students for SpeechBrain.

Lobes, distillation, verification and inference.
"""

__version__ = "0.1.0"
