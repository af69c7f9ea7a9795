"""Trained models as experiment folders hold them.

An experiment folder has ``hyperparams.yaml``, from which the encoder is built, and
``save/embedding_model.safetensors``, the weights that training selected. HyperPyYAML can run any
code: load a folder only from somebody you trust.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from speechbrain.dataio.encoder import CategoricalEncoder
from torch import Tensor, nn

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.systems.yaml import make_hparams, read_yaml, resolve_hparams

WEIGHTS = Path("save")  # holds embedding_model.safetensors and classifier.safetensors
ENCODER_KEYS = ("compute_features", "mean_var_norm", "embedding_model")
BUILD_ARGUMENTS = "build_arguments"


def save_weights(
    folder: str | os.PathLike[str],
    module: nn.Module,
    metadata: dict[str, str],
    name: str = "embedding_model",
) -> Path:
    """Write weights that later steps read.

    A network that is made from files of its own may say by ``build_arguments`` which arguments make
    it without them; they are kept with the weights, and an experiment folder needs no other.

    Arguments
    ---------
    folder : str or path
        Experiment folder.
    module : Module
        The network to keep.
    metadata : dict
        Where the weights come from, kept in the file's header.
    name : str
        What the network is in the experiment: ``embedding_model`` or ``classifier``.

    Returns
    -------
    Path
        The file written.
    """
    path = Path(folder) / WEIGHTS / f"{name}.safetensors"
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    if hasattr(module, BUILD_ARGUMENTS):
        metadata = metadata | {BUILD_ARGUMENTS: json.dumps(module.build_arguments)}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata=metadata)
    return path


def load_weights(
    folder: str | os.PathLike[str], module: nn.Module, name: str = "embedding_model"
) -> None:
    """Load what :func:`save_weights` wrote into a module of the same shape.

    Raises
    ------
    UserError
        When the training has not finished, or the weights do not fit the module.
    """
    path = _weights_of(folder, name)
    try:
        module.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{path} does not fit the {name} of the YAML: {error}", code="other-network"
        ) from None


def check_trained(folder: str | os.PathLike[str]) -> None:
    """Refuse what :func:`load_encoder` would refuse of a folder, with nothing of it made.

    Raises
    ------
    UserError
        When it is no experiment folder, or holds no finished training.
    """
    encoder_yaml(folder)
    _weights_of(folder, "embedding_model")


def _weights_of(folder: str | os.PathLike[str], name: str) -> Path:
    path = Path(folder) / WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: the training of {folder} has not finished, run it first",
            code="unfinished-training",
        )
    return path


def read_labels(path: str | os.PathLike[str]) -> CategoricalEncoder:
    """The speakers that the rows of the classifier beside a file are of.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    UserError
        When it is damaged.
    """
    labels = CategoricalEncoder()
    try:
        labels.load(path)
    except (ValueError, SyntaxError, KeyError) as error:
        raise UserError(
            f"{path} does not list the speakers of a classifier ({error}): bring it back whole, or "
            "remove it",
            code="damaged-file",
        ) from None
    return labels


def encoder_yaml(folder: str | os.PathLike[str]) -> str:
    """The part of an experiment's ``hyperparams.yaml`` that describes its encoder.

    With the arguments that its weights were kept with, if there are any.

    Raises
    ------
    UserError
        When the file is missing or lacks one of the encoder's parts.
    """
    path, tree = Path(folder) / "hyperparams.yaml", read_hyperparams(folder)
    return _encoder_part(tree, path, _build_arguments(folder))


def read_hyperparams(folder: str | os.PathLike[str]) -> Any:
    """The settings of an experiment folder; none of its classes are made.

    Raises
    ------
    UserError
        When its ``hyperparams.yaml`` is missing or damaged.
    """
    remedy = f"{folder} is not an experiment folder, train it first"
    return read_yaml(Path(folder) / "hyperparams.yaml", remedy)


def read_setting(folder: str | os.PathLike[str], key: str) -> Any:
    """One plain value of an experiment's ``hyperparams.yaml``; none of its classes are made."""
    return read_hyperparams(folder).get(key)


def _build_arguments(folder: str | os.PathLike[str]) -> dict[str, Any]:
    path = Path(folder) / WEIGHTS / "embedding_model.safetensors"
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get(BUILD_ARGUMENTS, "{}"))
    except (OSError, SafetensorError):  # load_weights says what is wrong
        return {}


def encoder_part(text: str, path: str | os.PathLike[str]) -> str:
    """The same of the YAML text of the file ``path``."""
    return _encoder_part(ruamel.yaml.YAML().load(text), path, {})


def _encoder_part(tree: Any, path: str | os.PathLike[str], build_arguments: dict[str, Any]) -> str:
    missing = [key for key in ENCODER_KEYS if key not in tree]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}: an encoder needs {', '.join(ENCODER_KEYS)}",
            code="missing-key",
        )
    if build_arguments:
        tree["embedding_model"].update(build_arguments)
    part = io.StringIO()
    ruamel.yaml.YAML().dump({key: tree[key] for key in ENCODER_KEYS}, part)
    return part.getvalue()


def load_encoder(folder: str | os.PathLike[str]) -> SpeakerEncoder:
    """Build the trained encoder of an experiment folder. Its YAML is executed: trust it first.

    Arguments
    ---------
    folder : str or path
        Experiment folder.

    Returns
    -------
    SpeakerEncoder
        On the CPU, in eval mode.

    Raises
    ------
    UserError
        When the folder holds no finished training, or its weights do not fit its YAML.
    """
    text = encoder_yaml(folder)
    encoder = SpeakerEncoder(**load_hyperpyyaml(text))
    load_weights(folder, encoder.embedding_model)
    return encoder.eval()


def untrained_encoder(
    yaml: str | os.PathLike[str], overrides: Mapping[str, str] | None = None
) -> tuple[str, SpeakerEncoder]:
    """The name of a YAML's system and its encoder with random weights, in eval mode: for its speed.

    The YAML is executed: trust it first.

    Arguments
    ---------
    yaml : str or path
        The file.
    overrides : mapping, optional
        Of its keys.

    Raises
    ------
    UserError
        When the file cannot be used.
    """
    text = resolve_hparams(yaml, dict(overrides or {}))
    encoder = SpeakerEncoder(**make_hparams(yaml, encoder_part(text, yaml)))
    return str(ruamel.yaml.YAML().load(text)["system"]), encoder.eval()


def teacher_name(settings: Mapping[str, Any]) -> str | None:
    """The name of the teacher that ``teacher_source`` says: of a folder, its last part.

    Example
    -------
    >>> teacher_name({"teacher_source": "microsoft/wavlm-large"})
    'microsoft/wavlm-large'
    >>> teacher_name({"teacher_source": "/models/wavlm-large/"})
    'wavlm-large'
    >>> teacher_name({"teacher_folder": "exp/mini/teacher/seed_1"})
    """
    source = settings.get("teacher_source")
    if source is None:
        return None
    source = os.path.normpath(str(source))
    return Path(source).name if source.startswith(("/", ".")) else source


def load_teacher(folder: str | os.PathLike[str]) -> tuple[str, SpeakerEncoder]:
    """Build the teacher of an experiment folder. Its YAML is executed: trust it first.

    Arguments
    ---------
    folder : str or path
        Experiment folder of a student.

    Returns
    -------
    (str, SpeakerEncoder)
        Its name, and its encoder on the CPU, in eval mode.

    Raises
    ------
    UserError
        When the experiment has no such teacher, or it cannot be loaded here.
    """
    name = teacher_name({"teacher_source": read_setting(folder, "teacher_source")})
    teacher = read_setting(folder, "teacher")
    if name is None:
        raise UserError(
            f"{folder} has no teacher_source: measure its teacher's experiment beside",
            code="no-teacher",
        )
    if teacher is None:
        raise UserError(f"{folder} was trained without a teacher", code="no-teacher")
    part = io.StringIO()
    ruamel.yaml.YAML().dump({"teacher": teacher}, part)
    try:
        encoder = load_hyperpyyaml(part.getvalue())["teacher"].encoder
    except (UserError, OSError, ValueError, TypeError, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())
        code = error.code if isinstance(error, UserError) else "bad-model"
        raise UserError(f"the teacher {name} cannot be loaded here ({reason})", code=code) from None
    return name, encoder.eval()


def weights_sha256(module: nn.Module) -> str:
    """A hash of all parameters and buffers, by name.

    Example
    -------
    >>> weights_sha256(nn.Linear(2, 2)) == weights_sha256(nn.Linear(2, 2))
    False
    """
    return tensors_sha256(module.state_dict())


def kept_sha256(folder: str | os.PathLike[str], name: str = "embedding_model") -> str | None:
    """The hash of the weights that a training kept: :func:`weights_sha256` of their network.

    None where there are none, or no whole file.
    """
    try:
        return tensors_sha256(load_file(Path(folder) / WEIGHTS / f"{name}.safetensors"))
    except (FileNotFoundError, SafetensorError):
        return None


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors by their names, whatever file they come from.

    Example
    -------
    >>> one, other = torch.zeros(2), torch.ones(2)
    >>> tensors_sha256({"a": one, "b": other}) == tensors_sha256({"b": other, "a": one})
    True
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
