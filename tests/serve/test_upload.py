"""What is left of recordings once they are decoded."""

from __future__ import annotations

import tempfile

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from speechbrain_ext.serve.upload import decode
from tests.serve.sounds import tone


def test_recordings_are_closed_one_after_another() -> None:
    """A thousand of them in a request would take all the files that a process can have open."""
    files = {f"file {number}": tempfile.TemporaryFile() for number in range(3)}
    for file in files.values():
        file.write(tone(300))
    assert len(decode(files, seconds=10, rate=16000)) == 3
    assert all(file.closed for file in files.values())
