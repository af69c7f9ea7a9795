"""Trial lists: reading, writing, forming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.formats import strip_audio_extension
from speechbrain_ext.verification.enrolment import read_enrolment
from speechbrain_ext.verification.lists import root_paths
from speechbrain_ext.verification.trials import (
    TrialList,
    make_trials,
    read_trials,
    write_trials,
)
from tests.refusals import refused


def _pairs(trials: TrialList) -> list[tuple[str, str, bool]]:
    return list(
        zip(trials.enrol.tolist(), trials.test.tolist(), trials.labels.tolist(), strict=True)
    )


def _write(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


EXPECTED = [("a/1", "b/1", False), ("a/1", "a/2", True)]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff0 a/1.wav b/1.wav\n\n1\ta/1.wav  a/2.wav\r\n",
        "# VoxCeleb\r\n0 a/1.wav b/1.flac\r\n1 a/1.flac a/2.wav\r\n",
        "a/1.wav b/1.wav nontarget\na/1.wav a/2.wav target\n",
        "a/1 b/1 imp\na/1 a/2 tgt\n",
        "IMP a/1 b/1\nTGT a/1 a/2\n",
        "a/1 b/1 0\na/1 a/2 1",
        "a/1,b/1,0\na/1, a/2, 1\n",
        "a/1.wav;b/1.wav;False\na/1.wav;a/2.wav;True\n",
        "enrol,test,label\na/1,b/1,0\na/1,a/2,1\n",
        'Label,"Enroll_wav",test_wav,note\n0,"a/1",b/1,"x, y"\n1,a/1,a/2,\n',
        "modelid\tsegmentid\tside\ttargettype\na/1\tb/1\ta\tnontarget\na/1\ta/2\t\ttarget\n",
        "test enrol target\nb/1 a/1 0\na/2 a/1 1\n",
        "0 ./a/1.wav a/../b/1\n1 a\\1.WAV a//2\n",
        "0 /data/set/a/1.wav b/1\n1 /data/set/./a/1 /data/set/a/2.flac\n",
    ],
)
def test_every_format_gives_the_same_trials(tmp_path: Path, text: str) -> None:
    """Columns, labels and names are told by content, whatever the system that wrote them."""
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    trials = read_trials(path, root_paths("/data/set"))
    assert _pairs(trials) == EXPECTED
    assert trials.names.tolist() == ["a/1", "b/1", "a/2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The word is the label, whatever the names look like.
        ("1 2 target\n0 1 nontarget\n", [("1", "2", True), ("0", "1", False)]),
        # The third line tells that the first field is no label.
        ("1 5 0\n0 7 1\n12 7 1\n", [("1", "5", False), ("0", "7", True), ("12", "7", True)]),
        # Names are one letter or two, as the file system has it.
        ("1 Rene\u0301/1 a\n0 Ren\u00e9/1 b\n", [("René/1", "a", True), ("René/1", "b", False)]),
    ],
)
def test_names_may_look_like_labels(
    tmp_path: Path, text: str, expected: list[tuple[str, str, bool]]
) -> None:
    """A list is read when one field of its lines alone can be the label."""
    assert _pairs(read_trials(_write(tmp_path, text))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "1 a,b/1 c,d/2\n0 e/1 c,d/2\n",
        "a,b/1\tc,d/2\ttarget\ne/1 c,d/2 nontarget\n",
        'label,enrol,test\n1,"a,b/1","c,d/2"\n0,e/1,"c,d/2"\n',
        "enrol path;test path;label\na,b/1;c,d/2;1\ne/1;c,d/2;0\n",
    ],
)
def test_names_may_hold_commas(tmp_path: Path, text: str) -> None:
    """What white space divides, commas do not."""
    expected = [("a,b/1", "c,d/2", True), ("e/1", "c,d/2", False)]
    assert _pairs(read_trials(_write(tmp_path, text))) == expected


@pytest.mark.parametrize(
    ("text", "line", "code", "facts"),
    [
        ("a b\n", 1, "bad-line", ("'a b'",)),
        ("a b same\n", 1, "bad-line", ("'a b same'",)),
        ("1 a b\n1 a b 0.73\n", 2, "bad-line", ("'1 a b 0.73'",)),
        ("1 a b\n2 a c\n", 2, "bad-line", ("'2 a c'",)),
        ("1 a b\n\na c target\n", 3, "bad-line", ("'a c target'",)),
        ("a b target\n1 a c\n", 2, "bad-line", ("'1 a c'",)),
        ("a b target\na c 0\n", 2, "bad-line", ("'a c 0'",)),
        ("1 5 0\n5 1 7\n", 2, "bad-line", ("'5 1 7'",)),
        ("a b c target\n", 1, "bad-line", ("'a b c target'",)),
        ("1 a b\n0,a,c\n", 2, "bad-line", ("'0,a,c'",)),
        ("enrol,test,label\na,b\n", 2, "bad-line", ("'a,b'",)),
        ("1 5 0\n0 7 1\n", 1, "unknown-format", ("'enrol test label'",)),
        ("1 a b\n0 a ../c\n", 2, "bad-line", ("'../c'", "/data/")),
        ("1 a b\n0 a /other/c.wav\n", 2, "bad-line", ("'/other/c.wav'", "/data/")),
        (f"1,a,b\n0,{'a' * 140_000},b\n", 2, "bad-line", ("'0,aaaaaaaa",)),
        ("1,a,b\n0,a,b c\n", 2, "bad-line", ("'b c'", "white space")),
    ],
)
def test_a_bad_line_is_named(
    tmp_path: Path, text: str, line: int, code: str, facts: tuple[str, ...]
) -> None:
    """What is no trial is one sentence with file, line and content."""
    path = _write(tmp_path, text)
    with refused(code, f"{path}:{line}:", *facts):
        read_trials(path, root_paths("/data"))


def test_a_list_of_one_kind_is_refused(tmp_path: Path) -> None:
    """Without both kinds there is no error rate."""
    for text, missing in (("1 a b\n", "non-target"), ("enrol,test,label\na,b,0\n", "target")):
        with refused("one-sided-trials", "list.txt", f" {missing} "):
            read_trials(_write(tmp_path, text))


def test_models_of_several_utterances(tmp_path: Path) -> None:
    """The enrolment side names models; what is heard, and who speaks, are their utterances."""
    (tmp_path / "enroll.map").write_text("m1.wav a/1.wav /data/a/2.wav\nm2 b/1\nm2 b/2\nm3 c/1\n")
    enrolment = read_enrolment(tmp_path / "enroll.map", root_paths("/data"))
    path = _write(tmp_path, "m1 a/3.wav 1\nm2 a/3.wav 0\nm1 b/1.wav 0\n")
    trials = read_trials(path, root_paths("/data"), enrolment)
    assert trials.models == {"m1": ("a/1", "a/2"), "m2": ("b/1", "b/2")}
    assert trials.utterances == ["a/3", "b/1", "a/1", "a/2", "b/2"]
    speakers = dict(zip(trials.names, trials.speakers(lambda name: name[0]), strict=True))
    assert speakers == {"m1": "a", "a/3": "a", "m2": "b", "b/1": "b"}
    with refused("bad-enrolment", " m1 ", " 2 ", "a/1, a/2"):
        trials.speakers(str)
    # Of a list that names no model, utterances are compared.
    path = _write(tmp_path, "a/1 a/2 1\na/1 b/1 0\n")
    assert read_trials(path, enrolment=enrolment).models == {}
    with refused("bad-enrolment", "list.txt", "1 of its 2", "enroll.map", " m9;"):
        read_trials(_write(tmp_path, "m1 a/3 1\nm9 a/3 0\n"), enrolment=enrolment)
    with refused("repeated-name", "list.txt", " m1 "):
        read_trials(_write(tmp_path, "m1 a/3 1\nm2 m1 0\n"), enrolment=enrolment)


def test_lists_of_models(tmp_path: Path) -> None:
    """Kaldi's spk2utt, NIST's table, and what is neither."""
    path = tmp_path / "models.txt"
    for text in (
        "\ufeffm1 a b\r\nm2 c\r\n",
        "m1,a,b\nm2,c,\n",
        "modelid\tsegmentid\tside\nm1\ta.sph\ta\nm1\tb.sph\tb\nm2\tc.sph\ta\n",
    ):
        path.write_bytes(text.encode())
        assert read_enrolment(path).models == {"m1": ("a", "b"), "m2": ("c",)}
    for text in ("m,1 a,b/1 c\n", 'modelid,segmentid\n"m,1","a,b/1"\n"m,1",c\n'):
        path.write_text(text)
        assert read_enrolment(path).models == {"m,1": ("a,b/1", "c")}
    for text, *told in (
        ("m1 a\nm2\n", "bad-line", "models.txt:2:", "'m2'"),
        ("# none\n", "empty-list", "models.txt"),
        ("m1 a /other/b\n", "bad-line", "models.txt:1:", "'/other/b'", "/data/"),
        ("modelid,segmentid\nm1\n", "bad-line", "models.txt:2:", "'m1'", "header"),
    ):
        path.write_text(text)
        with refused(*told):
            read_enrolment(path, root_paths("/data"))


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    """Missing, empty and binary files are each refused by name."""
    with refused("unreadable-file", "nowhere.txt"):
        read_trials(tmp_path / "nowhere.txt")
    with refused("empty-list", "list.txt"):
        read_trials(_write(tmp_path, "\n\n"))
    (tmp_path / "list.bin").write_bytes(b"1 a \xff\xfe\n")
    with refused("not-utf8", "list.bin"):
        read_trials(tmp_path / "list.bin")


def test_a_zero_byte_is_told_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"1 a b\n0 a \x00c\n")
    with refused("not-utf8", "list.txt:2:"):
        read_trials(path)


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


def test_pairs_within_groups() -> None:
    speakers = ["a", "b", "a", "c", "d"]
    trials = make_trials(list("12345"), speakers, ["s"] * 5, ["f", "m", "f", "f", "m"])
    expected = [("1", "3", True), ("1", "4", False), ("2", "5", False), ("3", "4", False)]
    assert _pairs(trials) == expected
    with refused("one-sided-trials", "no non-target", "of a group"):
        make_trials(["1", "2", "3"], ["a", "a", "b"], ["s"] * 3, ["f", "f", "m"])


@pytest.mark.parametrize(
    ("speakers", "missing"),
    [(["a", "b"], " target"), (["a", "a"], " non-target"), ([], " target")],
)
def test_too_few_utterances(speakers: list[str], missing: str) -> None:
    """Trials of one kind alone measure nothing: the counts and the remedy are told."""
    count = len(speakers)
    with refused("one-sided-trials", f"{count} ", f"{len(set(speakers))} ", f"{missing} "):
        make_trials([str(n) for n in range(count)], speakers, ["s"] * count)
