"""Networks tried on noise before they are trained: what would fail later is told at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechbrain_ext.audio import SAMPLE_RATE
from speechbrain_ext.errors import UserError
from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.training.augmentation import Augmentation
from speechbrain_ext.training.crops import CropReader


def noise(samples: int, device: str | torch.device) -> Tensor:
    """Two waveforms of noise (2, samples); the random state is left alone."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, samples), generator=generator).to(device)


def check_steps(
    crops: int, batch_size: int, processes: int, batches: int, accumulated: int
) -> None:
    """Refuse an epoch in which no step would be made, or one with nothing to normalise by.

    Arguments
    ---------
    crops : int
        Of an epoch.
    batch_size, processes : int
        Crops of a batch in each process, and these.
    batches : int
        Of an epoch, in each process.
    accumulated : int
        Batches of a step.

    Raises
    ------
    UserError
        Naming what to change.

    Example
    -------
    >>> check_steps(crops=24, batch_size=4, processes=1, batches=6, accumulated=6)
    """
    if batch_size * processes < 2:
        raise UserError("batch_size 1 leaves batch normalisation no statistics: give 2 or more")
    if crops < batch_size * processes:
        raise UserError(
            f"train_csv gives {crops} crops an epoch, fewer than one batch of {batch_size} in "
            f"{processes} process(es): lower --batch_size or raise --crops_per_utterance"
        )
    if batches < accumulated:
        raise UserError(
            f"grad_accumulation_factor {accumulated} is more than the {batches} batches of an "
            "epoch, so no step would be made: lower it or --batch_size"
        )


@torch.no_grad()
def rehearse(
    encoder: SpeakerEncoder, classifier: nn.Module, reader: CropReader, device: str | torch.device
) -> None:
    """Refuse networks that do not keep the contract, or do not fit crops or one another.

    Arguments
    ---------
    encoder : SpeakerEncoder
        Put into eval mode.
    classifier : Module
        Put into eval mode; maps embeddings (B, 1, D).
    reader : CropReader
        Of the crops that are trained on.
    device : str or device
        Where the networks are.

    Raises
    ------
    ValueError
        When the encoder breaks the contract; see ``check_encoder``.
    UserError
        When crops are too short, or the classifier does not take the embeddings.
    """
    # A short crop says nothing of padding.
    check_encoder(encoder, noise(max(reader.samples, SAMPLE_RATE), device))
    try:
        embeddings = encoder(noise(reader.samples, device))
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"crop_seconds {reader.samples / SAMPLE_RATE:g} is too short for the network "
            f"({str(error).splitlines()[0]}): raise it"
        ) from None
    try:
        classifier.eval()(embeddings)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise UserError(
            f"the network gives embeddings of {encoder.embedding_size} numbers, which the "
            f"classifier does not take ({str(error).splitlines()[0]}): give both one lin_neurons"
        ) from None


@torch.no_grad()
def rehearse_augmentation(
    augmentation: Augmentation, encoder: SpeakerEncoder, samples: int, device: str | torch.device
) -> None:
    """Corrupt noise in every way that training may, and embed it; the random state is left alone.

    Arguments
    ---------
    augmentation : Augmentation
        Of the crops that are trained on.
    encoder : SpeakerEncoder
        In eval mode.
    samples : int
        Of a crop.
    device : str or device
        Where the networks are.

    Raises
    ------
    ValueError
        When a kind of corruption does not suit the network.
    UserError
        When a file of noise or reverberation cannot be read.
    """
    wavs = noise(samples, device)
    with torch.random.fork_rng(devices=[]):
        for corruption in augmentation.corruptions:
            corruption(wavs, torch.ones(len(wavs), device=wavs.device))
        if mixing := augmentation.mixing(len(wavs), wavs.device):
            wavs = mixing(wavs)
        feats = encoder.mean_var_norm(encoder.compute_features(wavs))
        encoder.embedding_model(augmentation.features(feats))
