"""``spk`` in this process, on a model folder of a few numbers and recordings of tones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import soundfile

from speechbrain_ext.cli.main import main
from tests.runtime.models import RATE, make_model, voice


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Spk = Callable[..., Done]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, which no test changes."""
    return make_model(tmp_path_factory.mktemp("model") / "tones")


@pytest.fixture
def spk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model_folder: Path
) -> Spk:
    """Run the command in this process, with the model of tones by default."""
    monkeypatch.setenv("SPK_MODEL", str(model_folder))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which Ctrl-C takes away

    def run(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["spk", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Done(int(stop.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Recordings ``<speaker>_<take>.wav`` of three speakers."""
    folder = tmp_path / "voices"
    folder.mkdir()
    for speaker in range(3):
        for take in range(3):
            soundfile.write(folder / f"{speaker}_{take}.wav", voice(speaker, take), RATE)
    return folder
