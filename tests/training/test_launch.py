"""Several processes, one a GPU: what goes wrong is told once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from speechbrain_ext.processes import first_decides
from tests.processes import HANG, environment
from tests.refusals import refused

pytestmark = pytest.mark.slow

SCRIPT = """
import os, signal, sys
from speechbrain_ext.errors import UserError, friendly_exit

what, first = sys.argv[1], os.environ["RANK"] == "0"
with friendly_exit():
    if what == "all":
        raise UserError("x.yaml does not exist: give another", code="missing-file")
    if what == "first" and first:
        raise UserError("x.yaml does not exist: give another", code="missing-file")
    if what == "second" and not first:
        raise UserError("x.yaml does not exist: give another", code="missing-file")
    if what == "killed" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "file":
        open("/no/such/file")
    if what != "well":
        signal.pause()  # as one that waits for the other
"""


def launch(path: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    path.write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "speechbrain_ext.training.launch", "2", str(path), *arguments],
        env=environment() | changes,
        capture_output=True,
        text=True,
        timeout=HANG,
    )


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("all", "error: x.yaml does not exist: give another\n"),
        ("first", "error: x.yaml does not exist: give another\n"),
        ("second", "error: x.yaml does not exist: give another\n"),
        ("killed", "was killed by signal 9"),
        ("file", "cannot be used (No such file or directory): mend that, or give another\n"),
        ("well", ""),
    ],
)
def test_a_failure_is_one_sentence(what: str, told: str, tmp_path: Path) -> None:
    done = launch(tmp_path / "script.py", what)
    assert done.returncode == int(what != "well")
    assert done.stderr.count("\n") == int(what != "well"), done.stderr
    assert done.stderr.endswith(told) if what != "killed" else told in done.stderr


def test_a_full_disk_is_told_by_the_first() -> None:
    with refused("system-error", "No space left"):
        first_decides(lambda: print(Path("/dev/full").write_text("1")))


def test_fewer_gpus_are_told_before_anything_is_started(tmp_path: Path) -> None:
    """None is visible here; who says that a CPU is meant gets it."""
    done = launch(tmp_path / "script.py", "well", CUDA_VISIBLE_DEVICES="-1")
    expected = "error: --ngpu 2 is one process for each of 2 GPUs, and there are 0 here: "
    assert done.returncode == 1 and done.stderr == expected + "give --ngpu 0\n"
    for words in (["--device", "cpu"], ["--device=cpu"]):
        done = launch(tmp_path / "x.py", "well", *words, CUDA_VISIBLE_DEVICES="-1")
        assert done.returncode == 0, done.stderr
    done = launch(tmp_path / "x.py", "well", "--system", "cpu", CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 1
