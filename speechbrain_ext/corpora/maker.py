"""What makes a corpus: one file of this folder, found by its name, run by stage 0."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from speechbrain_ext import corpora
from speechbrain_ext.corpora.folder import ELSEWHERE, finish_corpus
from speechbrain_ext.corpora.mirror.make import (
    MAX_FAILED_OPTION,
    check_source,
    mirror_source,
    mirrored_source,
    print_outcome,
)
from speechbrain_ext.errors import UserError, friendly_exit

#: Folder of a corpus in which speech without labels is mirrored.
UNLABELLED = "unlabelled"


class CorpusMaker(ABC):
    """What makes a corpus.

    ``speechbrain_ext/corpora/NAME.py`` holds a class that derives from this one, and the line
    ``CORPUS = TheClass()``. That is all: ``run.sh --corpus NAME`` then makes the corpus, and takes
    its options. ``prepare_corpus.py NAME --help`` prints the docstring of the class and these
    options.

    Example
    -------
    >>> class Silence(CorpusMaker):
    ...     "Speakers who say nothing."
    ...
    ...     def add_options(self, parser):
    ...         parser.add_argument("--speakers", type=int, default=2, help="number of speakers")
    ...
    ...     def prepare(self, out, options):
    ...         for number in range(options.speakers):
    ...             (out / "dev" / f"id{number}").mkdir(parents=True)
    ...         return {"name": "silence", "title": "Silence", "synthetic": True}
    >>> out = getfixture("tmp_path") / "silence"
    >>> make_corpus(Silence(), ["--out", str(out), "--speakers", "3"])
    >>> sorted(path.name for path in out.iterdir())
    ['corpus.json', 'dev']
    """

    @abstractmethod
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of this corpus.

        ``--out``, ``--jobs`` and ``--unlabelled`` are there already. run.sh gives its own
        ``--data``, ``--trials`` and ``--trials_root`` to a corpus that has them.
        """

    @abstractmethod
    def prepare(self, out: Path, options: argparse.Namespace) -> dict[str, Any]:
        """Make the corpus, or what is still to make of it.

        Arguments
        ---------
        out : Path
            The corpus folder. Of what is put there, stage 1 reads ``dev/``, the training speech,
            ``test/``, the speech that trial lists name, and ``trials/``, these lists. Both folders
            of speech are laid out as ``<speaker>/<session>/<utterance>.flac`` or without sessions.
            Training finds noise and rooms in ``noise/`` and ``rir/``.
        options : Namespace
            The options, among them ``jobs``, the number of processes.

        Returns
        -------
        dict
            What corpus.json says: ``name``, ``title``, whether the speech is ``synthetic``, and
            whatever else decides what is in the folder.

        Raises
        ------
        UserError
            When the corpus cannot be made; run again, the command goes on.
        """


class SentenceParser(argparse.ArgumentParser):
    """A parser of command lines whose refusals are a :class:`UserError`."""

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        raise UserError(f"{message}; see {self.prog} --help.", code="bad-command")


def corpus_names() -> list[str]:
    """The names of all corpora that can be made, sorted.

    Example
    -------
    >>> corpus_names()
    ['libri_mini', 'mini', 'own', 'voxceleb']
    """
    modules = [module.name for module in pkgutil.iter_modules(corpora.__path__)]
    return sorted(name for name in modules if _maker(name) is not None)


def find_corpus(name: str) -> CorpusMaker:
    """Give what makes the corpus of this name.

    Raises
    ------
    UserError
        When there is none.
    """
    maker = _maker(name)
    if maker is None:
        raise UserError(
            f"there is no corpus {name!r} to make: choose one of {', '.join(corpus_names())}.",
            code="unknown-name",
        )
    return maker


def _maker(name: str) -> CorpusMaker | None:
    module = f"{corpora.__name__}.{name}"
    try:
        maker = getattr(importlib.import_module(module), "CORPUS", None)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
    return maker if isinstance(maker, CorpusMaker) else None


def make_corpus(
    maker: CorpusMaker, arguments: Sequence[str] | None = None, prog: str | None = None
) -> None:
    """Run the command that makes a corpus.

    Arguments
    ---------
    maker : CorpusMaker
        What makes it.
    arguments : sequence of str, optional
        Those of the command line unless given.
    prog : str, optional
        What the command is called; the script's name unless given.

    Raises
    ------
    UserError
        When the command line cannot be used or the corpus cannot be made.
    """
    parser = _parser(maker, prog)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        raise UserError(f"--jobs is {options.jobs} but must be at least 1.", code="bad-option")
    refuse_forgotten(options.out / UNLABELLED, "--unlabelled", options.unlabelled)
    mirror = options.out / UNLABELLED
    if options.unlabelled is not None:
        check_source(options.unlabelled, mirror, labelled=False)  # the rest may take hours
    description = maker.prepare(options.out, options)
    if options.unlabelled is not None:
        outcome = mirror_source(
            options.unlabelled, mirror, options.jobs, options.max_failed, labelled=False
        )
        print_outcome(outcome, mirror)
    finish_corpus(options.out, description)


def refuse_forgotten(part: Path, option: str, given: Path | None) -> None:
    """Refuse to leave a part of a corpus as it is that an earlier command was given, and not this.

    Raises
    ------
    UserError
        When the folder ``part`` is there and its option was not given.
    """
    if given is None and part.exists():
        raise UserError(
            f"{part} has {mirrored_source(part) or 'other speech'}, which would be trained on too: "
            f"give {option} again, remove that folder, or {ELSEWHERE}.",
            code="other-settings",
        )


def _parser(maker: CorpusMaker, prog: str | None = None) -> SentenceParser:
    parser = SentenceParser(
        prog=prog,
        description=inspect.getdoc(maker),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="the corpus folder")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="processes or speakers at a time (default: one for each CPU)",
    )
    parser.add_argument(
        "--unlabelled",
        type=Path,
        help="a folder of further speech to train on, whose speakers nobody knows, at any depth; "
        "it stays as it is",
    )
    parser.add_argument("--max_failed", **MAX_FAILED_OPTION)
    maker.add_options(parser)
    return parser


def corpus_command(
    name: str, arguments: Sequence[str] | None = None, prog: str | None = None
) -> None:
    """Make the corpus of this name, as a script does: a mistake is a sentence and exit status 1."""
    with friendly_exit():
        make_corpus(find_corpus(name), arguments, prog)


def describe_corpus(name: str) -> dict[str, str]:
    """Tell which corpora can be made, and the options of one.

    Arguments
    ---------
    name : str
        Name of a corpus; it need not be one that can be made.

    Returns
    -------
    dict of str to str
        ``makers`` are the corpora that ``--corpus`` may name, as words of a sentence.
        ``corpus_options`` are the options of this one, and empty where nothing makes it.

    Example
    -------
    >>> describe_corpus("own")["corpus_options"]
    '--out --jobs --unlabelled --max_failed --data --trials_root'
    >>> describe_corpus("nothing")
    {'makers': 'libri_mini or mini or voxceleb', 'corpus_options': ''}
    """
    maker = _maker(name) if name.isidentifier() else None
    options = [] if maker is None else _parser(maker)._option_string_actions
    return {
        "makers": " or ".join(other for other in corpus_names() if other != "own"),
        "corpus_options": " ".join(word for word in options if word not in ("-h", "--help")),
    }
