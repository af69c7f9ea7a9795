"""What a user is told when an input cannot be used."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


class UserError(Exception):
    """A mistake the user can mend, in a sentence that names the file, the value and what to do."""


class MissingPackage(UserError, ImportError):
    """A package that is wanted and not installed."""


_NAME = f"{UserError.__module__}.{UserError.__qualname__}"


@contextlib.contextmanager
def friendly_exit() -> Iterator[None]:
    """Turn a :class:`UserError` into its sentence on standard error and exit status 1.

    So is a file or folder that the system does not let us read or write. Ctrl-C ends with 130.

    Example
    -------
    >>> with friendly_exit():
    ...     print("all is well")
    all is well
    """
    try:
        yield
    except UserError as error:
        sentence = str(error).strip()
        if sentence.startswith("Caught "):  # in a worker process, with its traceback before it
            sentence = sentence.splitlines()[-1].removeprefix(f"{_NAME}: ")
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename} cannot be used ({error.strerror})", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped: run the same again to go on", file=sys.stderr)
        raise SystemExit(130) from None
