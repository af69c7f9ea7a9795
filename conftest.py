"""Every test begins from the same random state, which ``--seed`` chooses."""

from __future__ import annotations

import os
import random

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


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
