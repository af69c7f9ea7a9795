"""Normalisation of frames held channels last, (B, T, C)."""

from __future__ import annotations

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn

from speechbrain_ext.nnet.masking import frame_mask


class UtteranceNorm(nn.Module):
    """Mean and variance normalisation of each band over the time of one utterance.

    An instance normalisation without affine parameters (biased variance), as in the mel front end
    of voxceleb_trainer, which leaves padded frames out and returns them as zeros. It stands where
    SpeechBrain's recipes have ``mean_var_norm``.

    Arguments
    ---------
    eps : float
        Added to the variance.
    std_norm : bool
        Whether bands are scaled by their deviation; otherwise their mean alone is taken off, as in
        3D-Speaker, WeSpeaker and Kaldi.

    Example
    -------
    >>> feats = torch.randn(2, 50, 80) * 3 + 1
    >>> normalised = UtteranceNorm()(feats, torch.tensor([1.0, 0.5]))
    >>> bool(normalised[1, :25].mean().abs() < 1e-4), float(normalised[1, 25:].abs().sum())
    (True, 0.0)
    """

    def __init__(self, eps: float = 1e-5, std_norm: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.std_norm = std_norm

    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, feats: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalise.

        Arguments
        ---------
        feats : Tensor
            Features (B, T, F).
        lengths : Tensor, optional
            Relative lengths (B,).

        Returns
        -------
        Tensor
            Features (B, T, F), float32.
        """
        if lengths is None and not self.std_norm:
            return feats - feats.mean(dim=1, keepdim=True)
        if lengths is None:
            variance, mean = torch.var_mean(feats, dim=1, correction=0, keepdim=True)
            return (feats - mean) * torch.rsqrt(variance + self.eps)
        mask = frame_mask(lengths, feats.shape[1])
        # A spectrogram's padding may hold anything, infinities too: choose, do not multiply.
        feats = torch.where(mask, feats, 0.0)
        count = mask.sum(dim=1, keepdim=True)
        centred = torch.where(mask, feats - feats.sum(dim=1, keepdim=True) / count, 0.0)
        if not self.std_norm:
            return centred
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred * torch.rsqrt(variance + self.eps)


class FrameBatchNorm(nn.Module):
    """Batch normalisation of channels-last frames, over the batch and time.

    Arguments
    ---------
    channels : int
        Channels C.

    Example
    -------
    >>> FrameBatchNorm(8)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A member, not a base class: `convert_sync_batchnorm` replaces it and must not lose the
        # reshape.
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, T, C)."""
        return self.norm(x.flatten(0, 1)).view_as(x)

    def affine(self) -> tuple[Tensor, Tensor]:
        """The scale and offset (C,) each that this layer applies in eval mode."""
        norm = self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None  # they are, unless told otherwise
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return scale, norm.bias - mean * scale
