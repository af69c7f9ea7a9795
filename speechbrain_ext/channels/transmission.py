"""What changes a recording between a room and a listener: its level, its band, a codec.

Each class maps crops (B, samples) of 16 kHz and their relative lengths to crops of the same shape,
as the corruptions of ``speechbrain.augment`` do. All of a batch are changed; which crops are is
said by :class:`~speechbrain_ext.training.augmentation.Choice`.
"""

from __future__ import annotations

import io
import os
from typing import Any

import soundfile
import torch
from speechbrain.augment.codec import CodecAugment
from speechbrain.augment.time_domain import Resample
from torch import Tensor, nn

from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.workers import in_threads

TELEPHONE = 8000  # Hz, of a telephone's samples
# Louder and quieter in dB, as torch-audiomentations draws it.
_GAINS = (-18.0, 6.0)


class Gain(nn.Module):
    """Makes each crop quieter or louder by a level drawn from -18 to 6 dB.

    Example
    -------
    >>> wavs = torch.ones(2, 16000)
    >>> louder = Gain()(wavs, torch.ones(2))
    >>> bool((louder.max() <= 2.0) & (louder.min() >= 0.12))
    True
    """

    def forward(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """Scale crops (B, samples)."""
        low, high = _GAINS
        levels = low + (high - low) * torch.rand(len(wavs), 1)
        return wavs * (10 ** (levels / 20)).to(wavs)


class NarrowBand(nn.Module):
    """Takes what is above 4 kHz away, as a telephone does: down to 8 kHz and up again.

    Example
    -------
    >>> NarrowBand()(torch.randn(2, 16001), torch.ones(2)).shape
    torch.Size([2, 16001])
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = Resample(SAMPLE_RATE, TELEPHONE)
        self.up = Resample(TELEPHONE, SAMPLE_RATE)

    def forward(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """Limit the band of crops (B, samples)."""
        # Under AMP the filters would have some three digits.
        with torch.autocast(wavs.device.type, enabled=False):
            narrow = self.between(self.down(wavs.float()))
            return self.up(narrow)[:, : wavs.shape[1]].to(wavs)

    def between(self, wavs: Tensor) -> Tensor:
        """What is done to samples (B, samples) of 8 kHz."""
        return wavs


class G711(NarrowBand):
    """A telephone call: 8 kHz, 8 bits a sample by μ-law or A-law (ITU-T G.711).

    Arguments
    ---------
    law : str
        ``ULAW`` or ``ALAW``, as libsndfile calls them.

    Example
    -------
    >>> call = G711("ULAW")(0.1 * torch.randn(1, 16000), torch.ones(1))
    >>> call.shape
    torch.Size([1, 16000])
    """

    def __init__(self, law: str) -> None:
        super().__init__()
        self.law = law
        self.codec = CodecAugment(TELEPHONE)

    def extra_repr(self) -> str:
        """What PyTorch shows of it."""
        return self.law

    def between(self, wavs: Tensor) -> Tensor:
        """Code samples (B, samples) of 8 kHz and decode them."""
        return self.codec.apply_codec(wavs.clamp(-1, 1), "WAV", self.law)


class Codec(nn.Module):
    """Codes crops at 16 kHz and decodes them, as a file or a call of the internet does.

    Arguments
    ---------
    format, encoder : str
        As libsndfile calls them: ``OGG`` and ``OPUS`` (about 30 kbit/s), ``MP3`` and
        ``MPEG_LAYER_III`` (about 45 kbit/s).
    **settings
        Of ``soundfile.write``, for another rate.

    Raises
    ------
    ValueError
        When this libsndfile has no such codec.

    Example
    -------
    >>> Codec("OGG", "OPUS")(0.1 * torch.randn(2, 16000), torch.ones(2)).shape
    torch.Size([2, 16000])
    """

    def __init__(self, format: str, encoder: str, **settings: Any) -> None:
        super().__init__()
        if not soundfile.check_format(format, encoder):
            raise ValueError(
                f"libsndfile {soundfile.__libsndfile_version__} has no {encoder} here: install a "
                "wheel of soundfile, which brings one that has it, or do without this codec "
                "(codec_probability 0 in a training)"
            )
        self.format, self.encoder, self.settings = format, encoder, settings

    def extra_repr(self) -> str:
        """What PyTorch shows of it."""
        return f"{self.format}, {self.encoder}, {self.settings}"

    def forward(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """Code crops (B, samples) and decode them, several at a time on as many cores."""
        # Opus takes some 60 ms for 2 s; samples beyond full scale are cut off, as a file does.
        crops = wavs.float().clamp(-1, 1).cpu()
        with in_threads(self._coded, crops, os.cpu_count() or 1) as coded:
            return torch.stack(list(coded)).to(wavs)

    def _coded(self, wav: Tensor) -> Tensor:
        file = io.BytesIO()
        kind = {"format": self.format, "subtype": self.encoder}
        soundfile.write(file, wav.numpy(), SAMPLE_RATE, **kind, **self.settings)
        file.seek(0)
        decoded = torch.from_numpy(soundfile.read(file, dtype="float32")[0])[: len(wav)]
        return nn.functional.pad(decoded, (0, len(wav) - len(decoded)))


class Opus(Codec):
    """Opus as calls and voice messages have it, at a bit rate of one's own.

    Arguments
    ---------
    kilobits : float
        A second, from 6.5 to 256; a varying rate around it.

    Example
    -------
    >>> Opus(16)(0.1 * torch.randn(1, 16000), torch.ones(1)).shape
    torch.Size([1, 16000])
    """

    def __init__(self, kilobits: float) -> None:
        # libsndfile goes from 256 kbit/s at level 0 to 6 at level 1, which it refuses.
        if not 6.5 <= kilobits <= 256:
            raise ValueError(f"kilobits must be from 6.5 to 256, got {kilobits}")
        super().__init__("OGG", "OPUS", compression_level=(256 - kilobits) / 250)


class MP3(Codec):
    """MP3 at a constant bit rate.

    Arguments
    ---------
    kilobits : float
        A second: 40, 48, 56, 64, 80, 96, 112, 128, 144 or 160. Files of lower rates do not say
        where their sound begins.

    Example
    -------
    >>> MP3(64)(0.1 * torch.randn(1, 16000), torch.ones(1)).shape
    torch.Size([1, 16000])
    """

    def __init__(self, kilobits: float) -> None:
        if not 40 <= kilobits <= 160:
            raise ValueError(f"kilobits must be from 40 to 160, got {kilobits}")
        level = (160 - kilobits) / 152  # of libsndfile, at 16 kHz
        kind = {"compression_level": level, "bitrate_mode": "CONSTANT"}
        super().__init__("MP3", "MPEG_LAYER_III", **kind)


def codecs() -> list[nn.Module]:
    """Each codec that crops are drawn to go through."""
    return [G711("ULAW"), G711("ALAW"), Codec("MP3", "MPEG_LAYER_III"), Codec("OGG", "OPUS")]
