"""The report of a made-up experiment: what it says, and what it says of missing files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.report import collect
from speechbrain_ext.verification.tables import calibrated_cells
from tests.processes import ROOT
from tests.recipe.report_fixture import (
    RECIPE,
    make_experiment,
    write_json,
    write_report,
)

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a test wants to know of a page: tags, ids, references, results table, visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.results: list[list[str]] = []
        self._in_results = False
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {k: v or "" for k, v in attrs}
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.references += [
            values[k] for k in ("src", "href", "xlink:href", "srcset", "action") if k in values
        ]
        self._in_results = self._in_results or values.get("id") == "results"
        if self._in_results and tag == "tr":
            self.results.append([])
        if self._in_results and tag in ("td", "th"):
            self.results[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_results = self._in_results and tag != "table"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_results and self.results and self.results[-1] and data.strip():
            self.results[-1][-1] += data.strip()


def markdown_table(path: Path) -> list[list[str]]:
    """Give the cells of the first table of a Markdown file, without its line of dashes."""
    lines = [x for x in path.read_text(encoding="utf-8").split("\n\n") if x.startswith("|")][
        0
    ].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make an experiment and its report once."""
    made = make_experiment(tmp_path_factory.mktemp("experiment"))
    done = write_report(made, columns=200)
    assert done.returncode == 0, done.stderr
    (made["exp"] / "terminal.txt").write_text(done.stdout, encoding="utf-8")
    return made


@pytest.fixture
def fresh(paths: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Give a copy of the experiment that a test may spoil, without a report."""
    root = paths["exp"].parents[3]
    shutil.copytree(root, tmp_path / "copy")
    copied = {k: tmp_path / "copy" / p.relative_to(root) for k, p in paths.items()}
    for name in ("report.html", "RESULTS.md", "results.json", "terminal.txt"):
        (copied["exp"] / name).unlink()
    return copied


def test_table_is_the_same_everywhere(paths: dict[str, Path]) -> None:
    rows = markdown_table(paths["exp"] / "RESULTS.md")
    assert [r[0] for r in rows] == [
        "System",
        "teacher (lstm_autoencoder)",
        "student (v2)",
        "fusion of both",
    ]
    terminal = (paths["exp"] / "terminal.txt").read_text(encoding="utf-8")
    lines = [re.split(r"\s{2,}", line.strip()) for line in terminal.splitlines()]
    for row in rows[1:]:
        assert row in lines
    assert Page(paths["exp"] / "report.html").results == rows


def test_narrow_terminal_breaks_no_cell(paths: dict[str, Path]) -> None:
    rows = markdown_table(paths["exp"] / "RESULTS.md")
    output = write_report(paths, columns=80).stdout
    lines = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    for column in list(zip(*rows, strict=True))[1:]:
        assert list(column[1:]) in [line[-3:] for line in lines]
    assert max(map(len, output.split("Report:")[0].splitlines())) <= 80


def test_numbers_are_those_of_the_files(paths: dict[str, Path]) -> None:
    text = Page(paths["exp"] / "report.html").text
    markdown = (paths["exp"] / "RESULTS.md").read_text(encoding="utf-8")
    files = [paths["teacher"] / "results/test.json", paths["exp"] / "results/test.json"]
    files.append(paths["exp"] / "results/test_fusion.json")
    for file in files:
        result = json.loads(file.read_text())
        low, high = result["eer_interval_95"]
        costs = [f"{result['min_dcf'][p]['value']:.3f}" for p in ("0.01", "0.05")]
        for number in (f"{result['eer']:.2f} [{low:.2f}, {high:.2f}]", *costs):
            assert number in text
            assert number in markdown
        assert f"{result['eer_threshold']:.3f}" in text
        assert " | ".join(calibrated_cells(result["calibrated"])) in markdown
        for cell in calibrated_cells(result["calibrated"]):
            assert cell in text
    for system in json.loads((paths["exp"] / "results/speed.json").read_text())["systems"]:
        for number in (f"{system['parameters']:,}", f"{system['utterances_per_second']:.1f}"):
            assert number in text
            assert number in markdown
    numbers = json.loads((paths["exp"] / "results.json").read_text())
    student = json.loads(files[1].read_text())
    assert numbers["systems"][1]["trials"]["test"]["eer"] == student["eer"]
    assert numbers["synthetic"] is True
    expected = {k: v for k, v in student["calibrated"].items() if k != "reliability"}
    assert numbers["systems"][1]["trials"]["test"]["calibrated"] == expected
    assert "192 target and 12,369 non-target trials of 48 speakers" in markdown


def test_page_is_self_contained(paths: dict[str, Path]) -> None:
    page = Page(paths["exp"] / "report.html")
    assert [r for r in page.references if not r.startswith(("#", "data:"))] == []
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags) - {"link"}
    assert len(page.ids) == len(set(page.ids))
    assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
    assert 'name="viewport"' in page.source
    assert len(page.source.encode()) < 3_000_000
    assert page.tags.count("svg") == 6 + 5 + 2


def test_same_files_give_the_same_page(paths: dict[str, Path]) -> None:
    before = (paths["exp"] / "report.html").read_bytes()
    write_report(paths)
    assert (paths["exp"] / "report.html").read_bytes() == before


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_corpus_is_called_so(tmp_path: Path, synthetic: bool) -> None:
    paths = make_experiment(tmp_path, synthetic=synthetic)
    output = write_report(paths).stdout
    markdown = (paths["exp"] / "RESULTS.md").read_text(encoding="utf-8")
    page = Page(paths["exp"] / "report.html")
    for text in (output, markdown, page.text):
        assert ("synthetic speech" in text) is synthetic
    headings = re.findall(
        r"<h2>(Scores on|How it was learnt|The embeddings)(.*?)</h2>", page.source
    )
    assert len(headings) == 3
    assert all(("synthetic" in rest) is synthetic for _, rest in headings)


def test_several_trial_lists(tmp_path: Path) -> None:
    paths = make_experiment(tmp_path, lists=("o", "e", "h"))
    assert write_report(paths).returncode == 0
    heading = markdown_table(paths["exp"] / "RESULTS.md")[0]
    assert len(heading) == 5 + 3 * 3
    assert heading[8] == "List e: EER % [95\u00a0%]"
    page = Page(paths["exp"] / "report.html")
    assert page.source.count("Detection error trade-off</h3>") == 3
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize(
    ("folder", "name", "stage"),
    [
        ("manifests", "manifest.json", "stage 1"),
        ("teacher", "hyperparams.yaml", "stage 2"),
        ("teacher", "train_log.jsonl", "stage 2"),
        ("exp", "hyperparams.yaml", "stage 3"),
        ("exp", "train_log.jsonl", "stage 3"),
        ("teacher", "results/test.json", "stage 4"),
        ("exp", "results/test.json", "stage 4"),
        ("exp", "results/test_fusion.json", "stage 4"),
        ("exp", "embeddings/test.npz", "stage 4"),
    ],
)
def test_missing_file_names_the_stage(
    fresh: dict[str, Path], folder: str, name: str, stage: str
) -> None:
    missing = fresh[folder] / name
    missing.unlink()
    done = write_report(fresh)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {missing} is missing; run {stage} (")
    assert done.stderr.count("\n") == 1
    assert not (fresh["exp"] / "report.html").exists()


def test_speed_is_optional(fresh: dict[str, Path]) -> None:
    (fresh["exp"] / "results/speed.json").unlink()
    assert write_report(fresh).returncode == 0
    rows = markdown_table(fresh["exp"] / "RESULTS.md")
    assert rows[2][1:5] == ["not measured"] * 4
    assert "stage 5 measures it" in Page(fresh["exp"] / "report.html").text


def test_the_size_of_a_model_in_a_file_is_a_dash(fresh: dict[str, Path]) -> None:
    path = fresh["exp"] / "results/speed.json"
    speed = json.loads(path.read_text())
    speed["systems"][0] |= {"parameters": None, "macs_per_utterance": None}
    write_json(path, speed)
    assert write_report(fresh).returncode == 0
    for rows in (
        markdown_table(fresh["exp"] / "RESULTS.md"),
        Page(fresh["exp"] / "report.html").results,
    ):
        assert rows[1][1:3] == rows[3][1:3] == ["–", "–"]  # the teacher's, and the fusion's
        assert rows[1][3] == "101.9" and rows[2][1] == "2,664,576"
    teacher, *_ = json.loads((fresh["exp"] / "results.json").read_text())["systems"]
    assert teacher["parameters"] is None and teacher["macs_per_utterance"] is None


def test_imported_teacher_has_no_curves(fresh: dict[str, Path]) -> None:
    (fresh["teacher"] / "train_log.jsonl").unlink()
    (fresh["teacher"] / "save").mkdir()
    (fresh["teacher"] / "save/embedding_model.safetensors").touch()
    assert write_report(fresh).returncode == 0
    page = Page(fresh["exp"] / "report.html")
    assert "Loss of the teacher" not in page.text
    assert "trained elsewhere" in page.text


def test_without_test_lists_the_validation_list_stands_in(fresh: dict[str, Path]) -> None:
    file = fresh["manifests"] / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["trials"] = manifest["trials"][:1]
    write_json(file, manifest)
    for folder in (fresh["exp"], fresh["teacher"]):
        for result in (folder / "results").glob("test*.json"):
            result.rename(result.with_name(result.name.replace("test", "valid")))
        (folder / "embeddings/test.npz").rename(folder / "embeddings/valid.npz")
    assert write_report(fresh).returncode == 0
    assert "no test list" in (fresh["exp"] / "RESULTS.md").read_text(encoding="utf-8")


def test_stale_scores_are_refused(fresh: dict[str, Path]) -> None:
    file = fresh["exp"] / "embeddings/test.npz"
    with np.load(file) as content:
        np.savez(file, **{**content, "weights_sha256": np.array("others")})
    done = write_report(fresh)
    assert done.returncode == 1
    assert "was scored with other weights than" in done.stderr


def test_a_fusion_with_another_teacher_is_refused(fresh: dict[str, Path]) -> None:
    file = fresh["exp"] / "results/test_fusion.json"
    write_json(file, {**json.loads(file.read_text()), "weights_sha256": "v2+before"})
    done = write_report(fresh)
    assert done.returncode == 1
    assert f"{file} was scored with other weights than student and teacher now" in done.stderr


def test_the_difference_is_told_with_its_interval(fresh: dict[str, Path]) -> None:
    done = write_report(fresh, columns=300)
    what = "The student's EER less the teacher's, with its 95 % interval over speakers"
    told = f"{what}: -0.20 [-1.10, +0.70] points"
    assert told in done.stdout
    assert told in (fresh["exp"] / "RESULTS.md").read_text(encoding="utf-8")
    assert told in Page(fresh["exp"] / "report.html").text


def test_a_teacher_that_enrols_is_a_row(fresh: dict[str, Path]) -> None:
    fusion = json.loads((fresh["exp"] / "results/test_fusion.json").read_text())
    enrolled = {**fusion, "system": "v2, lstm_autoencoder enrols", "eer": 1.23}
    write_json(fresh["exp"] / "results/test_enrolled.json", enrolled)
    assert write_report(fresh).returncode == 0
    row = markdown_table(fresh["exp"] / "RESULTS.md")[-1]
    assert row[0] == "the teacher enrols, the student verifies"
    assert row[-3].startswith("1.23 [")
    write_json(fresh["exp"] / "results/test_enrolled.json", {**enrolled, "weights_sha256": "x"})
    done = write_report(fresh)
    assert done.returncode == 1
    assert "test_enrolled.json was scored with other weights" in done.stderr


def test_normalised_scores_are_rows(fresh: dict[str, Path]) -> None:
    scale = "AS-norm, the 24 nearest of a cohort of 120"
    for role, eer in (("teacher", 2.34), ("exp", 1.23)):
        plain = json.loads((fresh[role] / "results/test.json").read_text())
        made = {**plain, "system": "x, AS-norm", "scores": scale, "eer": eer}
        write_json(fresh[role] / "results/test_normalized.json", made)
    done = write_report(fresh, columns=300)
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row for row in markdown_table(fresh["exp"] / "RESULTS.md")}
    assert rows["teacher, AS-norm"][-3].startswith("2.34 [")
    assert rows["student, AS-norm"][-3].startswith("1.23 [")
    assert rows["student, AS-norm"][1:5] == ["–"] * 4
    for text in (done.stdout, Page(fresh["exp"] / "report.html").text):
        assert f"{scale}." in text
    old = json.loads((fresh["exp"] / "results/test.json").read_text())
    del old["scores"]  # of a version that had cosines alone
    write_json(fresh["exp"] / "results/test.json", old)
    assert write_report(fresh).returncode == 0
    write_json(fresh["exp"] / "results/test_normalized.json", {**made, "weights_sha256": "x"})
    done = write_report(fresh)
    assert done.returncode == 1
    assert "test_normalized.json was scored with other weights" in done.stderr


@pytest.mark.parametrize("stale", [False, True])
def test_the_students_files_beside_every_system(
    fresh: dict[str, Path], stale: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of PyTorch the error rates are the recipe's, of a file those of its export."""
    weights = {
        fresh[role]: json.loads((fresh[role] / "results" / "test.json").read_text())
        for role in ("teacher", "exp")
    }
    monkeypatch.setattr(collect, "kept_sha256", lambda folder: weights[folder]["weights_sha256"])
    trials = {"trials": "test", "title": "test", "eer": 3.25, "interval_95": [2.5, 4.0]}
    trials |= {"difference": 0.5, "difference_interval_95": [-0.5, 1.5]}
    kept = "of others" if stale else weights[fresh["exp"]]["weights_sha256"]
    files = [{"precision": "int8", "input": "waveform", "trials": [trials]}]
    write_json(fresh["exp"] / "export" / "model.json", {"weights_sha256": kept, "files": files})
    place = {"threads": 1, "batch": 1, "seconds_of_speech": 3.0, "input": "waveform"}
    rows = [
        {**place, "system": system, "engine": engine, "median": ms / 1e3, "bytes": size}
        | {"real_time_factor": ms / 3e3, "peak_mb": 12.4}
        for system, engine, ms, size in (
            ("teacher", "eager", 30.0, 15_500_000),
            ("v2", "eager", 15.0, 10_700_000),
            ("student", "eager", 20.0, None),  # a system of that name, and not the student
            ("v2", "int8", 5.0, 3_000_000),
        )
    ]
    rows.append({**rows[-1], "input": "features"})
    write_json(fresh["exp"] / "results" / "engines.json", {"engines": rows})
    done = write_report(fresh)
    assert done.returncode == 0, done.stderr
    lines = (fresh["exp"] / "RESULTS.md").read_text().splitlines()
    found = [line for line in lines if "PyTorch |" in line or "INT8 |" in line]
    assert "In engines" in Page(fresh["exp"] / "report.html").text or stale
    if stale:
        assert not found
        return
    first, second, other, third = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in found
    )
    assert first[:7] == ["teacher", "PyTorch", "15.5", "30.0", "0.0100", "1.0 ×", "12"]
    assert third[:6] == ["v2", "ONNX, INT8", "3.0", "5.0", "0.0017", "6.0 ×"]
    assert third[7] == "3.25 [2.50, 4.00] (+0.50)"
    assert other[0] == "student" and other[2] == other[7] == "–"
    assert second[7].startswith(f"{weights[fresh['exp']]['eer']:.2f} [")
    assert "In engines, an utterance of 3 s from the waveform on, one thread:" in lines


def test_no_interval_is_told_with_the_reason(fresh: dict[str, Path]) -> None:
    """A list of few speakers has none."""
    for folder in (fresh["exp"], fresh["teacher"]):
        for file in (folder / "results").glob("test*.json"):
            write_json(file, {**json.loads(file.read_text()), "eer_interval_95": None})
    done = write_report(fresh)
    assert done.returncode == 0, done.stderr
    for text in (
        done.stdout,
        *((fresh["exp"] / n).read_text() for n in ("RESULTS.md", "report.html")),
    ):
        assert "fewer than 5 speakers" in " ".join(text.split())
    (first, *_) = json.loads((fresh["exp"] / "results.json").read_text())["systems"]
    assert {each["eer_interval_95"] for each in first["trials"].values()} == {None}


@pytest.mark.parametrize(
    ("folder", "name", "text", "said"),
    [
        ("exp", "results/test.json", "{", "is not readable JSON"),
        ("exp", "results/test.json", '{"system": "v2"}', "has no entry 'eer_interval_95'"),
        ("exp", "results/speed.json", "[]", "does not hold what stage 5 writes"),
        ("exp", "train_log.jsonl", "", "holds no epoch yet"),
        ("exp", "train_log.jsonl", '{"epoch": 1}\n{"epo', "line 2, is not the log of an epoch"),
        ("teacher", "hyperparams.yaml", "a: [", "is not readable YAML"),
        ("exp", "embeddings/test.npz", "x", "is not an embeddings file"),
    ],
)
def test_broken_file_is_one_sentence(
    fresh: dict[str, Path], folder: str, name: str, text: str, said: str
) -> None:
    (fresh[folder] / name).write_text(text)
    done = write_report(fresh)
    assert done.returncode == 1
    assert str(fresh[folder] / name) in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_other_corpus_is_refused(fresh: dict[str, Path]) -> None:
    file = fresh["manifests"] / "manifest.json"
    write_json(file, {**json.loads(file.read_text()), "corpus": "voxceleb"})
    done = write_report(fresh)
    assert done.returncode == 1
    assert "describes 'voxceleb'" in done.stderr


def test_names_are_escaped(fresh: dict[str, Path]) -> None:
    file = fresh["manifests"] / "manifest.json"
    hostile = "<script>alert(1)</script> $x_y$ [red] | & ]"
    write_json(file, {**json.loads(file.read_text()), "title": hostile})
    for folder in (fresh["exp"], fresh["teacher"]):
        for result in (folder / "results").glob("test*.json"):
            write_json(result, {**json.loads(result.read_text()), "title": hostile})
    done = write_report(fresh, columns=200)
    assert done.returncode == 0
    assert hostile in done.stdout
    page = Page(fresh["exp"] / "report.html")
    assert "script" not in page.tags
    assert hostile in page.text


def test_one_epoch_and_few_embeddings(fresh: dict[str, Path]) -> None:
    for folder in (fresh["exp"], fresh["teacher"]):
        log = folder / "train_log.jsonl"
        log.write_text(log.read_text().splitlines()[0] + "\n")
        with np.load(folder / "embeddings/test.npz") as content:
            kept = {k: v[:3] if v.ndim else v for k, v in content.items()}
        np.savez(folder / "embeddings/test.npz", **kept)
    done = write_report(fresh)
    assert done.returncode == 0, done.stderr
    assert "PCA (scikit-learn" in Page(fresh["exp"] / "report.html").text


def test_command_line(paths: dict[str, Path]) -> None:
    script = str(RECIPE / "report.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, RECIPE)))}
    options = ["--teacher", str(paths["teacher"]), "--manifests", str(paths["manifests"])]
    command = [sys.executable, script, str(paths["exp"]), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"Report: {paths['exp'] / 'report.html'}" in done.stdout
    refused = subprocess.run(
        [*command, "--nonsense"], env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "unrecognized arguments: --nonsense" in refused.stderr
