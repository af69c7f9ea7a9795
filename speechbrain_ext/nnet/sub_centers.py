"""Speakers that have several centres, so that one odd recording does not bend all of a speaker."""

from __future__ import annotations

import torch
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from torch import Tensor, nn
from torch.nn import functional as F

# How far sub-centres begin from the place that they share, as a part of their length.
_APART = 0.1


class SubCenterClassifier(Classifier):
    """The cosine of each embedding with the nearest of K centres of every speaker.

    Deng et al., "Sub-center ArcFace" (ECCV 2020): recordings that are noisy or of another speaker
    gather at a centre of their own, and the margin holds for the nearest. What it gives are cosines
    by speaker, as SpeechBrain's ``Classifier`` does, so that every loss of those is one of these.

    Arguments
    ---------
    input_size : int
        Numbers in an embedding, D.
    out_neurons : int
        Speakers S.
    sub_centers : int
        Centres of each, K; with 1 it is SpeechBrain's ``Classifier``.

    Raises
    ------
    ValueError
        When there is no centre.

    Example
    -------
    >>> classifier = SubCenterClassifier(input_size=192, out_neurons=5, sub_centers=3)
    >>> classifier(torch.randn(4, 1, 192)).shape, classifier.weight.shape
    (torch.Size([4, 1, 5]), torch.Size([5, 3, 192]))
    """

    weight: nn.Parameter

    def __init__(self, input_size: int, out_neurons: int, sub_centers: int = 3) -> None:
        if sub_centers < 1:
            raise ValueError(f"sub_centers={sub_centers} must be at least 1")
        super().__init__(input_size, out_neurons=out_neurons * sub_centers)
        # A row is a speaker's, as it is to all that looks for a speaker's row.
        self.weight = nn.Parameter(self.weight.detach().unflatten(0, (out_neurons, sub_centers)))

    def forward(self, x: Tensor) -> Tensor:
        """Map embeddings (B, 1, D) to cosines (B, 1, S)."""
        centers = F.normalize(self.weight, dim=-1)
        cosines = F.linear(F.normalize(x.squeeze(1)), centers.flatten(0, 1))
        return cosines.unflatten(1, centers.shape[:2]).amax(dim=2).unsqueeze(1)

    @torch.no_grad()
    def start_at(self, rows: Tensor) -> None:
        """Put the first centre of each speaker at a row (S, D), and the others beside it.

        They go a tenth of the way in the directions that they have by chance. At the very same
        place they would all learn the same, and stay one.
        """
        apart = _APART * F.normalize(self.weight, dim=-1)
        apart[:, 0] = 0
        shared = F.normalize(rows, dim=-1).unsqueeze(1)
        self.weight.copy_(F.normalize(shared + apart, dim=-1))
