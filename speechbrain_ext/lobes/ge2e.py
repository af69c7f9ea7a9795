"""The LSTM of generalised end-to-end training, and the features that it reads."""

from __future__ import annotations

import torch
import torchaudio
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.interfaces import FrontEnd, Lobe
from speechbrain_ext.nnet.masking import frame_mask, whole_lengths, zero_padding

HOP = 160  # samples from one frame to the next, 10 ms
MARGIN = 200  # samples that a frame holds before its centre, and after it
WINDOW = 160  # frames that the network reads at a time, 1.6 s
STEP = 77  # frames from one window to the next: 1.3 windows a second
LEAST = 122  # of the last window so many frames hold speech, or it is left out: three quarters
LEVEL = 10 ** (-30 / 20)  # root mean square that quieter utterances are raised to


class MelPower(FrontEnd):
    """Energies of mel bands, without a logarithm, of an utterance that is loud enough.

    Hann windows of 25 ms every 10 ms, the bands of Slaney's scale and each of unit area, as
    librosa's ``melspectrogram`` has them. An utterance below -30 dB of full scale is raised to it.
    Before and after it there is silence, and padding changes no frame.

    Arguments
    ---------
    n_mels : int
        Mel bands F.

    Example
    -------
    >>> MelPower()(torch.randn(2, 32000)).shape
    torch.Size([2, 202, 40])
    """

    def __init__(self, n_mels: int = 40) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE,
            n_fft=2 * MARGIN,
            hop_length=HOP,
            n_mels=n_mels,
            mel_scale="slaney",
            norm="slaney",
            pad_mode="constant",
        )

    @torch.no_grad()
    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.FrontEnd`.

        Frame t is centred on sample 160 t; the last one is the last that holds a sample.
        """
        count = torch.full_like(wavs[:, :1], wavs.shape[1])
        if lengths is not None:
            samples = whole_lengths(lengths, wavs.shape[1]).unsqueeze(1)
            inside = torch.arange(wavs.shape[1], device=wavs.device) < samples
            wavs, count = torch.where(inside, wavs, 0.0), samples.to(wavs.dtype)
        level = (wavs.square().sum(dim=1, keepdim=True) / count).sqrt()
        # What is nothing but zeros stays so.
        wavs = wavs * (LEVEL / level.clamp(min=1e-9)).clamp(min=1.0)
        return self.mel(F.pad(wavs, (0, MARGIN - 1))).transpose(1, 2)

    def num_frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances of that many samples."""
        return (samples + MARGIN - 1) // HOP + 1


class GE2E(Lobe):
    """Speaker embeddings by an LSTM that reads windows of 1.6 s, and their mean.

    Wan et al., "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018. Windows begin
    every 0.77 s and the last one is filled up with silence; of each the last state goes through a
    linear layer and ReLU and is scaled to unit length. Submodules are named as in Resemblyzer,
    whose checkpoint :func:`~speechbrain_ext.systems.weights.load_published` reads, and whose
    windows these are. There are no hidden outputs.

    Arguments
    ---------
    input_size : int
        Mel bands F.
    lin_neurons : int
        Embedding size D.
    hidden_size, num_layers : int
        Units of each layer of the LSTM, and layers.

    Example
    -------
    >>> model = GE2E()
    >>> model(torch.rand(2, 401, 40), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 256])
    >>> sum(p.numel() for p in model.parameters())
    1423616
    """

    def __init__(
        self,
        input_size: int = 40,
        lin_neurons: int = 256,
        hidden_size: int = 256,
        num_layers: int = 3,
    ) -> None:
        super().__init__()
        self.embedding_size = lin_neurons
        self.layers = {}
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.linear = nn.Linear(hidden_size, lin_neurons)

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe`."""
        batch, total = feats.shape[:2]
        frames = torch.full_like(feats[:, 0, 0], total, dtype=torch.long)
        if lengths is not None:
            mask = frame_mask(lengths, total)
            feats, frames = zero_padding(feats, mask), mask.sum(dim=(1, 2))
        # Windows 0, 1, ... of each utterance that begin where there is enough of it.
        starts = torch.arange(0, total, STEP, device=feats.device)
        own = starts <= (frames - LEAST).clamp(min=0)[:, None]
        within = starts[:, None] + torch.arange(WINDOW, device=feats.device)
        windows = F.pad(feats, (0, 0, 0, WINDOW))[:, within]  # (B, W, 160, F)
        states, _ = self.lstm(windows.flatten(0, 1))
        parts = F.normalize(F.relu(self.linear(states[:, -1])), dim=1).unflatten(0, (batch, -1))
        weights = own.to(parts.dtype)
        weights = weights / weights.sum(dim=1, keepdim=True)
        embedding = (weights.unsqueeze(2) * parts).sum(dim=1, keepdim=True)
        return (embedding, []) if intermediates else embedding
