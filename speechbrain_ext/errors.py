"""What a user is told when an input cannot be used."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any


class UserError(Exception):
    """A mistake the user can mend, in a sentence that names the file, the value and what to do.

    Arguments
    ---------
    message : str
        The sentence.
    code : str
        The kind of mistake, in a word or two: one of those in ``docs/errors.md``. Programs and
        tests go by it, so that the sentence can be worded anew.

    Example
    -------
    >>> UserError("a.yaml does not exist: give another", code="missing-file").code
    'missing-file'
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # Without it a copy for another process is made by calling the class, without the code.
        return Exception.__new__, (type(self), *self.args), self.__dict__


class MissingPackage(UserError, ImportError):
    """A package that is wanted and not installed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="missing-package")


def require(extra: str, *modules: str) -> None:
    """Refuse to go on without the modules that an extra of this package brings.

    Arguments
    ---------
    extra : str
        Of ``pyproject.toml``.
    *modules : str
        Names of modules.

    Raises
    ------
    MissingPackage
        Naming the first module that is not installed, and how to install it.

    Example
    -------
    >>> require("train", "numpy")
    >>> require("ssl", "no_such")
    Traceback (most recent call last):
    speechbrain_ext.errors.MissingPackage: no_such is missing: pip install "speechbrain_ext[ssl]"
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, extra)


@contextlib.contextmanager
def brought_by(extra: str) -> Iterator[None]:
    """Refuse to go on, as :func:`require` does, where an import inside the block finds no module.

    Example
    -------
    >>> with brought_by("train"):
    ...     import no_such
    Traceback (most recent call last):
    speechbrain_ext.errors.MissingPackage: no_such is missing: pip install "speechbrain_ext[train]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(str(error.name), extra) from None


def _missing(module: str, extra: str) -> MissingPackage:
    return MissingPackage(f'{module} is missing: pip install "speechbrain_ext[{extra}]"')


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORKER = re.compile(r"Caught (UserError|MissingPackage) in DataLoader worker")
_WORKER_DIED = re.compile(r"DataLoader worker \(pid.*?\) (is killed|exited unexpectedly)")


def sentence_of(error: Exception) -> str:
    """What an error says, without the traceback that it has from a worker process.

    Example
    -------
    >>> sentence_of(UserError("a.wav is empty: remove it", code="unusable-audio"))
    'a.wav is empty: remove it'
    """
    text = str(error).strip()
    if not _WORKER.match(text):
        return text
    starts = [found.end() for found in re.finditer(r"^[\w.]+: ", text, re.MULTILINE)]
    return text[starts[-1] :] if starts else text


def system_sentence(error: OSError) -> str | None:
    """What the system refuses, and what to do; None where it is not for a user to mend.

    Example
    -------
    >>> system_sentence(FileNotFoundError(2, "No such file or directory", "a.wav"))
    'a.wav cannot be used (No such file or directory): mend that, or give another'
    """
    if error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror}): mend that, or give another"
    if error.errno in _FULL:
        return f"a file could not be written ({error.strerror}): make room and run again"
    return None


def first_few(names: Sequence[str], separator: str = ", ") -> str:
    """Write up to five names.

    Example
    -------
    >>> first_few("abcdefg")
    'a, b, c, d, e, …'
    """
    return separator.join(names[:5]) + (f"{separator}…" if len(names) > 5 else "")


def told_apart(number: float, limit: float, decimals: int = 1) -> str:
    """Write a number in so many decimals that it lies on its side of a limit as it reads, too.

    Arguments
    ---------
    number, limit : float
        The two.
    decimals : int
        How many there are at least.

    Example
    -------
    >>> told_apart(19.4, 20), told_apart(19.996, 20), told_apart(20, 20)
    ('19.4', '19.996', '20.0')
    """
    while (shown := float(f"{number:.{decimals}f}")) != number:
        if (shown < limit, shown > limit) == (number < limit, number > limit):
            break
        decimals += 1
    return f"{number:.{decimals}f}"


@contextlib.contextmanager
def friendly_exit(status: int = 1) -> Iterator[None]:
    """Turn a :class:`UserError` into its sentence on standard error and an exit status.

    So is a file or folder that the system does not let us read or write, a full disk, also where
    standard output goes, and the death of a process that reads for this one. Where whoever reads
    standard output has gone, as ``head`` does, the status alone tells. Ctrl-C ends the program as
    ever, which a shell's loop relies on, but without a traceback. What a terminal cannot show is a
    question mark there.

    Arguments
    ---------
    status : int
        Of a program that could not do what it was asked.

    Example
    -------
    >>> with friendly_exit():
    ...     print("all is well")
    all is well
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        with _written_out():
            yield
    except UserError as error:
        _tell(sentence_of(error), error.code)
        raise SystemExit(status) from None
    except RuntimeError as error:
        if _WORKER.match(str(error)):  # PyTorch's, in place of an error that has a code
            _tell(sentence_of(error), "failed-process")
        elif _WORKER_DIED.match(str(error)):
            _tell(
                "a process that reads files ahead was killed, most likely for want of memory: run "
                "again with a smaller --num_workers, 0 for none",
                "killed-process",
            )
        else:
            raise
        raise SystemExit(status) from None
    except BrokenPipeError:
        raise SystemExit(status) from None
    except OSError as error:
        if (sentence := system_sentence(error)) is None:
            raise
        _tell(sentence, "system-error")
        raise SystemExit(status) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.excepthook = lambda *_: None
        raise


@contextlib.contextmanager
def _written_out() -> Iterator[None]:
    """Write out what is printed in the block at its end, where a fault can still be told."""
    try:
        yield
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            # What is left would be written when Python ends, and the fault be told in its words.
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            raise


def _tell(sentence: str, code: str) -> None:
    """Write a sentence on standard error, or where torchrun reads it, once for all processes."""
    told = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not told:
        print(f"error: {sentence}", file=sys.stderr)
        return
    facts = {"py_callstack": f"error: {sentence}", "timestamp": int(time.time()), "code": code}
    with open(told, "w", encoding="utf-8") as file:
        json.dump({"message": {"message": sentence, "extraInfo": facts}}, file)
