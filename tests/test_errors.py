"""What ends a program, and how it is told."""

from __future__ import annotations

import ast
import os
import pickle
import re
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from speechbrain_ext.errors import MissingPackage, UserError, friendly_exit
from tests.processes import ROOT
from tests.refusals import refused


class Failing(torch.utils.data.Dataset[int]):
    """As a crop of a file with another sample rate fails."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise UserError("a.wav has 8000 samples a second:\nconvert it", code="unusable-audio")


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
    told = (tmp_path / "error.json").read_text()
    assert "smaller --num_workers" in told and "killed-process" in told


def test_ctrl_c_ends_a_program_and_its_loop_without_a_traceback() -> None:
    code = "from speechbrain_ext import errors as e\n"
    code += "with e.friendly_exit(): raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "stopped\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("piped", "said"),
    [
        (False, "error: a file could not be written (No space left on device): make room and run "),
        (True, ""),
    ],
)
def test_what_cannot_be_printed_is_told_once(unbuffered: str, piped: bool, said: str) -> None:
    """A full disk as a sentence, a reader who has gone by the status; never in Python's words."""
    code = "from speechbrain_ext import errors as e; import sys\n"
    code += "sys.stdin.read()\nwith e.friendly_exit(3): print('yes'); raise SystemExit(0)"
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if piped else full,
            stderr=subprocess.PIPE,
            text=True,
        )
    if process.stdout:
        process.stdout.close()
        process.stdout = None
    _, told = process.communicate()
    assert process.returncode == 3
    assert told.startswith(said) and told.count("\n") == bool(said)


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


def refuse() -> None:
    raise UserError("a.wav is empty: remove it", code="unusable-audio")


def test_an_error_keeps_its_code_on_its_way_out_of_a_process() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        done = pool.submit(refuse)
        with refused("unusable-audio", "a.wav"):
            done.result()
    copy = pickle.loads(pickle.dumps(MissingPackage("no_such is missing")))
    assert isinstance(copy, MissingPackage) and isinstance(copy, ImportError)
    assert (copy.code, str(copy)) == ("missing-package", "no_such is missing")


def codes_of(path: Path) -> set[str]:
    """What ``code=`` is given in a file."""
    calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
    given = [word.value for call in calls for word in call.keywords if word.arg == "code"]
    return {str(value.value) for value in given if isinstance(value, ast.Constant)}


def test_every_code_is_explained() -> None:
    """One table, in order, and none in it that nothing gives."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert explained == sorted(set(explained))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) for code in explained)
    files = [
        p for room in ("speechbrain_ext", "recipes", "tools") for p in ROOT.glob(f"{room}/**/*.py")
    ]
    assert set(explained) == set().union(*map(codes_of, files))
