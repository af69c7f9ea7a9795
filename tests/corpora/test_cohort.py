"""Which training utterances a cohort is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from speechbrain_ext.corpora.cohort import cohort_rows
from speechbrain_ext.corpora.manifest import Manifest, read_manifest


def _manifest(folder: Path, speakers: list[str]) -> Manifest:
    lines = [f"u{n},1.0,/data/u{n}.wav,0,16000,{name}" for n, name in enumerate(speakers)]
    path = folder / "train.csv"
    path.write_text("\n".join(["ID,duration,wav,start,stop,spk_id", *lines, ""]))
    return read_manifest(path)


def test_some_utterances_of_every_speaker(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path, ["a"] * 20 + ["b"] * 2 + ["c"] * 5)
    rows, members = cohort_rows(manifest, 4)
    assert Counter(members) == {"a": 4, "b": 2, "c": 4}
    assert [manifest[row]["spk_id"] for row in rows] == members
    assert rows.tolist() == sorted(set(rows.tolist()))
    again, _ = cohort_rows(manifest, 4)
    assert again.tolist() == rows.tolist()


def test_an_utterance_without_a_label_is_a_member_of_its_own(tmp_path: Path) -> None:
    _, members = cohort_rows(_manifest(tmp_path, ["a", "a", "a", "", ""]), 2)
    assert sorted(members) == ["a", "a", "u3", "u4"]


def test_no_more_members_than_are_wanted(tmp_path: Path) -> None:
    """Drawn from all over the manifest, each with its own utterances."""
    manifest = _manifest(tmp_path, [f"s{n // 3}" for n in range(300)])
    _, members = cohort_rows(manifest, 2, most=10)
    counts = Counter(members)
    assert len(counts) == 10 and set(counts.values()) == {2}
    assert max(int(name[1:]) for name in counts) > 50
