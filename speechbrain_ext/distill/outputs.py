"""What the terms of a loss are computed from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class StudentOutput(NamedTuple):
    """A student on a batch: embeddings (B, D), hidden outputs (B, T_i, C_i) by layer, features.

    ``hidden`` is empty unless a term asks for it; ``feats`` (B, T, F) is what the network read.
    """

    embedding: Tensor
    hidden: dict[str, Tensor]
    feats: Tensor


class TeacherOutput(NamedTuple):
    """A teacher on the same batch: embeddings (B, D'), hidden outputs (B, T_i, C_i) by layer."""

    embedding: Tensor
    hidden: dict[str, Tensor]
