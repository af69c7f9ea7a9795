"""Front ends: from waveforms to what an embedding model reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torchaudio
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.interfaces import FrontEnd
from speechbrain_ext.nnet.graphs import leaves_pytorch, makes_graph
from speechbrain_ext.nnet.masking import whole_lengths
from speechbrain_ext.nnet.pieces import frames_in_pieces
from speechbrain_ext.nnet.spectrum import WINDOW, fourier_kernel, power_by_convolution


class LogMel(FrontEnd):
    """Log-mel energies of Hamming windows of 25 ms every 10 ms, without gradient.

    The front end of voxceleb_trainer without its pre-emphasis: frame t is centred on sample
    ``t * hop_length`` and the waveform is reflected at both of its ends. Given ``lengths``, it is
    reflected at the end of each utterance, so that padding changes no frame.

    Arguments
    ---------
    n_mels : int
        Mel bands F.

    Example
    -------
    >>> LogMel()(torch.randn(2, 32000)).shape
    torch.Size([2, 201, 80])
    """

    def __init__(self, n_mels: int = 80) -> None:
        super().__init__()
        self.n_fft = 512
        self.hop_length = 160
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE,
            n_fft=self.n_fft,
            win_length=WINDOW,
            hop_length=self.hop_length,
            window_fn=torch.hamming_window,
            n_mels=n_mels,
            center=False,
        )
        window = F.pad(self.mel.spectrogram.window, [(self.n_fft - WINDOW) // 2] * 2)
        kernel = fourier_kernel(torch.diag(window), self.n_fft)
        self.register_buffer("kernel", kernel, persistent=False)
        self.kernel: Tensor

    @torch.no_grad()
    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.FrontEnd`.

        Waveforms have more than 256 samples each; T is samples // 160 + 1.
        """
        margin = self.n_fft // 2
        if lengths is None:
            padded = F.pad(wavs, (margin, margin), mode="reflect")
        else:
            samples = whole_lengths(lengths, wavs.shape[1]).unsqueeze(1)
            steps = torch.arange(-margin, wavs.shape[1] + margin, device=wavs.device).abs()
            mirrored = torch.where(steps < samples, steps, 2 * (samples - 1) - steps)
            padded = wavs.gather(1, mirrored.clamp(min=0, max=wavs.shape[1] - 1))
        if leaves_pytorch():
            power = power_by_convolution(padded, self.kernel, self.hop_length)
            return torch.log(power @ self.mel.mel_scale.fb + 1e-6)
        if makes_graph():
            return self._log_mel(padded)
        return frames_in_pieces(self._log_mel, padded, self.n_fft, self.hop_length)

    def _log_mel(self, wavs: Tensor) -> Tensor:
        """All whole windows of (B, samples)."""
        return torch.log(self.mel(wavs) + 1e-6).transpose(1, 2)

    def num_frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances of that many samples."""
        return samples // self.hop_length + 1


class PassThrough(nn.Module):
    """Give the first input back: where an interface asks for a module that a model does not need.

    SpeechBrain's normalisations are called with lengths besides.

    Example
    -------
    >>> PassThrough()(torch.ones(2), torch.tensor([1.0, 0.5]))
    tensor([1., 1.])
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``x``."""
        return x


class Waveforms(FrontEnd):
    """The front end of networks that read waveforms: gives them back, a sample being a frame.

    Example
    -------
    >>> Waveforms()(torch.zeros(2, 32000)).shape
    torch.Size([2, 32000])
    """

    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``wavs``."""
        return wavs

    def num_frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances of that many samples: as many."""
        return samples


def front_end_variants(
    front_end: Callable[..., FrontEnd], choices: Mapping[str, Sequence[Any]]
) -> list[FrontEnd]:
    """Front ends that differ in some arguments: one for each combination of their values.

    A network that has learnt from all of them is right wherever it runs: engines compute features
    of one kind, each a little differently.

    Arguments
    ---------
    front_end : callable
        Makes one, with what all have in common; a class by ``!name:``.
    choices : mapping of str to sequence
        By argument the values that it takes.

    Returns
    -------
    list of FrontEnd
        All combinations.

    Raises
    ------
    ValueError
        When an argument has no values.

    Example
    -------
    >>> from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
    >>> choices = {"window": ["povey", "hamming"], "snip_edges": [True, False]}
    >>> len(front_end_variants(KaldiFbank, choices))
    4
    """
    for name, values in choices.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"choices: {name} is {values!r}, and must be a list of its values")
    combinations = itertools.product(*choices.values())
    return [front_end(**dict(zip(choices, values, strict=True))) for values in combinations]
