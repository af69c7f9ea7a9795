"""A model, a corpus with lists and the command, for the tests of evaluate.py."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import evaluate
import pytest

from speechbrain_ext.export.model_folder import write_model_folder
from tests.recipe.experiments import make_experiment
from tests.recipe.tiny import make_corpus


def exported_model(root: Path) -> Path:
    folder = make_experiment(root / "v2" / "seed_1")
    write_model_folder(folder, folder / "export")
    return folder


def listed_corpus(root: Path) -> Path:
    """A folder `valid` of 4 speakers with 4 utterances each, and lists about it."""
    folder = make_corpus(root)
    shutil.copy(folder / "manifests" / "trials" / "valid.txt", folder / "own.txt")
    (folder / "mixed.txt").write_text(
        "valid/id050/s0/0.wav valid/id050/s1/1.wav target\n"
        "valid/id050/s0/0.wav valid/id051/s1/1.wav nontarget\n"
        "valid/id052/s0/0.wav valid/id051/s0/0.wav target\n"
    )
    return folder


def call(*arguments: str | Path) -> None:
    """The command in this process, which saves the time of starting another."""
    with pytest.MonkeyPatch.context() as patch:
        fixed = ["--device", "cpu", "--num_workers", "0"]
        patch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments), *fixed])
        with evaluate.friendly_exit():
            evaluate.main()


def result(out: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "results" / f"{name}.json").read_text())
    return content


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one sentence that the command ends with."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert stop.value.code == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error
