"""What ends a program, and how it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from speechbrain_ext.errors import UserError, friendly_exit


class Failing(torch.utils.data.Dataset[int]):
    """As a crop of a file with another sample rate fails."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise UserError("a.wav has 8000 samples a second:\nconvert it")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_is_its_sentence_from_a_worker_too(
    workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, friendly_exit():
        list(DataLoader(Failing(), num_workers=workers))
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: a.wav has 8000 samples a second:\nconvert it\n"


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, friendly_exit():
        (tmp_path / "file").touch()
        (tmp_path / "file" / "below").mkdir()
    assert end.value.code == 1
    expected = f"error: {tmp_path}/file/below cannot be used (Not a directory): "
    expected += "mend that, or give another\n"
    assert capsys.readouterr().err == expected


def test_a_full_disk_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The system names no file then."""
    with pytest.raises(SystemExit) as end, friendly_exit(), open("/dev/full", "w") as file:
        file.write("1")
        file.flush()
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: a file could not be written (No space left on device): make room and run again\n"
    )


def test_a_dead_worker_is_told_where_other_mistakes_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that of several processes the launcher tells it once."""
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(SystemExit), friendly_exit():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert capsys.readouterr().err == ""
    assert "smaller --num_workers" in (tmp_path / "error.json").read_text()


def test_ctrl_c_ends_a_program_and_its_loop_without_a_traceback() -> None:
    code = "from speechbrain_ext import errors as e\n"
    code += "with e.friendly_exit(): raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "stopped\n")


def test_a_terminal_that_knows_only_ascii_ends_nothing() -> None:
    """Nor does a file name that is no text."""
    code = "from speechbrain_ext import errors as e\n"
    code += r"with e.friendly_exit(): print('2 \u00d7 \udcff')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 ? ?\n", "")


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="ours"), friendly_exit():
        raise RuntimeError("ours")
