"""The scripts that make corpora, as they are called."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import environment
from tests.recipe.tiny import RECIPE


def help_of(script: str, *name: str) -> str:
    command = [sys.executable, f"local/{script}.py", *name, "--help"]
    done = subprocess.run(command, cwd=RECIPE, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_scripts_of_the_corpora_that_come_along() -> None:
    assert "{libri_mini | mini | own | voxceleb}" in help_of("prepare_corpus")
    assert "--train_speakers" in help_of("prepare_corpus", "mini")
    assert "--min_seconds" in help_of("make_mini_corpus")
    assert "--voxceleb2" in help_of("prepare_voxceleb")
    assert "--librispeech" in help_of("prepare_libri_mini")
