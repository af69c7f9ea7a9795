"""A manifest in columns says what its rows say, and what is none is refused by its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.corpora import manifest as manifests
from speechbrain_ext.corpora.manifest import COLUMNS, Texts, read_manifest
from tests.refusals import refused

HEADER = ",".join(COLUMNS)
ROWS = [
    ["bob/s/1", "1.5", "/data/with, comma/bob/s/1.flac", "0", "24000", "bob"],
    ["ann/s/1", "0.25", "/data/é/ann/s/1.flac", "8000", "12000", "ann"],
    ["bob/s/2", "2.0", "/data/bob/s/2.flac", "0", "32000", "bob"],
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *ROWS])
    (tmp_path / "train.csv").write_text(text.getvalue(), encoding="utf-8")
    return tmp_path / "train.csv"


def test_rows_are_those_of_the_file(path: Path) -> None:
    manifest = read_manifest(path)
    rows = [[str(value) for value in row.values()] for row in manifest]
    assert rows == ROWS and [tuple(row) for row in manifest] == 3 * [COLUMNS]
    assert manifest.speakers == ["ann", "bob"] and manifest.speaker_index.tolist() == [1, 0, 1]


def test_rows_without_a_speaker_are_unlabelled(path: Path) -> None:
    before = read_manifest(path).sha256
    path.write_text(path.read_text(encoding="utf-8").replace("24000,bob", "24000,"), "utf-8")
    manifest = read_manifest(path)
    assert manifest.speakers == ["ann", "bob"] and manifest.speaker_index.tolist() == [-1, 0, 1]
    assert [row["spk_id"] for row in manifest] == ["", "ann", "bob"] and manifest.sha256 != before
    path.write_text(path.read_text(encoding="utf-8").replace(",ann\n", ",\n").replace(",bob", ","))
    assert read_manifest(path).speakers == [] and set(read_manifest(path).speaker_index) == {-1}


def test_columns_may_stand_in_another_order_among_others(path: Path) -> None:
    lines = [["more", *reversed(row)] for row in [list(COLUMNS), *ROWS]]
    other = path.with_name("other.csv")
    with open(other, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([*lines, []])
    assert list(read_manifest(other)) == list(read_manifest(path))


def test_is_read_once_until_it_changes(path: Path) -> None:
    manifest = read_manifest(path)
    assert read_manifest(str(path)) is manifest
    path.write_text(path.read_text(encoding="utf-8").replace("bob", "robert"), encoding="utf-8")
    assert read_manifest(path).speakers == ["ann", "robert"]


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("/data/", "/mnt/", True),
        ("bob/s/2,", "bob/s/3,", False),
        ("24000,bob", "24000,ann", False),
        ("8000", "8001", False),
        ("0.25", "0.26", False),
    ],
)
def test_its_hash_is_that_of_what_is_said(path: Path, old: str, new: str, same: bool) -> None:
    before = read_manifest(path).sha256
    other = path.with_name("other.csv")
    other.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert (read_manifest(other).sha256 == before) is same


@pytest.mark.parametrize(
    "text, told",
    [
        (None, ("earlier-stage",)),
        ("", ("missing-column", "ID")),
        (HEADER.replace(",spk_id", ""), ("missing-column", "spk_id")),
        (HEADER, ("empty-list",)),
        (f"{HEADER}\na/1,1.0,a.wav,0,16000,a\nb/1,long,b.wav,0,1,b", ("bad-line", ":3:", "'long'")),
        (f"{HEADER}\na/1,1.0,a.wav,0,1.5,a", ("bad-line", ":2:", "'1.5'")),
        (f"{HEADER}\na/1,1.0,a.wav", ("bad-line", ":2:")),
        (f"{HEADER}\na/1,1.0,a.wav,0,99999999999999999999,a", ("bad-line", ":2:")),
        (f"{HEADER}\na/1,1.0,a.wav,5,5,a", ("bad-line", ":2:", "length")),
        (f"{HEADER}\na/1,1.0,a.wav,-1,5,a", ("bad-line", ":2:", "length")),
        (f"{HEADER}\na/1,nan,a.wav,0,5,a", ("bad-line", ":2:", "length")),
        (f"{HEADER}\na/1,1.0,,0,5,a", ("bad-line", ":2:", "name")),
        (f"{HEADER}\na/1,1.0,a\0.wav,0,5,a", ("bad-line", ":2:")),
        (
            f"{HEADER}\na/1,1,a.wav,0,5,a\nb/1,1,b.wav,0,5,b\na/1,1,c.wav,0,5,a",
            ("repeated-name", "a/1"),
        ),
    ],
)
def test_what_is_no_manifest_is_refused(
    text: str | None, told: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "train.csv"
    if text is not None:
        path.write_text(text)
    code, *facts = told
    with refused(code, path, *facts):
        read_manifest(path)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(HEADER.encode() + b"\na/\xff1,1.0,a.wav,0,1,a\n")
    with refused("not-utf8", "train.csv"):
        read_manifest(tmp_path / "train.csv")


def test_texts_are_found_where_they_first_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["ann/1", "", "bob/1", "ann/1", "é/\udcff"]
    texts = Texts(names)
    assert list(texts) == names and texts[-1] == names[-1]
    assert texts.find(["é/\udcff", "ann/1", "eve", ""]).tolist() == [4, 0, -1, 1]
    assert Texts().find(["ann"]).tolist() == [-1]
    with pytest.raises(IndexError):
        texts[5]
    # Strings of one hash are told apart.
    monkeypatch.setattr(manifests, "hash", lambda text: 7, raising=False)
    same = Texts(names)
    np.testing.assert_array_equal(same.find(["bob/1", "eve", "ann/1"]), [2, -1, 0])
