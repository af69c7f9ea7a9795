"""What tests of several commands need."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from speechbrain_ext.training.brain import SpeakerBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.stubbed_run_sh import Recipe
from tests.recipe.tiny import RECIPE, TEACHER, make_corpus

Train = Callable[..., None]


@pytest.fixture(scope="module")
def whole_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def corpus(whole_corpus: Path, tmp_path: Path) -> Path:
    """A copy to damage; its manifests name the copy's files."""
    copy = tmp_path / "corpus"
    shutil.copytree(whole_corpus, copy)
    for manifest in (copy / "manifests").glob("*.csv"):
        manifest.write_text(manifest.read_text().replace(str(whole_corpus), str(copy)))
    return copy


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path / "with a space")


@pytest.fixture
def train(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """Trains in this process, into ``tmp_path / "exp"``."""
    monkeypatch.chdir(RECIPE)
    hook, threads = sys.excepthook, torch.get_num_threads()
    torch.set_num_threads(1)

    def run(
        brain: type[SpeakerBrain] = TeacherBrain, *arguments: Any, base: list[str] = TEACHER
    ) -> None:
        given = ["--corpus_dir", corpus, "--output_folder", tmp_path / "exp", *arguments]
        run_training(brain, [*base, *map(str, given)])

    yield run
    sys.excepthook = hook
    torch.set_num_threads(threads)
