"""Models of speakers that were enrolled with several utterances."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.files import atomic_path
from speechbrain_ext.verification.lists import (
    read_first_line,
    read_lines,
    split_line,
    utterance_name,
)

_MODEL = re.compile(r"(model|enrol|enroll|speaker|spk)[ _-]?(id)?", re.IGNORECASE)
_UTTERANCE = re.compile(r"(segment|utterance|utt|file|path|wav)[ _-]?(id)?", re.IGNORECASE)


@dataclass(frozen=True)
class Enrolment:
    """Which utterances each model was enrolled with.

    Arguments
    ---------
    source : str
        The file it was read from.
    models : mapping of str to tuple of str
        The utterances of each model, at least one.
    """

    source: str
    models: Mapping[str, tuple[str, ...]]


def read_enrolment(path: str | os.PathLike[str], roots: Sequence[str] = ()) -> Enrolment:
    """Read the utterances of models, as Kaldi's ``spk2utt`` and CN-Celeb's ``enroll.map`` are.

    A line is ``model utterance utterance …``, divided by white space, commas or semicolons; the
    lines of one model add up. A table whose header names ``modelid`` and ``segmentid``, as NIST's,
    is read too.

    Arguments
    ---------
    path : str or path
        The file, UTF-8 text.
    roots : sequence of str
        The folders that the utterances are below; see
        :func:`~speechbrain_ext.verification.lists.utterance_name`.

    Returns
    -------
    Enrolment

    Raises
    ------
    UserError
        When the file cannot be read or is empty, a model has no utterance, or a name is none.

    Example
    -------
    >>> path = getfixture("tmp_path") / "enroll.map"
    >>> _ = path.write_text("m1 a/1.wav a/2.wav\\nm2 b/1.wav\\n")
    >>> read_enrolment(path).models
    {'m1': ('a/1', 'a/2'), 'm2': ('b/1',)}
    """
    models: dict[str, dict[str, None]] = {}
    delimiter: str | None = None
    columns: tuple[int, int] | None = None
    for place, (number, line) in enumerate(read_lines(path, "the list of models")):
        if place == 0:
            columns, delimiter = read_first_line(line, _header, 1)
            if columns is not None:
                continue
        model, *utterances = split_line(line, delimiter)
        if columns is not None:
            fields = [model, *utterances]
            if len(fields) <= max(columns):
                raise UserError(
                    f"{path}:{number}: {line[:200]!r} lacks a column of the header.",
                    code="bad-line",
                )
            model, utterances = fields[columns[0]], [fields[columns[1]]]
        names = [name for name in utterances if name]
        if not names or not model:
            raise UserError(
                f"{path}:{number}: {line[:200]!r} names no utterance of a model; write the model "
                "and then its utterances, or take the line out.",
                code="bad-line",
            )
        name = model
        try:
            own = models.setdefault(utterance_name(model), {})
            for name in names:
                own[utterance_name(name, roots)] = None
        except ValueError as error:
            raise UserError(f"{path}:{number}: {name!r} {error}.", code="bad-line") from None
    if not models:
        raise UserError(
            f"{path}: names no model; write a model and its utterances on each line.",
            code="empty-list",
        )
    return Enrolment(os.fspath(path), {model: tuple(names) for model, names in models.items()})


def refuse_unused_models(enrolment: Enrolment, used: Iterable[Mapping[str, Sequence[str]]]) -> None:
    """Refuse models that no trial list names.

    Arguments
    ---------
    enrolment : Enrolment
        As read.
    used : iterable of mapping
        ``models`` of each trial list.

    Raises
    ------
    UserError
        When all of them are empty.

    Example
    -------
    >>> refuse_unused_models(Enrolment("m.txt", {"m": ("a", "b")}), [{}, {"m": ("a", "b")}])
    """
    if not any(used):
        named = first_few(list(enrolment.models))
        raise UserError(
            f"{enrolment.source}: no trial list has one of its models ({named}) on its "
            "enrolment side; give the lists that do, or leave the models out.",
            code="bad-enrolment",
        )


def write_enrolment(path: str | os.PathLike[str], models: Mapping[str, Sequence[str]]) -> None:
    """Write ``model utterance utterance …``, a model a line; the file is whole or absent.

    Example
    -------
    >>> path = getfixture("tmp_path") / "models.txt"
    >>> write_enrolment(path, {"m": ["a", "b"]})
    >>> path.read_text()
    'm a b\\n'
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(f"{model} {' '.join(names)}\n" for model, names in models.items())


def _header(fields: Sequence[str]) -> tuple[int, int] | None:
    """Where the columns of models and utterances are, if these are names of columns."""
    models = [place for place, field in enumerate(fields) if _MODEL.fullmatch(field)]
    utterances = [place for place, field in enumerate(fields) if _UTTERANCE.fullmatch(field)]
    return (models[0], utterances[0]) if len(models) == len(utterances) == 1 else None
