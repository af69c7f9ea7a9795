"""What a user is told when an input cannot be used."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


class UserError(Exception):
    """A mistake the user can mend, in a sentence that names the file, the value and what to do."""


@contextlib.contextmanager
def friendly_exit() -> Iterator[None]:
    """Turn a :class:`UserError` into its sentence on standard error and exit status 1.

    Example
    -------
    >>> with friendly_exit():
    ...     print("all is well")
    all is well
    """
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
