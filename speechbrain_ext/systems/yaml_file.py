"""YAML files of users, read without making anything that they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ruamel.yaml

from speechbrain_ext.errors import UserError


def read_yaml(path: str | os.PathLike[str], remedy: str, typ: str = "rt") -> Any:
    """The mapping that a YAML file holds.

    Arguments
    ---------
    path : str or path
        The file.
    remedy : str
        What to do where it is missing.
    typ : str
        Of ``ruamel.yaml``: ``rt`` keeps tags, ``safe`` refuses them.

    Returns
    -------
    mapping
        Its keys and values; nothing is made of tags such as ``!new:``.

    Raises
    ------
    UserError
        When it is missing, is no UTF-8 text or no YAML, or holds no keys or others than words.

    Example
    -------
    >>> path = getfixture("tmp_path") / "v2.yaml"
    >>> _ = path.write_text("lr: 0.001")
    >>> dict(read_yaml(path, "give another"))
    {'lr': 0.001}
    """
    try:
        tree = ruamel.yaml.YAML(typ=typ).load(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist: {remedy}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as such") from None
    except (ruamel.yaml.YAMLError, ValueError) as error:  # a date of no calendar
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not hasattr(tree, "keys"):
        raise UserError(f"{path} holds no keys: write one 'key: value' a line")
    for key in tree:
        if not isinstance(key, str):
            raise UserError(f"{path} has the key {key!r}, which is no word: put it in quotes")
    return tree
