"""Trained models that come along as experiments: what names them, their YAML, their folder.

``local/import_teacher.py`` makes the experiment; what is here reads YAML alone, and nothing is made
of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ruamel.yaml

from speechbrain_ext.errors import UserError
from speechbrain_ext.systems.command_line import read_command_line
from speechbrain_ext.systems.describe import needs_onnx
from speechbrain_ext.systems.yaml import merge, read_layers, resolve_hparams

FILES = {".onnx": "onnx", ".pt": "torchscript", ".ts": "torchscript", ".jit": "torchscript"}
# What a YAML says of a checkpoint that it fetches does not hold of one of the user's own.
_OWN = {"package": "null", "source": "a checkpoint of one's own", "licence": "unknown"}


class ModelSettings(NamedTuple):
    """What a trained model is to become an experiment by.

    Arguments
    ---------
    path : Path
        Its YAML.
    overrides : dict of str to str
        Of the YAML's keys: those of the command line, and what the model itself says.
    tree : mapping
        The YAML's tree with the overrides, without references.
    """

    path: Path
    overrides: dict[str, str]
    tree: Any


def choose_yaml(model: str, teachers: Path) -> tuple[Path, dict[str, str]]:
    """The YAML of a model, and what the model sets in it.

    Raises
    ------
    UserError
        When there is no such model.
    """
    named, suffix = _yaml_of(model, teachers), Path(model).suffix.lower()
    if named is not None:
        return named, {}
    if suffix in FILES and os.path.isfile(model):
        return teachers / f"{FILES[suffix]}.yaml", {"model": os.path.abspath(model)}
    if os.path.isdir(model):
        return teachers / "speechbrain.yaml", {"model": os.path.abspath(model)}
    if model.count("/") == 1 and suffix not in FILES and not model.startswith((".", "/")):
        return teachers / "speechbrain.yaml", {"model": model}
    names = ", ".join(sorted(path.stem for path in teachers.glob("*.yaml") if _is_of_one(path)))
    raise UserError(
        f"{model}: there is no such model; give a file ({', '.join(FILES)}), a folder, a hub's "
        f"name, or one of {names}.",
        code="unknown-name",
    )


def model_settings(model: str, arguments: Sequence[str], teachers: Path) -> ModelSettings:
    """Find the settings of a model that comes along.

    Arguments
    ---------
    model : str
        A name of ``hparams/teachers``, a file, a folder or a name on the hub.
    arguments : sequence of str
        ``--key value …``, overrides of keys of its YAML.
    teachers : Path
        The folder ``hparams/teachers``.

    Returns
    -------
    ModelSettings
        A checkpoint that the arguments name is one of the user's own: it is not fetched, and its
        source and licence are not those of the YAML.

    Raises
    ------
    UserError
        When there is no such model, or an override cannot be.
    """
    path, overrides = choose_yaml(model, teachers)
    line = read_command_line([str(path), *arguments])
    if line.given:
        name = next(iter(line.given))
        raise UserError(
            f"--{name} {line.given[name]} changes nothing of {model}, which is not trained here: "
            "leave it out",
            code="no-effect",
        )
    fetched = merge(read_layers(path)).get("package") is not None
    if fetched and "checkpoint" in line.overrides:
        overrides |= _OWN
    overrides |= line.overrides
    tree = ruamel.yaml.YAML().load(resolve_hparams(path, overrides))
    return ModelSettings(path, overrides, tree)


def model_name(model: str, teachers: Path) -> str:
    """The name of the folder that a model goes into; another model has another one.

    Arguments
    ---------
    model : str
        As for :func:`model_settings`.
    teachers : Path
        The folder ``hparams/teachers``.

    Returns
    -------
    str
        Many files are called ``model.onnx``, and many folders ``export``: the name of one of these
        ends with a part of the hash of its place.

    Example
    -------
    >>> model_name("speechbrain/spkrec-ecapa-voxceleb", Path("hparams/teachers"))
    'speechbrain_spkrec-ecapa-voxceleb'
    >>> name = model_name(getfixture("tmp_path"), Path("hparams/teachers"))
    >>> len(name.rpartition("_")[2])
    6
    """
    if _yaml_of(model, teachers) is None and os.path.exists(model):
        place = Path(os.path.realpath(model))
        return f"{place.stem}_{hashlib.sha256(os.fsencode(place)).hexdigest()[:6]}"
    return str(model).replace("/", "_")


def check_packages(model: str, tree: Any) -> None:
    """Refuse a model that this Python lacks a package for.

    Raises
    ------
    UserError
        Naming it.
    """
    if needs_onnx(tree) and importlib.util.find_spec("onnxruntime") is None:
        raise UserError(
            f"{model} needs ONNX Runtime: pip install 'speechbrain_ext[export]'",
            code="missing-package",
        )


def _yaml_of(model: str, teachers: Path) -> Path | None:
    path = teachers / f"{model}.yaml"
    return path if path.is_file() and str(model) == path.stem and _is_of_one(path) else None


def _is_of_one(path: Path) -> bool:
    """Whether a YAML is of one model, and not of a kind of file or folder."""
    return "model" not in merge(read_layers(path))
