"""Trial lists: reading, writing, forming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.trials import (
    TrialList,
    make_trials,
    read_trials,
    strip_audio_extension,
    write_trials,
)


def _pairs(trials: TrialList) -> list[tuple[str, str, bool]]:
    return list(
        zip(trials.enrol.tolist(), trials.test.tolist(), trials.labels.tolist(), strict=True)
    )


def _write(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_both_formats_give_the_same_trials(tmp_path: Path) -> None:
    """VoxCeleb's and Kaldi's columns are told apart by content, whatever the blank space."""
    expected = [("a/1.wav", "b/1.wav", False), ("a/1.wav", "a/2.wav", True)]
    voxceleb = _write(tmp_path, "\ufeff0 a/1.wav b/1.wav\n\n1\ta/1.wav  a/2.wav\r\n")
    assert _pairs(read_trials(voxceleb)) == expected
    kaldi = _write(tmp_path, "a/1.wav b/1.wav nontarget\na/1.wav a/2.wav target\n")
    assert _pairs(read_trials(kaldi)) == expected


def test_kaldi_names_may_look_like_labels(tmp_path: Path) -> None:
    """An enrolment model called 1 is no label when the last column is one."""
    assert _pairs(read_trials(_write(tmp_path, "1 2 target\n"))) == [("1", "2", True)]


@pytest.mark.parametrize(
    ("text", "line", "content"),
    [
        ("a b\n", 1, "a b"),
        ("a b same\n", 1, "a b same"),
        ("1 a b\n1 a b 0.73\n", 2, "1 a b 0.73"),
        ("1 a b\n2 a c\n", 2, "2 a c"),
        ("1 a b\n\na c target\n", 3, "a c target"),
        ("a b target\n1 a c\n", 2, "1 a c"),
        ("a b c target\n", 1, "a b c target"),
    ],
)
def test_another_format_is_named(tmp_path: Path, text: str, line: int, content: str) -> None:
    """A third format is one sentence with file, line and content."""
    path = _write(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_trials(path)
    assert f"{path}, line {line}: {content!r}" in str(error.value)


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    """Missing, empty and binary files are each refused by name."""
    with pytest.raises(UserError, match="nowhere.txt.*cannot be read"):
        read_trials(tmp_path / "nowhere.txt")
    with pytest.raises(UserError, match="list.txt.*empty"):
        read_trials(_write(tmp_path, "\n\n"))
    (tmp_path / "list.bin").write_bytes(b"1 a \xff\xfe\n")
    with pytest.raises(UserError, match="list.bin.*not UTF-8"):
        read_trials(tmp_path / "list.bin")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Write and read are inverse, non-ASCII names included."""
    trials = TrialList.from_names(["ä/1", "b/1"], ["b/1", "c/1"], [True, False])
    write_trials(tmp_path / "deep" / "list.txt", trials)
    assert _pairs(read_trials(tmp_path / "deep" / "list.txt")) == _pairs(trials)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["list.txt"]


def test_sides_of_different_length_are_refused() -> None:
    """A list cannot have more enrolments than labels."""
    with pytest.raises(ValueError, match="2 enrolment, 2 test, 1 labels"):
        TrialList.from_names(["a", "b"], ["b", "c"], [True])


def test_extensions() -> None:
    """Only audio extensions at the end go."""
    assert strip_audio_extension("a.flac/1.M4A") == "a.flac/1"
    assert strip_audio_extension("a/1.5") == "a/1.5"


def test_targets_cross_sessions_where_there_are_several() -> None:
    """Pairs within a session are left out for speakers with several, kept for those with one."""
    ids = ["a1", "a2", "a3", "b1", "b2"]
    speakers, sessions = ["a", "a", "a", "b", "b"], ["s", "s", "t", "s", "s"]
    pairs = _pairs(make_trials(ids, speakers, sessions))
    assert {pair[:2] for pair in pairs if pair[2]} == {("a1", "a3"), ("a2", "a3"), ("b1", "b2")}
    assert {pair[:2] for pair in pairs if not pair[2]} == {
        (first, second) for first in ids[:3] for second in ids[3:]
    }
    assert len(pairs) == 9


def test_make_trials_against_a_plain_loop() -> None:
    """The vectorised pairs equal those of two nested loops, in their order."""
    rng = np.random.default_rng(3)
    speakers = [f"p{n}" for n in rng.integers(0, 6, 40)]
    sessions = [f"s{n}" for n in rng.integers(0, 3, 40)]
    ids = [f"u{n}" for n in range(40)]
    expected = []
    for i in range(40):
        for j in range(i + 1, 40):
            same = speakers[i] == speakers[j]
            heard = {t for s, t in zip(speakers, sessions, strict=True) if s == speakers[i]}
            if not (same and sessions[i] == sessions[j] and len(heard) > 1):
                expected.append((ids[i], ids[j], same))
    assert _pairs(make_trials(ids, speakers, sessions)) == expected


@pytest.mark.parametrize(
    ("speakers", "missing"),
    [(["a", "b"], "no target"), (["a", "a"], "no non-target"), ([], "no target")],
)
def test_too_few_utterances(speakers: list[str], missing: str) -> None:
    """Trials of one kind alone measure nothing: the counts and the remedy are told."""
    count = len(speakers)
    with pytest.raises(UserError, match=f"{count} utterances of .* speakers form {missing}.*hold"):
        make_trials([str(n) for n in range(count)], speakers, ["s"] * count)
