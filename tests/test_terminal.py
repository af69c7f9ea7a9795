"""Tables on a terminal, and in a file or a pipe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.table import Table

from speechbrain_ext.terminal import print_table
from tests.test_progress import open_terminal

NAMES = [f"exp/voxceleb/{'a_long_name_' * 4}{number}/seed_1" for number in range(4)]


def table() -> Table:
    """One of more than 80 columns, some of which may not be broken."""
    made = Table("system", title="speeds")
    for name in NAMES:
        made.add_column(name, no_wrap="1" in name)
    made.add_row("v2", *NAMES)
    return made


def test_nothing_is_cut_or_broken_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(table())
    lines = capsys.readouterr().out.splitlines()
    assert sum(all(name in line for name in NAMES) for line in lines) == 2
    assert not any("…" in line for line in lines)


def test_a_terminal_has_its_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    master, terminal = open_terminal()
    with open(terminal, "w", encoding="utf-8", closefd=False) as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        monkeypatch.setattr("sys.stdin", stdout)
        monkeypatch.setattr("sys.__stdout__", stdout)
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("NO_COLOR", "1")
        print_table(table())
    shown = os.read(master, 100_000).decode(errors="replace").splitlines()
    assert len(shown) > 4 and max(map(len, shown)) <= 80
