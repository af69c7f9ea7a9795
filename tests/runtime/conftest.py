"""A model folder and a gallery for the tests of the runtime and of ``spk``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.models import make_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, which no test changes."""
    return make_model(tmp_path_factory.mktemp("model") / "tones")
