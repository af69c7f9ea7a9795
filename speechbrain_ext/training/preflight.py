"""What is tried before a training: trials, audio, networks, augmentation, terms of the loss.

What would fail later is told at once, not an epoch later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from speechbrain.utils.logger import get_logger
from torch import Tensor, nn

from speechbrain_ext.audio import read_utterance
from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.distill.objective import check_weights
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.sound import AudioFault, read_header
from speechbrain_ext.training.augmentation import Augmentation
from speechbrain_ext.training.crops import CropReader
from speechbrain_ext.training.schedules import RateByPlace, on_plateau
from speechbrain_ext.verification.trials import TrialList
from speechbrain_ext.workers import in_threads

logger = get_logger(__name__)
REMEDY = "mount or mend the folder, or run stage 1 again"
HEARS = ("clean", "corrupted")


def check_training(
    hparams: SimpleNamespace, trials: TrialList, encoder: SpeakerEncoder, device: str | torch.device
) -> None:
    """Refuse what every training needs and has not; the networks are in eval mode afterwards.

    Arguments
    ---------
    hparams : SimpleNamespace
        Settings and classes of the YAML.
    trials : TrialList
        What ``valid_trials`` holds.
    encoder : SpeakerEncoder
        The network that is trained, with its front end.
    device : str or device
        Where the networks are.

    Raises
    ------
    UserError, ValueError
        As the checks below.
    """
    check_rate(hparams)
    check_trials(hparams.valid_trials, trials, hparams.valid_csv)
    check_train_audio(hparams.train_csv, hparams.num_workers)
    check_valid_audio(hparams.valid_csv, hparams.num_workers)
    reader = hparams.crop_reader
    check_networks(encoder, hparams.classifier, reader, device)
    check_augmentation(hparams.augmentation, encoder, reader.samples, device)
    if getattr(hparams, "noise_probability", None):
        folders = [getattr(hparams, key, None) for key in ("noise_folder", "rir_folder")]
        if folders == [None, None]:
            logger.warning(
                f"noise_probability {hparams.noise_probability} does nothing: neither "
                "--noise_folder nor --rir_folder is given"
            )


def check_rate(hparams: SimpleNamespace) -> None:
    """Refuse a rate by the place in the training where the EER is to choose it."""
    anneal = getattr(hparams, "anneal", None)
    by_eer = getattr(anneal, "func", anneal) is on_plateau
    if by_eer and isinstance(hparams.lr_annealing, RateByPlace):
        raise UserError(
            f"lr_annealing {type(hparams.lr_annealing).__name__} follows from the place in the "
            "training, and anneal on_plateau lowers the rate by what selects the best epoch: leave "
            "lr_annealing as the YAML has it, or choose a system without anneal",
            code="bad-setting",
        )


def check_labels(hparams: SimpleNamespace, learns_unlabelled: bool) -> None:
    """Refuse labels without a use, a use without labels, and a loss that they leave incomplete.

    Arguments
    ---------
    hparams : SimpleNamespace
        Has ``train_csv``, ``classifier`` and, of a student, ``objective``, ``freeze_classifier``
        and ``classifier_start``.
    learns_unlabelled : bool
        Whether the training learns from speech without labels.

    Raises
    ------
    UserError
        Naming what to change.
    """
    labelled = bool(read_manifest(hparams.train_csv).speakers)
    if not labelled and not learns_unlabelled:
        raise UserError(
            f"{hparams.train_csv} has no labelled speech, and without a teacher there is nothing "
            "else to learn from: give labelled speech, or a student a teacher (run.sh: --data, "
            "--teacher_model)",
            code="no-labels",
        )
    if hparams.classifier is not None:
        if not labelled:
            remedy = "give labelled speech (run.sh: --data)"
            if (objective := getattr(hparams, "objective", None)) is not None:
                rest = 1 - sum(objective.term_weights.values())
                remedy = f"leave it out, by --classifier null --alpha {rest:g}"
            raise UserError(
                f"{hparams.train_csv} has no labelled speech, which the classifier would learn "
                f"from: {remedy}",
                code="no-labels",
            )
        return
    objective = getattr(hparams, "objective", None)
    if objective is None:
        raise UserError(
            "classifier is null, and the training with labels alone trains nothing else: leave the "
            "YAML's classifier as it is",
            code="bad-setting",
        )
    alpha, weights = objective.alpha, objective.term_weights
    try:
        check_weights(alpha.least, alpha.maximum, weights, classifies=False)
    except ValueError as error:
        raise UserError(str(error), code="bad-setting") from None
    for key, idle in (("classifier_start", None), ("freeze_classifier", False)):
        if getattr(hparams, key) != idle:
            raise UserError(
                f"classifier is null, so {key} has nothing to act on: set it to "
                f"{'null' if idle is None else idle}, or give a classifier",
                code="bad-setting",
            )


def check_trials(path: str, trials: TrialList, manifest: str) -> None:
    """Refuse trials of utterances that will have no embedding.

    Arguments
    ---------
    path : str
        The list, for the message.
    trials : TrialList
        What it holds.
    manifest : str
        The utterances that are embedded.

    Raises
    ------
    UserError
        Naming one.
    """
    names = trials.utterances
    unknown = np.flatnonzero(read_manifest(manifest).ids.find(names) < 0)
    if len(unknown):
        raise UserError(
            f"{path}: {len(unknown)} utterances are not in {manifest}, {names[unknown[0]]} for "
            "one: run stage 1 again, which makes both",
            code="unknown-utterance",
        )


def check_train_audio(path: str, threads: int) -> None:
    """Refuse a manifest with a speaker none of whose files can be opened.

    A folder that is not mounted, say. All unlabelled speech is as one speaker's. A file here and
    there is ``max_unreadable``'s affair.

    Arguments
    ---------
    path : str
        The manifest.
    threads : int
        Files looked at at a time.

    Raises
    ------
    UserError
        Naming a speaker, a file and the reason.
    """
    manifest = read_manifest(path)
    speakers, places = np.unique(manifest.speaker_index, return_index=True)
    wavs = [manifest.wavs[place] for place in places.tolist()]
    firsts = dict(zip(speakers.tolist(), wavs, strict=True))
    faults = _faults(read_header, [(wav,) for wav in wavs], threads)
    lost = {speaker for speaker, wav in firsts.items() if wav in faults}
    for place, speaker in enumerate(manifest.speaker_index.tolist()) if lost else ():
        if speaker in lost and _fault(read_header, manifest.wavs[place]) is None:
            lost.remove(speaker)
    if -1 in lost:
        raise UserError(
            f"{path}: none of its unlabelled files can be read ({firsts[-1]}: "
            f"{faults[firsts[-1]]}): {REMEDY}",
            code="unusable-audio",
        )
    if lost:
        wav = firsts[min(lost)]
        raise UserError(
            f"{path}: {len(lost)} of {len(manifest.speakers)} speakers have no file that can be "
            f"read, {manifest.speakers[min(lost)]} for one ({wav}: {faults[wav]}): {REMEDY}",
            code="unusable-audio",
        )


def check_valid_audio(path: str, threads: int) -> None:
    """Refuse a manifest with a file that cannot be embedded; each is read whole.

    Arguments
    ---------
    path : str
        The manifest.
    threads : int
        Files read at a time.

    Raises
    ------
    UserError
        Naming a file and the reason.
    """
    utterances = read_manifest(path)
    starts, stops = utterances.starts.tolist(), utterances.stops.tolist()
    sections = zip(utterances.wavs, starts, stops, strict=True)
    faults = _faults(read_utterance, sections, threads)
    if faults:
        wav, why = next(iter(faults.items()))
        raise UserError(
            f"{path}: {len(faults)} of {len(set(utterances.wavs))} files cannot be used ({wav}: "
            f"{why}): {REMEDY}",
            code="unusable-audio",
        )


def noise(samples: int, device: str | torch.device) -> Tensor:
    """Two waveforms of noise (2, samples); the random state is left alone."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, samples), generator=generator).to(device)


@torch.no_grad()
def check_networks(
    encoder: SpeakerEncoder,
    classifier: nn.Module | None,
    reader: CropReader,
    device: str | torch.device,
) -> None:
    """Refuse networks that do not keep the contract, or do not fit crops or one another.

    Arguments
    ---------
    encoder : SpeakerEncoder
        Put into eval mode.
    classifier : Module, optional
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
            f"({str(error).splitlines()[0]}): raise it",
            code="bad-setting",
        ) from None
    if classifier is None:
        return
    try:
        classifier.eval()(embeddings)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise UserError(
            f"the network gives embeddings of {encoder.embedding_size} numbers, which the "
            f"classifier does not take ({str(error).splitlines()[0]}): give both one lin_neurons",
            code="bad-setting",
        ) from None


@torch.no_grad()
def check_augmentation(
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
        for kind in augmentation.kinds:
            kind(wavs, torch.ones(len(wavs), device=wavs.device))
        if mixing := augmentation.mixing(len(wavs), wavs.device):
            wavs = mixing(wavs)
        feats = encoder.compute_features(wavs)
        encoder.embedding_model(augmentation.features(encoder.mean_var_norm(feats)))
        for front_end in augmentation.front_ends:
            other = front_end(wavs)
            if other.shape[2:] != feats.shape[2:]:
                raise ValueError(
                    f"front_ends: one of them gives {tuple(other.shape[2:])} features a frame, and "
                    f"compute_features {tuple(feats.shape[2:])}: give all one n_mels"
                )


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
        raise UserError(
            "batch_size 1 leaves batch normalisation no statistics: give 2 or more",
            code="bad-setting",
        )
    if crops < batch_size * processes:
        raise UserError(
            f"train_csv gives {crops} crops an epoch, fewer than one batch of {batch_size} in "
            f"{processes} process(es): lower --batch_size or raise --crops_per_utterance",
            code="bad-setting",
        )
    if batches < accumulated:
        raise UserError(
            f"grad_accumulation_factor {accumulated} is more than the {batches} batches of an "
            "epoch, so no step would be made: lower it or --batch_size",
            code="bad-setting",
        )


def check_teacher(hparams: SimpleNamespace) -> None:
    """Refuse a teacher that cannot hear what it shall, and a loss that listens to none.

    Arguments
    ---------
    hparams : SimpleNamespace
        Has ``teacher``, ``teacher_hears``, ``objective``, ``classifier`` and ``mixup``.

    Raises
    ------
    UserError
        Naming what to change.
    """
    if hparams.teacher_hears not in HEARS:
        raise UserError(
            f"teacher_hears must be {' or '.join(HEARS)}, got {hparams.teacher_hears!r}",
            code="bad-setting",
        )
    if hparams.teacher is None:
        if hparams.objective.needs_teacher:
            raise UserError(
                "teacher is null, but the loss listens to one: set alpha to 0 and leave out "
                "terms that need it, or name a teacher",
                code="no-teacher",
            )
    if hparams.classifier is None and not getattr(hparams.teacher, "embeds_speakers", False):
        raise UserError(
            "classifier is null, and there is no teacher with embeddings of speakers: nothing "
            "would teach the student one, so give a classifier and labelled speech, or a teacher "
            "that was trained on speakers",
            code="no-teacher",
        )
    if hparams.teacher is not None and not hparams.teacher.hears_crop:
        for key, value in {"mixup": 0, "teacher_hears": "clean"}.items():
            if getattr(hparams, key) != value:
                raise UserError(
                    f"{type(hparams.teacher).__name__} gives embeddings of the speech as it is, so "
                    f"it cannot follow {key} {getattr(hparams, key)}: use FrozenTeacher, or "
                    f"{key} {value}",
                    code="bad-setting",
                )


def check_terms(compute: Callable[[], Mapping[str, Any]]) -> None:
    """Refuse a loss that cannot be computed, or with terms that are no finite scalars.

    Example
    -------
    >>> check_terms(lambda: {"classification": torch.tensor(1.0)})
    """
    try:
        terms = compute()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the loss cannot be computed ({str(error).splitlines()[0]}): mend its terms, "
            "distillation among them, or the layers that they are given"
        ) from error
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.dim() or not value.isfinite():
            raise ValueError(f"the term {name} of the loss gives {value}, not a finite scalar")


def _faults(
    read: Callable[..., Any], sections: Iterable[tuple[Any, ...]], threads: int
) -> dict[str, str]:
    """The paths that cannot be read, each with what else ``read`` is given, and why."""

    def fault(section: tuple[Any, ...]) -> tuple[str, str | None]:
        return section[0], _fault(read, *section)

    with in_threads(fault, sections, threads) as results:
        return {path: why for path, why in results if why is not None}


def _fault(read: Callable[..., Any], *section: Any) -> str | None:
    try:
        read(*section)
    except AudioFault as fault:
        return fault.detail
    return None
