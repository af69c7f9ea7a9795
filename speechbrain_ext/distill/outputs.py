"""What the terms of a loss are computed from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Layers(dict[str, Tensor]):
    """Hidden outputs by layer; one that is not there is an error that names those that are.

    Example
    -------
    >>> Layers(block1=Tensor(1))["block2"]
    Traceback (most recent call last):
    ...
    ValueError: there is no layer 'block2', the layers are: block1
    """

    def __missing__(self, name: str) -> Tensor:
        known = ", ".join(self) or "none"
        raise ValueError(f"there is no layer '{name}', the layers are: {known}")


class StudentOutput(NamedTuple):
    """A student on a batch: embeddings (B, D), hidden outputs (B, T_i, C_i) by layer, features.

    ``hidden`` is empty where the loss has no terms; ``feats`` (B, T, F) is what the network read.
    """

    embedding: Tensor
    hidden: dict[str, Tensor]
    feats: Tensor


class TeacherOutput(NamedTuple):
    """A teacher on the same batch: embeddings (B, D'), hidden outputs (B, T_i, C_i) by layer."""

    embedding: Tensor
    hidden: dict[str, Tensor]
