"""The teacher's view of the training speakers: a row for each, as a classifier has them.

A student that distils and classifies is pulled two ways for as long as its classifier has not found
the places where the teacher's embeddings put the speakers. With these rows as its first weights it
begins there. Label-level distillation makes the teacher's logits of them. Both classes are
:class:`~speechbrain_ext.interfaces.SpeakerRows`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from speechbrain.dataio.encoder import CategoricalEncoder
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.corpora.speeds import at_speed
from speechbrain_ext.distill.embedding_cache import Windows, cached_embeddings
from speechbrain_ext.errors import UserError
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.systems.experiment import (
    WEIGHTS,
    read_labels,
    tensors_sha256,
    weights_sha256,
)


class TeacherClassifier:
    """The weights of the classifier that the teacher was trained with.

    Arguments
    ---------
    folder : str or path
        The teacher's experiment folder.

    Example
    -------
    >>> from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    >>> from speechbrain_ext.systems.experiment import save_weights
    >>> folder, speakers = getfixture("tmp_path"), CategoricalEncoder()
    >>> _ = save_weights(folder, Classifier(16, out_neurons=2), {}, "classifier")
    >>> speakers.update_from_iterable(["ann", "bob"])
    >>> speakers.save(folder / "save" / "label_encoder.txt")
    >>> TeacherClassifier(folder).weights("train.csv", ["bob"]).shape
    torch.Size([1, 16])
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def weights(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.SpeakerRows`, on the CPU.

        Nothing is embedded: the manifest and the device are not used.

        Raises
        ------
        UserError
            When the folder has no classifier that was trained on speakers by name.
        ValueError
            When the teacher was not trained on one of the speakers.
        """
        weight, labels = self._read()
        unknown = [speaker for speaker in speakers if speaker not in labels.lab2ind]
        if unknown:
            raise ValueError(
                f"the teacher of {self.folder} was not trained on {unknown[0]} ({len(unknown)} of "
                f"{len(speakers)} speakers are new to it), so its classifier has no row for them: "
                "train it on the same speakers and speeds, or use SpeakerMeans"
            )
        rows = weight[[labels.lab2ind[speaker] for speaker in speakers]].float()
        return F.normalize(rows, dim=-1)

    def sha256(self) -> str:
        """A hash of the classifier, each row by its speaker."""
        weight, labels = self._read()
        return tensors_sha256({speaker: weight[row] for speaker, row in labels.lab2ind.items()})

    def _read(self) -> tuple[Tensor, CategoricalEncoder]:
        path = self.folder / WEIGHTS / "classifier.safetensors"
        try:
            weight = load_file(path)["weight"]
            labels = read_labels(path.with_name("label_encoder.txt"))
            if len(weight) != len(labels):
                raise ValueError(f"{len(weight)} rows, {len(labels)} speakers")
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise UserError(
                f"{path} and the label_encoder.txt beside it are not the classifier of a trained "
                f"teacher ({error}): use SpeakerMeans, or name another folder",
                code="damaged-file",
            ) from None
        return weight, labels


class SpeakerMeans:
    """The mean of the teacher's embeddings of each training speaker, at each speed.

    The embeddings, of whole utterances, have unit length in the mean. A
    :class:`~speechbrain_ext.distill.cached_teacher.CachedTeacher` without windows shares their
    cache.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The teacher's network.
    path : str or path
        A folder of caches, as a :class:`~speechbrain_ext.distill.cached_teacher.CachedTeacher` has.
    speeds : sequence of float
        Those of the training, 1 among them: each makes speakers of its own.
    max_batch_seconds : float
        Speech in a batch of whole utterances, padding included.
    num_workers : int
        Processes that read audio while the cache is made.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", torch.randn(16000).numpy(), 16000)
    >>> text = f"ID,duration,wav,start,stop,spk_id\\na,1.0,{folder}/a.wav,0,16000,ann\\n"
    >>> _ = (folder / "train.csv").write_text(text)
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=1))
    >>> means = SpeakerMeans(encoder, folder / "cache")
    >>> round(float(means.weights(folder / "train.csv", ["ann"]).norm()), 4)
    1.0
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        path: str | os.PathLike[str],
        speeds: Sequence[float] = (1.0,),
        max_batch_seconds: float = 60.0,
        num_workers: int = 0,
    ) -> None:
        self.encoder = encoder.eval()
        self.path = path
        self.speeds = speeds
        self.max_batch_seconds = max_batch_seconds
        self.num_workers = num_workers

    def weights(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.SpeakerRows`, on the CPU.

        Raises
        ------
        UserError
            When the cache was made from other weights, another manifest or other features.
        ValueError
            When a speaker has no utterance in the manifest.
        """
        windows = Windows(manifest, self.speeds)
        own, of_utterance = windows.manifest.speakers, windows.manifest.speaker_index
        names = [at_speed(speaker, speed) for speed in windows.speeds for speaker in own]
        number = {name: place for place, name in enumerate(names)}
        unknown = [speaker for speaker in speakers if speaker not in number]
        if unknown:
            raise ValueError(
                f"{manifest} has no utterance of {unknown[0]} at the speeds {windows.speeds}, and "
                "its mean is needed: give SpeakerMeans the speeds of the training"
            )
        vectors = cached_embeddings(
            self.encoder.to(device), windows, self.path, self.max_batch_seconds, self.num_workers
        )
        self.encoder.cpu()
        unit = F.normalize(torch.from_numpy(vectors))
        labelled = np.flatnonzero(of_utterance >= 0)
        # A row for each utterance at the first speed, then for each at the next.
        turns = range(len(windows.speeds))
        places = np.concatenate([labelled + k * len(of_utterance) for k in turns])
        owners = np.concatenate([of_utterance[labelled] + k * len(own) for k in turns])
        order = places[np.argsort(owners, kind="stable")]
        counts = np.bincount(owners, minlength=len(names))
        rows = np.split(order, np.cumsum(counts)[:-1])  # of each speaker
        means = [unit[rows[number[speaker]]].mean(0) for speaker in speakers]
        return F.normalize(torch.stack(means))

    def sha256(self) -> str:
        """A hash of the teacher's weights."""
        return weights_sha256(self.encoder)
