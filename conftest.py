"""Every test begins from one random state, which ``--seed`` chooses; some want ffmpeg."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _compiled_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What torch.compile makes is not another process's, which may write it anew meanwhile."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("inductor"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--seed``: no test may depend on it."""
    parser.addoption("--seed", type=int, default=0, help="of the random state of every test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the recipe first: a long one at the end has all other cores wait for it."""
    recipe = Path(__file__).parent / "tests" / "recipe"
    items.sort(key=lambda item: not item.path.is_relative_to(recipe))


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture
def ffmpeg(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have ffmpeg on PATH: the system's, or the one of the package imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    package = pytest.importorskip("imageio_ffmpeg", reason="there is no ffmpeg")
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(package.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return str(folder / "ffmpeg")
