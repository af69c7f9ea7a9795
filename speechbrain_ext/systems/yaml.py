"""HyperPyYAML files that build on one another.

A file whose root carries ``!include:other.yaml`` is that file with some keys changed or added: what
HyperPyYAML's ``!include:`` with overrides means for a value, said of a whole file. Its key
``includes: [a.yaml, b.yaml]`` names further files that it builds on: of several that have a key the
last counts, and the file itself after all. The command line is like a file that builds on the one
it names, so ``--includes`` goes on top of that, and other overrides on top of all.
"""

from __future__ import annotations

import difflib
import inspect
import io
import os
import pydoc
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from speechbrain_ext.errors import UserError
from speechbrain_ext.systems.settings import check_settings, holds_text

INCLUDE = "!include:"
INCLUDES = "includes"
NOTHING: Mapping[str, Any] = {}
# Options of SpeechBrain's that change what is learnt: a resolved text has those that are given.
LEARNING = {"auto_mix_prec", "bfloat16_mix_prec", "eval_precision", "remove_vector_weight_decay"}


def read_yaml(path: str | os.PathLike[str], remedy: str, typ: str = "rt") -> Any:
    """The mapping that a YAML file holds.

    Arguments
    ---------
    path : str or path
        The file.
    remedy : str
        What to do where it cannot be opened.
    typ : str
        Of ``ruamel.yaml``: ``rt`` keeps tags, ``safe`` refuses them.

    Returns
    -------
    mapping
        Its keys and values; nothing is made of tags such as ``!new:``.

    Raises
    ------
    UserError
        When it cannot be opened, is no UTF-8 text or no YAML, or holds no keys or others than
        words.

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
        raise UserError(f"{path} does not exist: {remedy}", code="missing-file") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): {remedy}", code="unreadable-file"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as such", code="not-utf8"
        ) from None
    except (ruamel.yaml.YAMLError, ValueError) as error:  # a date of no calendar
        raise UserError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}", code="bad-yaml"
        ) from None
    if not hasattr(tree, "keys"):
        raise UserError(f"{path} holds no keys: write one 'key: value' a line", code="missing-key")
    for key in tree:
        if not isinstance(key, str):
            raise UserError(
                f"{path} has the key {key!r}, which is no word: put it in quotes", code="bad-yaml"
            )
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
    check_tree(path, ruamel.yaml.YAML().load(resolved))
    hparams = make_hparams(path, hidden)
    check_settings(path, hparams)
    return hparams, resolved


def make_hparams(path: str | os.PathLike[str], text: str) -> dict[str, Any]:
    """Make the classes of a text of the YAML file ``path``.

    Raises
    ------
    UserError
        For a value that a class refuses.
    """
    try:
        return load_hyperpyyaml(text, loader=_Loader)
    except pydoc.ErrorDuringImport as error:  # of a module of the user's
        raise UserError(f"{path}: {str(error).replace(chr(10), ' ')}", code="bad-setting") from None
    except _Refused as error:
        raise UserError(f"{path}: {error}", code="bad-setting") from None
    except ruamel.yaml.YAMLError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}", code="bad-yaml") from None


def resolve_hparams(
    path: str | os.PathLike[str],
    overrides: Mapping[str, str] = NOTHING,
    run_options: Mapping[str, Any] = NOTHING,
) -> str:
    """The YAML text that :func:`load_hparams` loads, with nothing of it made yet."""
    return _shown(_resolved(Path(path), overrides, run_options))


def check_tree(path: str | os.PathLike[str], tree: Mapping[str, Any]) -> None:
    """Refuse what :func:`load_hparams` refuses, as far as it is seen with nothing of it made.

    Arguments
    ---------
    path : str or path
        The YAML file, for the message.
    tree : mapping
        A YAML tree without references, as of the text that :func:`resolve_hparams` gives.

    Raises
    ------
    UserError
        For a value that cannot be, a class that there is not, and an argument that it does not
        take.
    """
    check_settings(path, tree)
    for key, node in tagged(tree):
        kind, _, name = node.tag.value.partition(":")
        if kind not in ("!new", "!name"):
            continue
        try:
            called = pydoc.locate(name)
        except pydoc.ErrorDuringImport as error:  # of a module of the user's
            reason = str(error).replace("\n", " ")
            raise UserError(f"{path}: {key}: {reason}", code="bad-setting") from None
        if called is None:
            raise UserError(f"{path}: {key}: there is no {name}", code="bad-setting")
        if not callable(called):  # a constant, which takes no arguments
            continue
        positional = node if isinstance(node, list) else ()
        named = node if isinstance(node, Mapping) else {}
        try:
            signature = inspect.signature(called)
        except ValueError:  # one of C that does not say
            continue
        try:
            bind = signature.bind if kind == "!new" else signature.bind_partial
            bind(*positional, **named)
        except TypeError as error:
            raise UserError(f"{path}: {key}: {name} {error}", code="bad-setting") from None


def tagged(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The nodes of a YAML tree that have a tag, such as ``!new:``, each with its key of the root.

    Example
    -------
    >>> tree = ruamel.yaml.YAML().load("a: [!new:x.Y {b: !name:z.z }]")
    >>> [(key, node.tag.value) for key, node in tagged(tree)]
    [('a', '!new:x.Y'), ('a', '!name:z.z')]
    """
    seen: set[int] = set()  # what is referred to stands in several places

    def within(key: str, node: Any) -> Iterator[tuple[str, Any]]:
        if id(node) in seen:
            return
        seen.add(id(node))
        if getattr(getattr(node, "tag", None), "value", None):
            yield key, node
        children = node.values() if isinstance(node, Mapping) else node
        for child in children if isinstance(node, (Mapping, list)) else ():
            yield from within(key, child)

    for key, node in tree.items():
        yield from within(key, node)


def _resolved(path: Path, overrides: Mapping[str, str], run_options: Mapping[str, Any]) -> str:
    """The text without references, in which :func:`_hide` has hidden what is given as text."""
    layers = read_layers(path, overrides)
    defaults = {key: [layer[key] for layer in layers if key in layer] for key in overrides}
    tree = merge(layers)
    changes: dict[str, Any] = {}
    for key, text in overrides.items():
        if key == INCLUDES:
            continue
        if key not in tree:
            close = difflib.get_close_matches(key, tree, n=1)
            hint = f"did you mean --{close[0]}?" if close else f"see the keys of {path}"
            raise UserError(f"{path} has no key '{key}' to override: {hint}", code="unknown-key")
        changes[key] = _value(key, text, defaults[key])
    tree.update({key: value for key, value in run_options.items() if key in LEARNING})
    changes |= {key: value for key, value in run_options.items() if key in tree}
    _check_references(path, tree, changes)
    try:
        return _without_references(_text(tree), changes)
    except (ValueError, ruamel.yaml.YAMLError) as error:
        if len(error.args) > 1:  # HyperPyYAML's, with all overrides
            raise UserError(
                f"{path}: an override has another structure than the file's value: a list cannot "
                "become a mapping, nor a mapping a list",
                code="bad-setting",
            ) from None
        if open_key := re.match(r"'(\w+)' is a !PLACEHOLDER", str(error)):
            key = open_key.group(1)
            raise UserError(
                f"{path}: {key} has no value: give it by --{key} (in run.sh, among --student_args "
                "or --teacher_args), or in a YAML that builds on this one",
                code="missing-key",
            ) from None
        raise UserError(f"{path}: {error}", code="bad-yaml") from None
    except FileNotFoundError as error:  # of a value that is to be another file
        raise UserError(
            f"{path}: {INCLUDE}{error.filename} names no file: give a path from {os.getcwd()}",
            code="missing-file",
        ) from None
    except (ArithmeticError, TypeError) as error:  # of what a reference computes
        raise UserError(
            f"{path}: a reference cannot be computed: {error}", code="bad-setting"
        ) from None


def _check_references(path: Path, tree: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Refuse a reference to an attribute of a null."""
    # A mapping changes a part of what the file has, anything else takes its place.
    replaced = {key: value for key, value in changes.items() if not isinstance(value, Mapping)}
    values = {**tree, **replaced}
    for key, attribute in references([values, changes]):
        if attribute and key in values and values[key] is None:
            raise UserError(
                f"{path}: {key} is null, and <{key}.{attribute}> is read: override what reads it "
                "too",
                code="bad-setting",
            )


def _value(key: str, text: str, defaults: list[Any]) -> Any:
    """What the command line means by the text after a key."""
    if holds_text(key, defaults) and not text.startswith("!ref "):
        if not text:
            raise UserError(
                f"--{key} is empty: give it a value, or leave it out", code="bad-setting"
            )
        return None if text == "null" else _hide(text)
    return _parse(key, text)


def _parse(key: str, text: str) -> Any:
    try:
        return ruamel.yaml.YAML().load(text)
    except ruamel.yaml.YAMLError as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"--{key} {text} is not valid YAML: {reason}", code="bad-yaml") from None


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


class _Refused(Exception):
    """What a class, or what is to make it, refuses: the key and the reason."""


class _Loader(ruamel.yaml.Loader):
    """Shows what :func:`_hide` has hidden, and knows of which key a value is being made."""

    def construct_document(self, node: Any) -> Any:
        self.keys = {id(value): str(key.value) for key, value in node.value}
        self.making: list[str] = []
        try:
            return super().construct_document(node)
        except UserError:  # names a file of its own
            raise
        # A RuntimeError is PyTorch's, of a size that it cannot make or has no memory for.
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            parts = [part for part in map(str, error.args) if part.strip()]  # HyperPyYAML adds some
            reason = " ".join(parts[-1].split()) if parts else type(error).__name__
            # A class often calls what it refuses as the key is called.
            told = not self.making or reason.startswith(self.making[-1])
            raise _Refused(reason if told else f"{self.making[-1]}: {reason}") from error

    def construct_object(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        if id(node) not in self.keys:
            return super().construct_object(node, *args, **kwargs)
        self.making.append(self.keys[id(node)])
        made = super().construct_object(node, *args, **kwargs)
        self.making.pop()
        return made

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        return value.translate(_SHOWING) if isinstance(value, str) else value


def _without_references(text: str, changes: Mapping[str, Any] | None = None) -> str:
    """YAML text without references; a second pass finds those that hid in a list further down."""
    for overrides in (changes, None):
        text = resolve_references(io.StringIO(text), overrides).getvalue()
    return text


def read_layers(path: str | os.PathLike[str], overrides: Mapping[str, str] = NOTHING) -> list[Any]:
    """The YAML trees of a file and of all that it builds on.

    Arguments
    ---------
    path : str or path
        The file.
    overrides : mapping of str to str
        As :func:`load_hparams` takes them; of them ``includes`` names further files, beside this
        one.

    Returns
    -------
    list of mappings
        Each comes after those that it builds on; a file on which several build comes once.

    Raises
    ------
    UserError
        For a file that is missing or no YAML, or that builds on itself.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "base.yaml").write_text("lr: 0.001")
    >>> _ = (folder / "large.yaml").write_text("channels: 256")
    >>> _ = (folder / "mine.yaml").write_text("{includes: [base.yaml, large.yaml], lr: 0.1}")
    >>> dict(merge(read_layers(folder / "mine.yaml")))
    {'lr': 0.1, 'channels': 256}
    """
    layers: dict[str, Any] = {}

    def add(file: Path, way: tuple[str, ...], remedy: str) -> None:
        place = os.path.realpath(file)
        if place in way:
            raise UserError(
                f"{file} builds on itself: take it out of what it includes", code="circular"
            )
        if place in layers:
            return
        tree = read_yaml(file, remedy)
        tag = tree.tag.value or ""
        names = [tag.removeprefix(INCLUDE)] if tag.startswith(INCLUDE) else []
        for name in [*names, *_file_names(file, tree.pop(INCLUDES, []))]:
            way_here = (*way, place)
            add(file.parent / name, way_here, f"mend the name in {file}, which includes it")
        layers[place] = tree

    path = Path(path)
    add(path, (), "give a YAML file of hparams/")
    if INCLUDES in overrides:
        for name in _file_names(f"--{INCLUDES}", _parse(INCLUDES, overrides[INCLUDES])):
            remedy = f"--{INCLUDES} names it: give a path from {path.parent}"
            add(path.parent / name, (), remedy)
    return list(layers.values())


def _file_names(where: object, names: Any) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"{where}: {INCLUDES} is {names!r}, and must be a list such as [a.yaml]",
            code="bad-setting",
        )
    return names


def merge(layers: list[Any]) -> Any:
    """One tree of several, of which the first is changed. Of those with a key the last counts."""
    tree = layers[0]
    for layer in layers[1:]:
        tree.update(layer)
    return tree


def references(node: Any) -> Iterator[tuple[str, str]]:
    """What a YAML tree refers to: keys of its root, each with the attribute that is read, or "".

    Example
    -------
    >>> tree = ruamel.yaml.YAML().load("a: !ref <lr> / <teacher.layers>")
    >>> list(references(tree))
    [('lr', ''), ('teacher', 'layers')]
    """
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)
    elif getattr(getattr(node, "tag", None), "value", None) in ("!ref", "!copy"):
        yield from re.findall(r"<(\w+)(?:\[[^>.]*)?\.?(\w*)", str(node.value))


def _text(tree: Any) -> str:
    text = io.StringIO()
    ruamel.yaml.YAML().dump(tree, text)
    return text.getvalue()
