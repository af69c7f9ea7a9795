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
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from speechbrain_ext.errors import UserError, sentence_of
from speechbrain_ext.systems.load_errors import explain, null_reference
from speechbrain_ext.systems.settings import check_settings, holds_text

INCLUDE = "!include:"
NOTHING: Mapping[str, Any] = {}
REFERENCE = re.compile(r"<(\w+)")
# Options of SpeechBrain's that change what is learnt: a resolved text has those that are given.
LEARNING = {"auto_mix_prec", "bfloat16_mix_prec", "eval_precision", "remove_vector_weight_decay"}


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


def load_hparams(
    path: str | os.PathLike[str],
    overrides: Mapping[str, str] = NOTHING,
    run_options: Mapping[str, Any] = NOTHING,
) -> tuple[dict[str, Any], str]:
    """Load a system's YAML with what it includes and the command line's overrides.

    Arguments
    ---------
    path : str or path
        The YAML file.
    overrides : mapping of str to str
        By key its new value as the command line has it. Of a key that holds text (see
        :func:`~speechbrain_ext.systems.settings.holds_text`) it is this very text; of any
        other it is YAML.
    run_options : mapping, optional
        SpeechBrain's own options of the command line. Those that the file has a key for override
        it as well, and those that change what is learnt are added, so that the resolved text says
        what was run.

    Returns
    -------
    (dict, str)
        The loaded hyperparameters, and the resolved YAML text they were loaded from.

    Raises
    ------
    UserError
        For a missing file, an override of a key the file has not, or a value a class refuses.
    """
    hidden = _resolved(Path(path), overrides, run_options)
    resolved = _shown(hidden)
    tree, values = _read(Path(path)), ruamel.yaml.YAML().load(resolved)
    check_settings(path, values)
    try:
        return load_hyperpyyaml(hidden, loader=_Loader), resolved
    except pydoc.ErrorDuringImport as error:  # of a module of the user's
        raise UserError(f"{path}: {str(error).replace(chr(10), ' ')}") from None
    except UserError as error:  # says which file of its own
        told = UserError(sentence_of(error)).with_traceback(error.__traceback__)
        raise UserError(explain(told, tree, values)) from None
    except AttributeError as error:
        if sentence := null_reference(error, tree, values):
            raise UserError(f"{path}: {sentence}") from None
        raise
    # A RuntimeError is PyTorch's, of a size that it cannot make or has no memory for.
    except (ValueError, TypeError, ImportError, RuntimeError, ruamel.yaml.YAMLError) as error:
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
    if "objective" in needs and "objective" not in tree:
        raise UserError(f"{path} has no objective, so no student: train it with train_teacher.py")
    for key in sorted(needs - tree.keys()):
        raise UserError(
            f"{path} has no key '{key}': build on a file of hparams/shared/, which has it"
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


def check_overrides(
    path: str | os.PathLike[str], reads: set[str], overrides: Mapping[str, str]
) -> None:
    """Refuse the override of a key that nothing reads any more: it would change nothing.

    A file that builds on another may replace all that read a key of that one.

    Arguments
    ---------
    path : str or path
        The YAML file.
    reads : set of str
        Keys that the program reads, as for :func:`check_keys`.
    overrides : mapping of str to str
        As :func:`load_hparams` takes them.

    Raises
    ------
    UserError
        Naming the key.
    """
    tree = _read(Path(path))
    live = reads | set(REFERENCE.findall(_text(tree)))
    for key, value in overrides.items():
        if key in tree and key not in live:
            raise UserError(
                f"--{key} {value} would change nothing: what reads '{key}' is not in {path}, only "
                "in a file that it builds on: leave it out"
            )


def resolve_hparams(
    path: str | os.PathLike[str],
    overrides: Mapping[str, str] = NOTHING,
    run_options: Mapping[str, Any] = NOTHING,
) -> str:
    """The YAML text that :func:`load_hparams` loads, with nothing of it made yet."""
    return _shown(_resolved(Path(path), overrides, run_options))


def _resolved(path: Path, overrides: Mapping[str, str], run_options: Mapping[str, Any]) -> str:
    """The text without references, in which :func:`_hide` has hidden what is given as text."""
    files = _files(path)
    defaults = {key: [file[key] for file in files if key in file] for key in overrides}
    tree = _merged(files)
    changes: dict[str, Any] = {}
    for key, text in overrides.items():
        if key not in tree:
            close = difflib.get_close_matches(key, tree, n=1)
            hint = f"did you mean --{close[0]}?" if close else f"see the keys of {path}"
            raise UserError(f"{path} has no key '{key}' to override: {hint}")
        changes[key] = _value(key, text, defaults[key])
    tree.update({key: value for key, value in run_options.items() if key in LEARNING})
    changes |= {key: value for key, value in run_options.items() if key in tree}
    try:
        return _without_references(_text(tree), changes)
    except (ValueError, ruamel.yaml.YAMLError) as error:
        if len(error.args) > 1:  # HyperPyYAML's, with all overrides
            raise UserError(
                f"{path}: an override has another structure than the file's value: a list cannot "
                "become a mapping, nor a mapping a list"
            ) from None
        raise UserError(f"{path}: {error}") from None
    except (ArithmeticError, TypeError) as error:  # of what a reference computes
        raise UserError(f"{path}: a reference cannot be computed: {error}") from None


def _value(key: str, text: str, defaults: list[Any]) -> Any:
    """What the command line means by the text after a key."""
    if holds_text(key, defaults) and not text.startswith("!ref "):
        if not text:
            raise UserError(f"--{key} is empty: give it a value, or leave it out")
        return None if text == "null" else _hide(text)
    try:
        return ruamel.yaml.YAML().load(text)
    except ruamel.yaml.YAMLError as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"--{key} {text} is not valid YAML: {reason}") from None


# Where HyperPyYAML puts a value into another one, it takes `<x>` for a reference and `#` for a
# comment; where it writes it, it loses quotes and double blanks. So signs go through it as
# characters of Unicode's private use, which mean nothing to it.
_SIGNS = {chr(code) for code in range(256)} | {"\u2028", "\u2029", "\ufeff"}
_SIGNS = {sign for sign in _SIGNS if not (sign.isalnum() or sign in "/._-")}
_HIDING = {ord(sign): 0xE000 + number for number, sign in enumerate(sorted(_SIGNS))}
_SHOWING = {hidden: code for code, hidden in _HIDING.items()}


def _hide(text: str) -> str:
    return text.translate(_HIDING)


def _shown(hidden: str) -> str:
    """YAML text with every text as it was given, in quotes where YAML needs them."""

    def show(node: Any) -> Any:
        if isinstance(node, dict | list):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                node[key] = show(value)
        elif isinstance(node, str) and (text := node.translate(_SHOWING)) != node:
            return DoubleQuotedScalarString(text)
        return node

    yaml = ruamel.yaml.YAML()
    tree = show(yaml.load(hidden))
    yaml.width = 10**6  # where it breaks lines, double blanks are lost
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


class _Loader(ruamel.yaml.Loader):
    """Shows what :func:`_hide` has hidden."""

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        return value.translate(_SHOWING) if isinstance(value, str) else value


def _without_references(text: str, changes: Mapping[str, Any] | None = None) -> str:
    """YAML text without references; a second pass finds those that hid in a list further down."""
    for overrides in (changes, None):
        text = resolve_references(io.StringIO(text), overrides).getvalue()
    return text


def _read(path: Path) -> Any:
    """The tree of a file on top of that of the file it includes."""
    return _merged(_files(path))


def _merged(files: list[Any]) -> Any:
    tree = files[-1]
    for child in reversed(files[:-1]):
        tree.update(child)
    return tree


def _files(path: Path) -> list[Any]:
    """The trees of a file, of the file it includes, and so on."""
    tree = read_yaml(path, "give a YAML file of hparams/")
    tag = tree.tag.value or ""
    if not tag.startswith(INCLUDE):
        return [tree]
    return [tree, *_files(path.parent / tag.removeprefix(INCLUDE))]


def _text(tree: Any) -> str:
    text = io.StringIO()
    ruamel.yaml.YAML().dump(tree, text)
    return text.getvalue()
