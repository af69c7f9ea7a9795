"""Attention-free speaker-verification students for SpeechBrain.

Lobes, distillation, verification and inference. What is used most is here too; the package alone
loads none of it, nor PyTorch.

    >>> from speechbrain_ext import MLPMixer
    >>> MLPMixer().embedding_size
    512
"""

from __future__ import annotations

import importlib
from typing import Any

from speechbrain_ext.errors import require

__version__ = "0.1.0"

_SHOWN = {
    "audio": ["read_audio"],
    "distill.anchors": ["AnchorDistillation"],
    "distill.cached_teacher": ["CachedTeacher"],
    "distill.ensemble": ["EnsembleTeacher"],
    "distill.label_terms": ["DecoupledLabelDistillation", "LabelDistillation"],
    "distill.layer_terms": ["AttentionTransfer", "DistilHuBERT", "HiddenMSE", "Hints"],
    "distill.losses": [
        "CosineDistillation",
        "EmbeddingTerm",
        "InBatchContrast",
        "KLDistillation",
        "MSEDistillation",
        "RelationalDistillation",
    ],
    "distill.objective": ["DistillationObjective"],
    "distill.reconstruction": ["Reconstruction"],
    "distill.teacher": ["FrozenTeacher"],
    "inference.embed_folder": ["embed_folder"],
    "inference.verifier": ["SpeakerVerifier"],
    "interfaces": [
        "BackEnd",
        "EmbeddingLoss",
        "FrontEnd",
        "Lobe",
        "Mixer",
        "SpeakerRows",
        "StudentOutput",
        "Target",
        "Teacher",
        "TeacherOutput",
        "Term",
    ],
    "lobes.back_ends": ["LinearBackEnd"],
    "lobes.contract": ["check_encoder"],
    "lobes.conv_front_end": ["ConvFrontEnd"],
    "lobes.ecapa": ["PaddedECAPA"],
    "lobes.encoders": ["SpeakerEncoder"],
    "lobes.exact_length": ["ExactLength"],
    "lobes.features": ["LogMel"],
    "lobes.lstm_autoencoder": ["LSTMAutoencoder"],
    "lobes.mixer": ["MLPMixer"],
    "lobes.redimnet": ["ReDimNet"],
    "lobes.sinc": ["SincFeatures"],
    "lobes.ssl_encoder": ["SSLEncoder"],
    "lobes.ssl_student": ["SSLStudent"],
    "nnet.normalization": ["UtteranceNorm"],
    "nnet.residual": ["ResidualBlock"],
    "systems.pretrained": ["load_pretrained"],
    "verification.embeddings": ["Embeddings", "load_embeddings", "save_embeddings"],
    "verification.metrics": ["equal_error_rate", "min_dcf"],
    "verification.scores": ["cosine_scores"],
    "verification.trials": ["TrialList", "read_trials"],
}
_MODULE_OF = {name: module for module, names in _SHOWN.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("train", "torch", "speechbrain")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
