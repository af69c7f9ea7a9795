"""HyperPyYAML files that build on one another.

A file whose root carries ``!include:other.yaml`` is that file with some keys changed or added: what
HyperPyYAML's ``!include:`` with overrides means for a value, said of a whole file.
"""

from __future__ import annotations

import difflib
import io
import os
import pydoc
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references

from local.load_errors import explain, null_reference
from local.settings import check_settings
from speechbrain_ext.errors import UserError, sentence_of

INCLUDE = "!include:"
REFERENCE = re.compile(r"<(\w+)")


def load_hparams(
    path: str | os.PathLike[str], overrides: str = "", run_options: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """Load a system's YAML with what it includes and the command line's overrides.

    Arguments
    ---------
    path : str or path
        The YAML file.
    overrides : str
        YAML text of ``key: value`` lines, as ``speechbrain.parse_arguments`` gives.
    run_options : mapping, optional
        SpeechBrain's own options of the command line. Those that the file has a key for override
        it as well, so that the resolved text says what was run.

    Returns
    -------
    (dict, str)
        The loaded hyperparameters, and the resolved YAML text they were loaded from.

    Raises
    ------
    UserError
        For a missing file, an override of a key the file has not, or a value a class refuses.
    """
    resolved = resolve_hparams(path, overrides, run_options)
    tree, values = _read(Path(path)), ruamel.yaml.YAML().load(resolved)
    check_settings(path, values)
    try:
        return load_hyperpyyaml(resolved), resolved
    except pydoc.ErrorDuringImport as error:  # of a module of the user's
        raise UserError(f"{path}: {str(error).replace(chr(10), ' ')}") from None
    except UserError as error:  # says which file of its own
        told = UserError(sentence_of(error)).with_traceback(error.__traceback__)
        raise UserError(explain(told, tree, values)) from None
    except AttributeError as error:
        if sentence := null_reference(error, tree, values):
            raise UserError(f"{path}: {sentence}") from None
        raise
    except (ValueError, TypeError, ImportError, ruamel.yaml.YAMLError) as error:
        raise UserError(f"{path}: {explain(error, tree, values)}") from None


def check_keys(path: str | os.PathLike[str], reads: set[str], needs: set[str]) -> None:
    """Refuse a file without a key that is needed, or with one that nothing reads: a misspelt one.

    Arguments
    ---------
    path : str or path
        The YAML file.
    reads : set of str
        Keys that the program reads; those that the file, or one it includes, refers to are read
        as well.
    needs : set of str
        Keys that it must have.

    Raises
    ------
    UserError
        Naming the key.
    """
    tree, known, file = _read(Path(path)), set(reads), Path(path)
    if "objective" in tree and "objective" not in reads:
        raise UserError(f"{path} is a student's: train it with train_distill.py")
    for key in sorted(needs - tree.keys()):
        raise UserError(
            f"{path} has no key '{key}': train_distill.py trains a student with a teacher and an "
            "objective, train_teacher.py any network with labels alone"
        )
    while True:
        text = file.read_text(encoding="utf-8")
        known |= set(REFERENCE.findall(text))
        if not (included := re.search(f"^{INCLUDE}(\\S+)", text, re.MULTILINE)):
            break
        file = file.parent / included[1]
    for key, value in tree.items():
        if key not in known and not key.startswith("__"):
            close = difflib.get_close_matches(key, known, n=1)
            hint = f": did you mean {close[0]}?" if close else ": remove it"
            raise UserError(f"{path} has the key '{key}' ({value}), which nothing reads{hint}")


def check_overrides(path: str | os.PathLike[str], reads: set[str], overrides: str) -> None:
    """Refuse the override of a key that nothing reads any more: it would change nothing.

    A file that builds on another may replace all that read a key of that one.

    Arguments
    ---------
    path : str or path
        The YAML file.
    reads : set of str
        Keys that the program reads, as for :func:`check_keys`.
    overrides : str
        As :func:`load_hparams` takes them.

    Raises
    ------
    UserError
        Naming the key.
    """
    tree = _read(Path(path))
    live = reads | set(REFERENCE.findall(_text(tree)))
    for key, value in _parse(overrides).items():
        if key in tree and key not in live:
            raise UserError(
                f"--{key} {value} would change nothing: what reads '{key}' is not in {path}, only "
                "in a file that it builds on: leave it out"
            )


def resolve_hparams(
    path: str | os.PathLike[str], overrides: str = "", run_options: Mapping[str, Any] | None = None
) -> str:
    """The YAML text that :func:`load_hparams` loads, with nothing of it made yet."""
    tree = _read(Path(path))
    changes = _parse(overrides)
    for key in changes:
        if key not in tree:
            close = difflib.get_close_matches(key, tree, n=1)
            hint = f"did you mean --{close[0]}?" if close else f"see the keys of {path}"
            raise UserError(f"{path} has no key '{key}' to override: {hint}")
    changes |= {key: value for key, value in (run_options or {}).items() if key in tree}
    try:
        return without_references(_text(tree), changes)
    except (ValueError, ruamel.yaml.YAMLError) as error:
        if len(error.args) > 1:  # HyperPyYAML's, with all overrides
            raise UserError(
                f"{path}: an override has another structure than the file's value: a list cannot "
                "become a mapping, nor a mapping a list"
            ) from None
        raise UserError(f"{path}: {error}") from None


def without_references(text: str, changes: Mapping[str, Any] | None = None) -> str:
    """YAML text without references; a second pass finds those that hid in a list further down."""
    for overrides in (changes, None):
        text = resolve_references(io.StringIO(text), overrides).getvalue()
    return text


def read_setting(folder: str | os.PathLike[str], key: str) -> Any:
    """One plain value of an experiment's ``hyperparams.yaml``; none of its classes are made."""
    path = Path(folder) / "hyperparams.yaml"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: {folder} is not an experiment folder, train it first"
        )
    return ruamel.yaml.YAML().load(path.read_text(encoding="utf-8")).get(key)


def _read(path: Path) -> Any:
    """The tree of a file on top of that of the file it includes."""
    try:
        tree = ruamel.yaml.YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give a YAML file of hparams/") from None
    except ruamel.yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    tag = tree.tag.value or ""
    if not tag.startswith(INCLUDE):
        return tree
    base = _read(path.parent / tag.removeprefix(INCLUDE))
    base.update(tree)
    return base


def _text(tree: Any) -> str:
    text = io.StringIO()
    ruamel.yaml.YAML().dump(tree, text)
    return text.getvalue()


def _parse(overrides: str) -> dict[str, Any]:
    yaml = ruamel.yaml.YAML()
    yaml.allow_duplicate_keys = True
    try:
        # Of a key given twice YAML keeps the first, a command line means the last.
        changes = yaml.load("\n".join(reversed(overrides.splitlines()))) or {}
    except ruamel.yaml.YAMLError as error:
        raise UserError(f"the overrides are not valid YAML: {error}") from None
    if not isinstance(changes, Mapping):
        raise UserError(f"'{overrides}' is not an override: write --key value")
    return dict(changes)
