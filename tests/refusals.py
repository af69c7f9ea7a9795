"""What a user is told, without the wording."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from speechbrain_ext.errors import UserError


@contextlib.contextmanager
def refused(code: str, *facts: object) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expect a mistake of a kind, and facts in its sentence: files, keys and values, in order."""
    with pytest.raises(UserError) as caught:
        yield caught
    assert caught.value.code == code, f"{caught.value.code}: {caught.value}"
    rest = str(caught.value)
    for fact in map(str, facts):
        _, found, rest = rest.partition(fact)
        assert found, f"{fact!r} is not, in this order, in: {caught.value}"
