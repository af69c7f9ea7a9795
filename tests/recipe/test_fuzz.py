"""Damaged inputs through the commands, and a command that does what it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.fuzz.attempts import attempts
from tools.fuzz.audio import every_file_is_told_of, write_audio
from tools.fuzz.command import Fault, Prepared, prepare, run
from tools.fuzz.damage import damaged


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("audio", 2), ("lists", 40), ("settings", 24)])
def test_every_input_ends_well_or_in_a_sentence(kind: str, count: int, prepared: Prepared) -> None:
    ends = list(attempts(prepared, 0, kind, range(count)))
    assert [words for _, end, words in ends if end == "fault"] == []
    # A folder of broken files seldom has speakers enough to end well.
    assert {end for _, end, _ in ends} >= {"told"} | ({"well"} if kind != "audio" else set())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ValueError('odd')", "ValueError: odd"),
        ("import sys; sys.exit(3)", "status 3 and no sentence"),
        ("print('Traceback (most recent call last)')", "a traceback was printed"),
        ("raise SystemExit('')", "status 1 and no sentence"),
    ],
)
def test_a_fault_is_seen(text: str, words: str, tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(text)
    with pytest.raises(Fault, match=words.replace("(", r"\(")):
        run(str(script))


def test_ends_that_are_allowed(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text("import sys\nif len(sys.argv) > 1: sys.exit(f'error: {sys.argv[1]}: no')")
    assert run(str(script)) == ""
    script.write_text("import sys\nprint('error: x: no', file=sys.stderr)\nsys.exit(1)")
    assert run(str(script)) == "error: x: no"


def test_a_file_that_nobody_mentions_is_a_fault(tmp_path: Path) -> None:
    audio, out = tmp_path / "in", tmp_path / "out"
    for folder in (audio, out):
        folder.mkdir()
    (audio / "a.wav").touch()
    (out / "failures.tsv").write_text("path\tcause\tdetail\n")
    with pytest.raises(Fault, match="a.wav has no embedding and no failure"):
        every_file_is_told_of(audio, out)
    np.save(out / "a.npy", np.full(3, np.nan))
    with pytest.raises(Fault, match="not finite"):
        every_file_is_told_of(audio, out)


def test_inputs_follow_from_the_seed(tmp_path: Path) -> None:
    names = []
    for folder in ("one", "two"):
        draw = np.random.default_rng([1, 2])
        names.append([Path(write_audio(tmp_path / folder, n, draw)).name for n in range(30)])
    assert names[0] == names[1]
    assert damaged(b"abc" * 50, np.random.default_rng(1)) != b"abc" * 50
