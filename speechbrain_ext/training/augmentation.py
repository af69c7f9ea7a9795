"""What is done to the crops of a training step so that no two epochs hear the same.

The corruption is that of ``speechbrain.augment``. What it draws comes from torch's generators
alone, and its files are chosen anew at every step: SpeechBrain's own readers of noise and impulse
responses walk through a shuffled list, and a training that is killed forgets where they stood.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from speechbrain.augment.freq_domain import SpectrogramDrop
from speechbrain.augment.time_domain import AddNoise, Resample
from speechbrain.dataio import audio_io
from speechbrain.processing.signal_processing import reverberate
from torch import Tensor, nn

from speechbrain_ext.channels.transmission import Gain, NarrowBand, codecs
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.interfaces import FrontEnd

_EXTENSIONS = {".wav", ".flac"}
#: SNR in dB by kind of noise, as in voxceleb_trainer.
_SNRS = {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}
#: Longest masks of SpecAugment, as in the ECAPA-TDNN paper (crops of 2 s, 80 bands).
_MASKED_FRAMES, _MASKED_BANDS = 5, 10


class Mixing(NamedTuple):
    """How the crops of a batch are mixed: each with the one that stands there in another order."""

    order: Tensor  # (B,)
    share: float  # of the crop itself

    def __call__(self, x: Tensor) -> Tensor:
        """Mix a tensor (B, ...)."""
        return self.share * x + (1 - self.share) * x[self.order]


class Choice(nn.Module):
    """Changes some crops of a batch, each in one of several ways that are equally likely.

    Arguments
    ---------
    kinds : iterable of Module
        The ways, each from crops (B, samples) and relative lengths (B,) to crops.
    probability : float, optional
        Of a crop to be changed. By default it stays as it is as often as it is changed in any one
        way.

    Example
    -------
    >>> choice = Choice([Gain()], probability=0.25)
    >>> changed = (choice(torch.ones(400, 8)) != 1).all(dim=1)
    >>> bool(0.15 < changed.float().mean() < 0.35)
    True
    """

    def __init__(self, kinds: Iterable[nn.Module], probability: float | None = None) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(kinds)
        self.probability = probability

    def forward(self, wavs: Tensor) -> Tensor:
        """Change some of the crops (B, samples)."""
        kinds, batch = len(self.kinds), len(wavs)
        if self.probability is None:
            fates = torch.randint(kinds + 1, (batch,))
        else:
            chosen = torch.rand(batch) < self.probability
            fates = torch.where(chosen, torch.randint(kinds, (batch,)), kinds)
        changed = wavs.clone()
        for number, kind in enumerate(self.kinds):
            rows = (fates == number).nonzero().squeeze(1).to(wavs.device)
            if len(rows):
                changed[rows] = kind(wavs[rows], torch.ones(len(rows), device=wavs.device))
        return changed


class Augmentation(nn.Module):
    """Corrupts crops by noise, reverberation, level, band, codecs, SpecAugment and mixup.

    A crop stays clean, is reverberated, or takes noise of one kind. In a folder laid out as MUSAN,
    what lies below ``music`` or ``speech`` is of that kind and quieter (5 to 15 dB, 13 to 20 dB)
    than noise (0 to 15 dB). Kinds and SNRs are those of voxceleb_trainer, but for speech, of which
    one voice is added and not several. Files may be of any sample rate; of several channels, the
    first is used. What a crop goes through then is drawn for each step apart: a gain, the band of a
    telephone, a codec (G.711 by μ-law or by A-law, MP3 or Opus).

    Arguments
    ---------
    noise_folder : str, optional
        Folder whose .wav and .flac files, at any depth, are added to crops: MUSAN.
    rir_folder : str, optional
        Folder of impulse responses, likewise: ``simulated_rirs`` of RIRS_NOISES.
    noise_probability : float, optional
        Of a crop to take noise or to be reverberated, all kinds equally likely. By default it stays
        clean as often as it is of any one kind, as in voxceleb_trainer.
    gain_probability, band_limit_probability, codec_probability : float
        Of a crop to be scaled, to lose what is above 4 kHz, to go through a codec; 0 is off.
    front_ends : sequence of FrontEnd, optional
        Others, of which each batch takes one by chance in place of the network's own, which may be
        among them. None is off.
    spec_augment : bool
        Whether features lose up to 5 frames and up to 10 bands in a row, as in the ECAPA-TDNN
        paper (arXiv 2005.07143) after SpecAugment (arXiv 1904.08779).
    mixup : float
        Both parameters of the Beta distribution by which crops mix (arXiv 1710.09412); 0 is off.

    Raises
    ------
    ValueError
        When a folder holds no audio, a probability is not in [0, 1], or mixup is negative.

    Example
    -------
    >>> augmentation = Augmentation(spec_augment=True, mixup=0.2)
    >>> augmentation.features(torch.randn(4, 201, 80)).shape
    torch.Size([4, 201, 80])
    >>> wavs = torch.randn(4, 32000)
    >>> augmentation.mixing(len(wavs), wavs.device)(wavs).shape
    torch.Size([4, 32000])
    >>> augmentation.waveforms(wavs) is wavs
    True
    """

    def __init__(
        self,
        noise_folder: str | None = None,
        rir_folder: str | None = None,
        spec_augment: bool = False,
        mixup: float = 0.0,
        noise_probability: float | None = None,
        gain_probability: float = 0.0,
        band_limit_probability: float = 0.0,
        codec_probability: float = 0.0,
        front_ends: Sequence[FrontEnd] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= mixup < math.inf:
            raise ValueError(f"mixup must be 0 or positive, got {mixup}")
        self.mixup = mixup
        self.front_ends = nn.ModuleList(front_ends or [])
        corruptions: list[nn.Module] = []
        if noise_folder is not None:
            files = audio_files("noise_folder", noise_folder)
            for kind, snrs in _SNRS.items():
                of_kind = [file for file in files if _kind(file, noise_folder) == kind]
                if of_kind:
                    draw = _Noises(of_kind)
                    low, high = snrs
                    corruptions.append(AddNoise(snr_low=low, snr_high=high, noise_funct=draw))
        if rir_folder is not None:
            files = audio_files("rir_folder", rir_folder)
            corruptions.append(_Reverberation(files))
        # In the order in which they happen to a recording
        choices: list[tuple[str, float | None, list[nn.Module]]] = [
            ("noise_probability", noise_probability, corruptions),
            ("gain_probability", gain_probability, [Gain()]),
            ("band_limit_probability", band_limit_probability, [NarrowBand()]),
            ("codec_probability", codec_probability, codecs() if codec_probability else []),
        ]
        self.choices = nn.ModuleList()
        for key, probability, kinds in choices:
            if probability is not None and not 0 <= probability <= 1:
                raise ValueError(f"{key} must be in [0, 1], got {probability}")
            if kinds and probability != 0:
                self.choices.append(Choice(kinds, probability))
        self.masks = nn.Sequential()
        if spec_augment:
            for dim, longest in ((1, _MASKED_FRAMES), (2, _MASKED_BANDS)):
                # Lengths end before `drop_length_high`; zero is the mean of normalised features.
                self.masks.append(SpectrogramDrop(0, longest + 1, 1, 1, replace="zeros", dim=dim))

    @torch.no_grad()
    def waveforms(self, wavs: Tensor) -> Tensor:
        """Add noise or reverberation; change level, band and coding.

        Arguments
        ---------
        wavs : Tensor
            Crops (B, samples), all of one length.

        Returns
        -------
        Tensor
            Crops (B, samples); the very same tensor when all of it is off.

        Raises
        ------
        UserError
            When a file of a folder cannot be read.
        """
        for choice in self.choices:
            wavs = choice(wavs)
        return wavs

    @property
    def kinds(self) -> list[nn.Module]:
        """Every way in which crops may be changed."""
        return [kind for choice in self.choices for kind in cast(Choice, choice).kinds]

    def front_end(self, own: FrontEnd) -> FrontEnd:
        """Draw what computes the features of a batch: ``own`` where there are no others."""
        if not self.front_ends:
            return own
        return cast(FrontEnd, self.front_ends[int(torch.randint(len(self.front_ends), ()))])

    def features(self, feats: Tensor) -> Tensor:
        """Mask frames and bands of normalised features (B, T, F).

        Raises
        ------
        ValueError
            When there are none: networks that read waveforms.
        """
        if self.masks and feats.dim() != 3:
            raise ValueError(
                "spec_augment masks frames and bands of features, and this network reads "
                "waveforms: set spec_augment to False"
            )
        # SpectrogramDrop writes into what it is given.
        return self.masks(feats.clone()) if self.masks else feats

    def mixing(self, batch: int, device: torch.device) -> Mixing | None:
        """Draw how a batch of that many crops is mixed; None when mixup is off."""
        if not self.mixup:
            return None
        share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        return Mixing(torch.randperm(batch).to(device), share)


class _Noises:
    """Draws a piece of a noise file for each crop; AddNoise scales and adds it."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __call__(self, wavs: Tensor) -> Tensor:
        batch, samples = wavs.shape
        chosen = torch.randint(len(self.files), (batch,)).tolist()
        places = torch.rand(batch).tolist()
        pieces = [
            _read(self.files[file], samples, place)
            for file, place in zip(chosen, places, strict=True)
        ]
        covering = [piece.repeat(-(-samples // len(piece)))[:samples] for piece in pieces]
        return torch.stack(covering).to(wavs)


class _Reverberation(nn.Module):
    """Gives each crop a room of its own, as AddReverb gives one to a whole batch."""

    def __init__(self, files: list[str]) -> None:
        super().__init__()
        self.files = files

    def forward(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        samples = wavs.shape[1]
        chosen = torch.randint(len(self.files), (len(wavs),)).tolist()
        rooms = [_read(self.files[file], samples) for file in chosen]
        return torch.stack(
            [reverberate(wav, room.to(wav)) for wav, room in zip(wavs, rooms, strict=True)]
        )


def audio_files(key: str, folder: str) -> list[str]:
    """The files below the folder that a key names, sorted."""
    # Links are followed, as large corpora are often put together of them.
    found = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in _EXTENSIONS
    ]
    if not found:
        missing = "holds no .wav or .flac file" if os.path.isdir(folder) else "is not a folder"
        raise ValueError(f"{key}: {folder} {missing}: give a folder with audio, or null for none")
    return sorted(found)


def _kind(file: str, folder: str) -> str:
    below = Path(file).relative_to(folder).parts[:-1]
    return next((part for part in below if part in _SNRS), "noise")


def _read(path: str, samples: int, place: float = 0.0) -> Tensor:
    """So many samples (or what there is) of a file's first channel, from a place in [0, 1)."""
    try:
        info = audio_io.info(path)
        wanted = min(math.ceil(samples * info.sample_rate / SAMPLE_RATE), info.frames)
        first = int(place * (info.frames - wanted + 1))
        signal, rate = audio_io.load(path, frame_offset=first, num_frames=wanted)
    except Exception:  # libsndfile's wrapper raises several kinds
        signal, rate = torch.zeros(1, 0), SAMPLE_RATE
    if signal.shape[1] == 0 or not bool(torch.isfinite(signal).all()):
        raise UserError(
            f"{path} cannot be read, or has no samples: mend it or take it away",
            code="unusable-audio",
        )
    return _resampler(rate)(signal[:1])[0, :samples]


@functools.cache
def _resampler(rate: int) -> Resample:
    return Resample(rate, SAMPLE_RATE)
