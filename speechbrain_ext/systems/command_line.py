"""The command line of a training: a system's YAML, SpeechBrain's own options, overrides of keys."""

from __future__ import annotations

import argparse
import difflib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import ruamel.yaml
from speechbrain import RunOptions

from speechbrain_ext.errors import UserError
from speechbrain_ext.systems.settings import STUDENT, TEACHER, Keys
from speechbrain_ext.systems.yaml import (
    check_tree,
    merge,
    read_layers,
    references,
    resolve_hparams,
)

OPTIONS = frozenset(RunOptions().as_dict())  # of SpeechBrain, which a YAML may have as keys


class CommandLine(NamedTuple):
    """What a command line says.

    Arguments
    ---------
    path : str
        The YAML file.
    run_options : RunOptions
        SpeechBrain's options, with their defaults.
    overrides : dict
        By key of the YAML its text, as the shell gave it: what it means depends on the key.
    """

    path: str
    run_options: RunOptions
    overrides: dict[str, str]

    @property
    def given(self) -> dict[str, Any]:
        """SpeechBrain's options that the command line names."""
        return {name: self.run_options[name] for name in sorted(self.run_options.overridden_args)}


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """Take a command line apart.

    Arguments
    ---------
    arguments : sequence of str
        ``hparams/x.yaml --key value …`` and SpeechBrain's own options. Of a key given twice the
        last counts.

    Returns
    -------
    CommandLine
        Its three parts.

    Raises
    ------
    UserError
        For a word that belongs to no key, and one that is not text.

    Example
    -------
    >>> line = read_command_line(["v2.yaml", "--lr", "0.1", "--output_folder=exp/a: #2"])
    >>> line.path, line.overrides
    ('v2.yaml', {'lr': '0.1', 'output_folder': 'exp/a: #2'})
    """
    for word in arguments:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:  # bytes of a file's name, which Python keeps as surrogates
            raise UserError(
                f"{word.encode('utf-8', 'replace').decode()} is not UTF-8 text: rename it",
                code="not-utf8",
            ) from None
    return CommandLine(*_RunOptions.from_command_line_args(list(arguments)))


def check_keys(line: CommandLine, keys: Keys) -> None:
    """Refuse a file without a key that is needed, and a key or an override that nothing reads.

    Such a key is a misspelt one. An override would change nothing also where a file replaces all
    that read a key of another, on which it builds.

    Arguments
    ---------
    line : CommandLine
        The file and its overrides.
    keys : Keys
        What the training reads itself.

    Raises
    ------
    UserError
        Naming the key.
    """
    path, _, overrides = line
    layers = read_layers(path, overrides)
    ever_read = keys.known | OPTIONS | {key for key, _ in references(layers)}
    tree = merge(layers)
    read = keys.known | OPTIONS | {key for key, _ in references(tree)}
    if "objective" in tree and "objective" not in keys.known:
        raise UserError(
            f"{path} is a student's: train it with train_distill.py", code="wrong-system"
        )
    if "objective" in keys.needed and "objective" not in tree:
        raise UserError(
            f"{path} has no objective, so no student: train it with train_teacher.py",
            code="wrong-system",
        )
    for key in sorted(keys.needed - tree.keys()):
        raise UserError(
            f"{path} has no key '{key}': build on a file of hparams/shared/, which has it",
            code="missing-key",
        )
    for key, value in tree.items():
        if key not in ever_read and not key.startswith("__"):
            close = difflib.get_close_matches(key, ever_read, n=1)
            hint = f": did you mean {close[0]}?" if close else ": remove it"
            raise UserError(
                f"{path} has the key '{key}' ({value}), which nothing reads{hint}",
                code="unknown-key",
            )
    for key, value in overrides.items():
        if key in tree and key not in read:
            raise UserError(
                f"--{key} {value} would change nothing: what reads '{key}' is not in {path}, only "
                "in a file that it builds on: leave it out",
                code="no-effect",
            )


def is_student(tree: Any) -> bool:
    """Whether settings are those of train_distill.py, and not of train_teacher.py."""
    return "objective" in tree


def resolved_settings(arguments: Sequence[str]) -> tuple[str, Any]:
    """The YAML text that a training script would load with these arguments, and its tree.

    Raises
    ------
    UserError
        For what the script would refuse of it, with nothing of it made.
    """
    line = read_command_line(arguments)
    text = resolve_hparams(line.path, line.overrides, line.given)
    tree = ruamel.yaml.YAML().load(io.StringIO(text))
    check_keys(line, STUDENT if is_student(tree) else TEACHER)
    check_tree(line.path, tree)
    return text, tree


def _refuse_options(message: str) -> NoReturn:
    raise UserError(f"{message}: --help lists the options", code="bad-command")


class _RunOptions(RunOptions):
    """SpeechBrain's, which would make YAML of the overrides: ``a: b`` and ``1.10`` would change."""

    @staticmethod
    def _create_parser() -> argparse.ArgumentParser:
        parser = RunOptions._create_parser()
        parser.error = _refuse_options  # type: ignore[method-assign]
        for action in parser._actions:
            if action.dest == "optimizer_step_limit":  # no number by default, so text there
                action.type = int
        return parser

    @staticmethod
    def _convert_to_yaml(words: list[str]) -> dict[str, str]:
        values: dict[str, list[str]] = {}
        key = None
        for word in words:
            if word.startswith("--"):
                key, equals, value = word.removeprefix("--").partition("=")
                values[key] = [value] if equals else []
            elif key is None:
                raise UserError(
                    f"'{word}' stands alone: write --key value, with the key it is of",
                    code="bad-command",
                )
            else:  # a list that the shell has split at its blanks
                values[key].append(word)
        return {key: " ".join(parts) for key, parts in values.items()}
