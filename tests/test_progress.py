"""Where bars of progress are seen, and where not."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

BAR = "from speechbrain_ext.progress import progress_bar\nlist(progress_bar(range(3), desc='bar'))"


def open_terminal() -> tuple[int, int]:
    """What is seen of it, and itself."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    return master, terminal


def run(stderr: int, named: str, code: str = BAR) -> None:
    env = {**os.environ, "PROGRESS_TERMINAL": named, "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", code], stderr=stderr, env=env, check=True)


def seen(terminal: int) -> str:
    """What has been written to a terminal."""
    os.set_blocking(terminal, False)
    try:
        return os.read(terminal, 10_000).decode()
    except BlockingIOError:
        return ""


@pytest.mark.parametrize("output", ["file", "terminal"])
@pytest.mark.parametrize("named", ["terminal", "nothing", "file"])
def test_a_bar_is_for_a_terminal(output: str, named: str, tmp_path: Path) -> None:
    """For standard error, else for the one that is named; a file gets none."""
    master, terminal = open_terminal()
    names = {"terminal": os.ttyname(terminal), "nothing": "", "file": str(tmp_path / "no" / "x")}
    with open(tmp_path / "log", "wb") as log:
        run(log.fileno() if output == "file" else terminal, names[named])
    assert ("bar: 100%" in seen(master)) == (output == "terminal" or named == "terminal")
    assert (tmp_path / "log").read_bytes() == b""
    os.close(master)
    os.close(terminal)


def test_bars_of_others_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As run.sh does: libraries' bars know no terminal but standard error."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    master, terminal = open_terminal()
    with open(tmp_path / "log", "wb") as log:
        run(log.fileno(), os.ttyname(terminal), "import tqdm\nlist(tqdm.tqdm([1]))\n" + BAR)
    assert "bar: 100%" in seen(master) and (tmp_path / "log").read_bytes() == b""
    os.close(master)
    os.close(terminal)


def test_every_bar_is_made_here() -> None:
    """What makes one itself would write it into a log."""
    root = Path(__file__).parents[1]
    sources = [*root.glob("speechbrain_ext/**/*.py"), *root.glob("recipes/**/*.py")]
    makers = [path for path in sources if re.search(r"\b(tqdm|trange)\(", path.read_text())]
    assert makers == [root / "speechbrain_ext" / "progress.py"]
