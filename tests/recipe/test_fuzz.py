"""Damaged inputs through the commands, and a command that does what it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools import fuzz


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> fuzz.Place:
    return fuzz.make_place(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("audio", 2), ("lists", 40), ("settings", 24)])
def test_every_input_ends_well_or_in_a_sentence(kind: str, count: int, place: fuzz.Place) -> None:
    ends = list(fuzz.attempts(place, 0, kind, range(count)))
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
    with pytest.raises(fuzz.Fault, match=words.replace("(", r"\(")):
        fuzz.run(str(script))


def test_ends_that_are_allowed(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text("import sys\nif len(sys.argv) > 1: sys.exit(f'error: {sys.argv[1]}: no')")
    assert fuzz.run(str(script)) == ""
    script.write_text("import sys\nprint('error: x: no', file=sys.stderr)\nsys.exit(1)")
    assert fuzz.run(str(script)) == "error: x: no"


def test_a_file_that_nobody_mentions_is_a_fault(tmp_path: Path) -> None:
    audio, out = tmp_path / "in", tmp_path / "out"
    for folder in (audio, out):
        folder.mkdir()
    (audio / "a.wav").touch()
    (out / "failures.tsv").write_text("path\tcause\tdetail\n")
    with pytest.raises(fuzz.Fault, match="a.wav has no embedding and no failure"):
        fuzz.every_file_is_told_of(audio, out)
    np.save(out / "a.npy", np.full(3, np.nan))
    with pytest.raises(fuzz.Fault, match="not finite"):
        fuzz.every_file_is_told_of(audio, out)


def test_inputs_follow_from_the_seed(tmp_path: Path) -> None:
    names = []
    for folder in ("one", "two"):
        draw = np.random.default_rng([1, 2])
        names.append([Path(fuzz.write_audio(tmp_path / folder, n, draw)).name for n in range(30)])
    assert names[0] == names[1]
    assert fuzz.damaged(b"abc" * 50, np.random.default_rng(1)) != b"abc" * 50
