"""The weights that a training begins with.

In this order: a checkpoint of the training itself; ``start_from``, whose classifier comes along
where it knows all speakers; ``front_end_start`` and ``classifier_start`` for what that has not
given; chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.logger import get_logger
from torch import Tensor
from torch.nn import Module

from speechbrain_ext.errors import UserError
from speechbrain_ext.systems.experiment import (
    WEIGHTS,
    read_labels,
    tensors_sha256,
)
from speechbrain_ext.systems.weights import differences, read_tensors
from speechbrain_ext.training.checkpoints import TRAINED

logger = get_logger(__name__)
LABELS = ("label_encoder.txt", "label_encoder.ckpt")
# Settings of a front end, by the keys of hparams/shared/ssl.yaml where they have another name.
FRONT_END_KEYS = {"channels": "conv_channels", "bias": "conv_bias"}
FRONT_END_KEYS |= {"layer_norm": "conv_layer_norm", "normalize": "normalize_wav"}


class Start(NamedTuple):
    """Weights that a training can begin with.

    Arguments
    ---------
    path : Path
        File of the network's weights.
    network : dict
        The network's tensors by name.
    classifier : dict
        The classifier's, where it is known whose row each is; otherwise empty.
    speakers : dict
        The row of each speaker.
    """

    path: Path
    network: dict[str, Tensor]
    classifier: dict[str, Tensor]
    speakers: dict[str, int]

    def sha256(self) -> str:
        """A hash of all of it."""
        rows = {f"speaker {name}": torch.tensor(row) for name, row in self.speakers.items()}
        classifier = {f"classifier {name}": value for name, value in self.classifier.items()}
        return tensors_sha256({**self.network, **classifier, **rows})


def read_start(source: str) -> Start:
    """Read what ``start_from`` names; no YAML is executed.

    Arguments
    ---------
    source : str
        The folder of a finished training, the folder of an exported model or of one of
        SpeechBrain's, or a file of a network's weights (``.safetensors``, or what ``torch.save``
        made of a state dict).

    Raises
    ------
    UserError
        When it is none of these.
    """
    path = Path(source)
    if path.is_file():
        return Start(path, read_tensors(path, "start_from: "), {}, {})
    for folder, kind in ((path / WEIGHTS, "safetensors"), (path, "ckpt")):
        network, classifier = (folder / f"{name}.{kind}" for name in TRAINED)
        if network.is_file():
            labels = [path for path in (folder / name for name in LABELS) if path.is_file()]
            if labels and classifier.is_file():
                speakers = read_labels(labels[0]).lab2ind
                return Start(
                    network,
                    read_tensors(network, "start_from: "),
                    read_tensors(classifier, "start_from: "),
                    speakers,
                )
            return Start(network, read_tensors(network, "start_from: "), {}, {})
    raise UserError(
        f"start_from: {source} has no finished training and is no model: give the folder of a "
        "finished training, of an export or of a SpeechBrain model (with embedding_model.ckpt), or "
        "a file of weights",
        code="not-a-model",
    )


def start_from(hparams: SimpleNamespace, speakers: CategoricalEncoder) -> set[str]:
    """Begin with the weights that ``start_from`` names, if it names any.

    Those of the classifier as well, where it knows all the speakers.

    Arguments
    ---------
    hparams : SimpleNamespace
        Has ``start_from``, the networks, and perhaps ``classifier_start``.
    speakers : CategoricalEncoder
        The labels of the training.

    Returns
    -------
    set of str
        Which of ``embedding_model`` and ``classifier`` have their first weights.

    Raises
    ------
    UserError
        When the weights are another network's.
    """
    if hparams.start_from is None:
        return set()
    start = read_start(hparams.start_from)
    own = hparams.embedding_model.state_dict()
    found = renamed(start.network, own)
    if different := differences(found, own):
        raise UserError(
            f"start_from: {start.path} is of another network than the YAML's: {different[0]} "
            f"({len(different)} differences in all): choose the YAML of its network, and give the "
            "sizes that it was trained with as --key value",
            code="other-network",
        )
    hparams.embedding_model.load_state_dict(found)
    if hparams.classifier is None:
        logger.info(f"Begins with the network of {start.path}")
        return {"embedding_model"}
    unused = getattr(hparams, "classifier_start", None) is not None
    if _take_classifier(start, hparams.classifier, speakers):
        rest = ": classifier_start is not used" if unused else ""
        logger.info(
            f"Begins with the network of {start.path} and with its classifier, which knows all "
            f"speakers of {hparams.train_csv}{rest}"
        )
        return set(TRAINED)
    first = "by classifier_start" if unused else "at random"
    logger.info(
        f"Begins with the network of {start.path}; the speakers of {hparams.train_csv} have no "
        f"classifier there, a new one begins {first}"
    )
    return {"embedding_model"}


def start_front_end(hparams: SimpleNamespace) -> None:
    """Give the student's convolutions the weights of ``front_end_start``, if there is one.

    Raises
    ------
    ValueError
        When that has none, or others.
    """
    source = getattr(hparams, "front_end_start", None)
    if source is None:
        return
    if not hasattr(source, "front_end_settings"):
        raise ValueError(
            f"front_end_start: {type(source).__name__} has no convolutions that a student can "
            "begin with: the teacher must be a WavLM, HuBERT or wav2vec 2.0, fine-tuned by "
            "hparams/ssl/wavlm_finetuned.yaml or as it is"
        )
    front_end = hparams.embedding_model.front_end
    for key, value in source.front_end_settings.items():
        own = front_end.settings[key]
        if own != value:
            raise ValueError(
                f"front_end_start: the teacher's front end has {key} {value} and the student's "
                f"{own}: set {FRONT_END_KEYS.get(key, key)} to the teacher's, or front_end_start "
                "to null"
            )
    front_end.load_state_dict(source.front_end_state())


def start_classifier(
    hparams: SimpleNamespace, speakers: CategoricalEncoder, device: str | torch.device
) -> None:
    """Give the classifier the rows of ``classifier_start``, if there is one.

    Arguments
    ---------
    hparams : SimpleNamespace
        Has ``classifier_start``, ``classifier`` and ``train_csv``.
    speakers : CategoricalEncoder
        The labels of the training.
    device : str or device
        Where a teacher is computed.

    Raises
    ------
    ValueError
        When they are of another size.
    """
    if hparams.classifier_start is None:
        return
    names = names_of(speakers)
    weights = hparams.classifier_start.weights(hparams.train_csv, names, device)
    own = hparams.classifier.weight
    if weights.shape == own.shape:
        with torch.no_grad():
            own.copy_(weights)
    elif weights.shape == (len(own), own.shape[-1]):  # of a speaker with several centres
        hparams.classifier.start_at(weights)
    else:
        raise ValueError(
            f"classifier_start gives weights of shape {tuple(weights.shape)}, and the classifier "
            f"has {tuple(own.shape)}: set lin_neurons to the teacher's, and sub_centers where "
            "there are some"
        )


def names_of(speakers: CategoricalEncoder) -> list[str]:
    """The speakers by their numbers."""
    return [speakers.ind2lab[label] for label in range(len(speakers))]


def _take_classifier(start: Start, classifier: Module, speakers: CategoricalEncoder) -> bool:
    """Give the classifier its speakers' rows of another, where that has all of them."""
    if not start.speakers or not speakers.lab2ind.keys() <= start.speakers.keys():
        return False
    rows = [start.speakers[name] for name in names_of(speakers)]
    own = classifier.state_dict()
    if start.classifier.keys() != own.keys():
        return False
    if any(value.shape[:1] != (len(start.speakers),) for value in start.classifier.values()):
        return False  # some of it is no row of a speaker
    taken = {name: value[rows] for name, value in start.classifier.items()}
    if differences(taken, own):
        return False
    classifier.load_state_dict(taken)
    return True


def renamed(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by the network's own names, where one network is a part of the other."""
    first = next(iter(own), "")
    for name in state:
        if name.endswith(first):  # in a larger one, as an exported folder's
            outer = name.removesuffix(first)
            inside = {n.removeprefix(outer): v for n, v in state.items() if n.startswith(outer)}
            if inside.keys() == own.keys():
                return inside
        if first.endswith(name):  # wrapped here, as a network of SpeechBrain's
            outer = first.removesuffix(name)
            wrapped = {outer + n: v for n, v in state.items()}
            if wrapped.keys() == own.keys():
                return wrapped
    return state
