"""The command line of a training: a system's YAML, SpeechBrain's own options, overrides of keys."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

from speechbrain import RunOptions

from speechbrain_ext.errors import UserError


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
                f"{word.encode('utf-8', 'replace').decode()} is not UTF-8 text: rename it"
            ) from None
    return CommandLine(*_RunOptions.from_command_line_args(list(arguments)))


class _RunOptions(RunOptions):
    """SpeechBrain's, which would make YAML of the overrides: ``a: b`` and ``1.10`` would change."""

    @staticmethod
    def _create_parser() -> argparse.ArgumentParser:
        parser = RunOptions._create_parser()
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
                raise UserError(f"'{word}' stands alone: write --key value, with the key it is of")
            else:  # a list that the shell has split at its blanks
                values[key].append(word)
        return {key: " ".join(parts) for key, parts in values.items()}
