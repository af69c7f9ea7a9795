"""A front end that learns, for students that read waveforms."""

from __future__ import annotations

import torch
from speechbrain.nnet.CNN import SincConv
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.interfaces import FrontEnd
from speechbrain_ext.nnet.masking import frame_mask


class _SincFilters(SincConv):
    """SpeechBrain's filters, whose frequencies count in units of 100 Hz.

    In Hz, as they come, a step of Adam at a rate of 0.001 moves a frequency by a thousandth of a
    Hz: they would never train.
    """

    UNIT = 100.0

    def __init__(self, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__(
            out_channels,
            kernel_size,
            in_channels=1,
            stride=stride,
            padding="valid",
            sample_rate=SAMPLE_RATE / self.UNIT,
            min_low_hz=50 / self.UNIT,
            min_band_hz=50 / self.UNIT,
        )
        # Plain attributes there; as buffers they move to a GPU with the rest.
        for name in ("n_", "window_"):
            value = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, value, persistent=False)

    def _to_mel(self, hz: float) -> float:
        return super()._to_mel(self.UNIT * hz)

    def _to_hz(self, mel: Tensor) -> Tensor:
        return super()._to_hz(mel) / self.UNIT


class SincFeatures(FrontEnd):
    """Log magnitudes of learned band-pass filters, every 10 ms.

    Ravanelli and Bengio, "Speaker Recognition from Raw Waveform with SincNet", SLT 2018, by
    SpeechBrain's ``SincConv``. Frame t is centred on sample ``t * hop_length``, as in
    :class:`~speechbrain_ext.lobes.features.LogMel`; outside an utterance are zeros. The magnitude,
    because the sign of a filter's output is its phase; the logarithm, because the level of a
    recording then is an offset, which the normalisation of utterances removes.

    Arguments
    ---------
    num_filters : int
        Filters F, at first evenly spaced in mel.
    kernel_size : int
        Samples of a filter, odd.
    stride : int
        Samples between outputs of the filters; divides ``hop_length``.
    hop_length : int
        Samples between frames. A frame is the mean of ``hop_length / stride`` magnitudes.

    Raises
    ------
    ValueError
        When ``kernel_size`` is even, or ``stride`` does not divide ``hop_length``.

    Example
    -------
    >>> features = SincFeatures()
    >>> features(torch.randn(2, 32000)).shape, sum(p.numel() for p in features.parameters())
    (torch.Size([2, 201, 80]), 160)
    """

    def __init__(
        self,
        num_filters: int = 80,
        kernel_size: int = 251,
        stride: int = 160,
        hop_length: int = 160,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd")
        if hop_length % stride:
            raise ValueError(f"stride={stride} must divide hop_length={hop_length}")
        self.hop_length = hop_length
        self.outputs_per_frame = hop_length // stride
        # The outputs of a frame lie around its centre; the last frame may begin at the last sample.
        self.before = (kernel_size - 1 + hop_length - stride) // 2
        self.after = kernel_size + hop_length - stride - self.before
        self.filters = _SincFilters(num_filters, kernel_size, stride)

    # In half precision the phases that filters are made of, up to 400, would be noise.
    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.FrontEnd`.

        T is samples // hop_length + 1; features are float32.
        """
        if lengths is not None:
            wavs = torch.where(frame_mask(lengths, wavs.shape[1]).squeeze(-1), wavs, 0.0)
        padded = F.pad(wavs, (self.before, self.after))
        # SincConv gets (B, samples, 1): a missing channel it squeezes in a way that ONNX refuses.
        # `unsqueeze(-1)` would seem channels last to the convolution, and be slow.
        magnitudes = self.filters(padded.unsqueeze(1).transpose(1, 2)).abs()
        if self.outputs_per_frame > 1:
            magnitudes = F.avg_pool1d(magnitudes.transpose(1, 2), self.outputs_per_frame)
            magnitudes = magnitudes.transpose(1, 2)
        return torch.log(magnitudes + 1e-4)

    def num_frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances of that many samples."""
        return samples // self.hop_length + 1
