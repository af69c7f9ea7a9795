"""Kaldi's filter bank, the features of most published speaker models."""

from __future__ import annotations

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor
from torch.nn import functional as F
from torchaudio.compliance import kaldi

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.interfaces import FrontEnd
from speechbrain_ext.nnet.graphs import makes_graph
from speechbrain_ext.nnet.masking import whole_lengths
from speechbrain_ext.nnet.pieces import frames_in_pieces
from speechbrain_ext.nnet.spectrum import WINDOW, fourier_kernel, power_by_convolution

HOP = 160  # samples from one frame to the next, 10 ms
N_FFT = 512

_WINDOWS = {
    "hamming": lambda: torch.hamming_window(WINDOW, periodic=False),
    "hanning": lambda: torch.hann_window(WINDOW, periodic=False),
    "povey": lambda: torch.hann_window(WINDOW, periodic=False) ** 0.85,
    "rectangular": lambda: torch.ones(WINDOW),
}


class KaldiFbank(FrontEnd):
    """Log-mel energies as Kaldi's ``compute-fbank-feats`` has them, without dither and gradient.

    Frames of 25 ms every 10 ms, less their mean, with pre-emphasis. 3D-Speaker reads them so, of
    waveforms in [-1, 1]; WeSpeaker and pyannote with ``window="hamming"`` and ``scale=32768``;
    sherpa-onnx with ``high_freq=-400`` and ``snip_edges=False``. For a batch of utterances what
    ``torchaudio.compliance.kaldi.fbank`` gives for each alone; padding changes no frame.

    Arguments
    ---------
    n_mels : int
        Mel bands F.
    window : str
        ``povey``, ``hamming``, ``hanning`` or ``rectangular``.
    preemphasis : float
        Share of the sample before that is taken off each sample.
    low_freq, high_freq : float
        Ends of the bands in Hz; a ``high_freq`` of zero or less counts from 8,000 Hz down.
    snip_edges : bool
        Whether frames lie within the utterance. Otherwise they are centred at every hop, and the
        utterance is reflected at both of its ends.
    scale : float
        Factor of the waveforms: 1 for [-1, 1], 32768 for 16-bit numbers.

    Raises
    ------
    ValueError
        When there is no such window, or the bands have no room.

    Example
    -------
    >>> wavs = torch.randn(2, 32000)
    >>> KaldiFbank()(wavs).shape
    torch.Size([2, 198, 80])
    >>> KaldiFbank(snip_edges=False)(wavs).shape
    torch.Size([2, 200, 80])
    >>> alone = kaldi.fbank(wavs[:1], num_mel_bins=80)
    >>> bool((KaldiFbank()(wavs)[0] - alone).abs().max() < 1e-4)
    True
    """

    def __init__(
        self,
        n_mels: int = 80,
        window: str = "povey",
        preemphasis: float = 0.97,
        low_freq: float = 20.0,
        high_freq: float = 0.0,
        snip_edges: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if window not in _WINDOWS:
            raise ValueError(f"window={window!r} is none of {', '.join(_WINDOWS)}")
        nyquist = SAMPLE_RATE / 2
        top = high_freq if high_freq > 0 else nyquist + high_freq
        if not 0 <= low_freq < top <= nyquist:
            raise ValueError(
                f"low_freq={low_freq} and high_freq={high_freq} leave no bands below {nyquist} Hz"
            )
        #: What the features are, as the metadata of a file say it.
        self.metadata = {
            "normalize_samples": str(int(scale == 1)),
            "window_type": window,
            "preemphasis_coefficient": f"{preemphasis:g}",
            "low_freq": f"{low_freq:g}",
            "high_freq": f"{high_freq:g}",
            "snip_edges": str(int(snip_edges)),
        }
        self.preemphasis = preemphasis
        self.snip_edges = snip_edges
        self.scale = scale
        # VTLN is off: its limits say nothing.
        banks, _ = kaldi.get_mel_banks(n_mels, N_FFT, SAMPLE_RATE, low_freq, high_freq, 0, 0, 1.0)
        self.register_buffer("window", _WINDOWS[window](), persistent=False)
        self.register_buffer("banks", F.pad(banks.float(), (0, 1)).T.contiguous(), persistent=False)
        self.window: Tensor
        kernel = fourier_kernel(self._prepare(torch.eye(WINDOW, dtype=torch.float64)), N_FFT)
        self.register_buffer("kernel", kernel, persistent=False)
        self.kernel: Tensor
        self.banks: Tensor

    @torch.no_grad()
    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.FrontEnd`.

        An utterance of less than 25 ms is filled up with zeros to one frame.
        """
        if self.scale != 1:
            wavs = wavs * self.scale
        if makes_graph() or wavs.shape[1] < WINDOW:  # else an hour would be copied
            wavs = F.pad(wavs, (0, max(0, WINDOW - wavs.shape[1])))
        if not self.snip_edges:
            wavs = self._reflect(wavs, lengths)
        if makes_graph():
            return self._log(power_by_convolution(wavs, self.kernel, HOP))
        return frames_in_pieces(lambda part: self._log(self._power(part)), wavs, WINDOW, HOP)

    def _reflect(self, wavs: Tensor, lengths: Tensor | None) -> Tensor:
        """Continue each utterance at its ends, so that frame t is centred on (t + 0.5) hops."""
        total = wavs.shape[1]
        margin = (WINDOW - HOP) // 2
        frames = (total + HOP // 2) // HOP
        samples = torch.full_like(wavs[:, :1], total, dtype=torch.long)
        if lengths is not None:
            samples = whole_lengths(lengths, total).unsqueeze(1)
        steps = torch.arange(HOP * (frames - 1) + WINDOW, device=wavs.device) - margin
        mirrored = torch.where(steps < 0, -1 - steps, steps)
        mirrored = torch.where(mirrored < samples, mirrored, 2 * samples - 1 - mirrored)
        return wavs.gather(1, mirrored.clamp(min=0, max=total - 1))

    def _power(self, wavs: Tensor) -> Tensor:
        """Power spectrum (B, T, 257) of all whole windows of (B, samples)."""
        return torch.fft.rfft(self._prepare(wavs.unfold(1, WINDOW, HOP)), n=N_FFT).abs().square()

    def _prepare(self, frames: Tensor) -> Tensor:
        """What is done to frames (..., 400) before their spectrum."""
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        return (frames - self.preemphasis * before) * self.window

    def _log(self, power: Tensor) -> Tensor:
        return (power @ self.banks).clamp(min=torch.finfo(torch.float32).eps).log()

    def num_frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances of that many samples, one at least."""
        if self.snip_edges:
            return ((samples - WINDOW) // HOP + 1).clamp(min=1)
        return ((samples + HOP // 2) // HOP).clamp(min=1)
