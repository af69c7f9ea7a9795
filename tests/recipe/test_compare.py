"""The command itself: three tiny systems trained for real, one that cannot be, and the results."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import HANG, environment
from tests.recipe.tiny import RECIPE, make_corpus
from tools import update_results

pytestmark = pytest.mark.slow

PLAN = """
title: Tiny systems
reference: small
baseline: teacher
lengths: [0.5, 2]
common:
    {number_of_epochs: 1, crop_seconds: 0.5, lin_neurons: 16, batch_size: 8, device: cpu,
    num_workers: 0}
systems:
    teacher:
        yaml: teacher.yaml
        overrides: {grad_accumulation_factor: 1, conv_channels: 8, latent_size: 8, lstm_size: 8}
    small: {yaml: v2.yaml, teacher: teacher, overrides: {channels: 16, num_blocks: 1}}
    again: {yaml: v2.yaml, teacher: small, overrides: {channels: 16, num_blocks: 1}}
    broken: {yaml: v2.yaml, teacher: teacher, overrides: {channels: 15}}
    after: {yaml: v2.yaml, teacher: broken}
    noisy: {yaml: v2.yaml, teacher: teacher, overrides: {noise_folder: {given: noise_folder}}}
claims:
    - id: a
      claim: The student beats its teacher.
      source: 1
      test: {better: small, worse: teacher}
    - id: b
      claim: It is fast.
      source: 2
      documents: "2.04"
      test: {speed: small, of: teacher, at_least: 0.001}
    - {id: d, claim: Noise helps., source: 3, test: {better: noisy, worse: small}}
    - {id: c, claim: Nobody knows., source: 3, untested: there is no way}
remarks: [Nothing is to be learned from noise.]
"""


def compare(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = os.path.relpath(RECIPE / "compare.py", folder)
    command = [sys.executable, script, "tiny.yaml", "--corpus_dir", "corpus", *options]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=HANG
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    manifests = make_corpus(folder / "corpus") / "manifests"
    shutil.copy(manifests / "train.csv", manifests / "test.csv")
    shutil.copy(manifests / "trials" / "train.txt", manifests / "trials" / "dev.txt")
    lists = [
        {"name": name, "title": name, "set": set_name, "file": f"trials/{name}.txt"}
        for name, set_name in (("valid", "valid"), ("dev", "test"))
    ]
    content = {"corpus": "tones", "title": "Tones", "synthetic": True, "trials": lists}
    (manifests / "manifest.json").write_text(json.dumps(content))
    (folder / "tiny.yaml").write_text(PLAN)
    return folder


def test_trains_reports_and_keeps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that can be is made, what cannot be is named; called again, nothing is made anew."""
    result = compare(folder)
    assert result.returncode == 1, result.stderr
    assert "2 of 5 runs are missing" in result.stderr
    out = folder / "exp" / "corpus" / "tiny"
    page = (out / "RESULTS.md").read_text()
    assert "Nothing is to be learned from noise." in page
    assert "Tones, synthetic speech" in page
    assert "`crop_seconds 0.5`" in page
    assert "| broken | 1 | failed | training: " in page and "15" in page
    assert "log/broken_seed_1.log" in page and (out / "log" / "broken_seed_1.log").is_file()
    assert "| after | 1 | not run because of another | broken seed_1 failed |" in page
    lines = [line for line in page.splitlines() if line.startswith("| broken | 0 |")]
    assert len(lines) == 1 and "| failed |" in lines[0]  # beside the systems, once a test list
    assert "not tested: there is no way" in page
    why = "the corpus has no folder noise, and --noise_folder names no other"
    assert f"noisy: left out, {why}" in result.stdout and f"- Left out: noisy, {why}." in page
    assert "*not decided*" in next(line for line in page.splitlines() if "Noise helps." in line)
    speed_claim = next(line for line in page.splitlines() if "It is fast." in line)
    assert "2.04" in speed_claim and "*confirmed*" in speed_claim
    assert "*not decided*" in next(line for line in page.splitlines() if "beats its" in line)
    for name in ("eer_throughput_dev", "eer_parameters_dev"):
        assert (out / f"{name}.png").is_file() and (out / f"{name}.svg").is_file()
        assert f"({name}.png)" in page

    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [row["system"] for row in rows] == 2 * ["teacher", "small", "again", "broken", "after"]
    small = next(row for row in rows if (row["system"], row["trials"]) == ("small", "dev"))
    scored = json.loads((out / "small" / "seed_1" / "results" / "dev.json").read_text())
    assert float(small["eer"]) == pytest.approx(scored["eer"], rel=1e-5)
    interval = [float(small["eer_low"]), float(small["eer_high"])]
    assert interval == pytest.approx(scored["eer_interval_95"], rel=1e-5)
    log = json.loads((out / "small" / "seed_1" / "train_log.jsonl").read_text())
    assert float(small["share"]) == pytest.approx(log["train"]["share"], rel=1e-5)
    settings = (out / "again" / "seed_1" / "hyperparams.yaml").read_text()
    assert "teacher_folder: exp/corpus/tiny/small/seed_1" in settings
    assert float(small["parameters"]) > 0 and float(small["utterances_per_second"]) > 0

    header = "0.5 s | 2 s | 2 s ÷ 0.5 s (in proportion: 4) |"
    tables = [block.splitlines() for block in page.split("\n\n") if header in block]
    first = ["| Milliseconds an utterance", "| GMACs an utterance"]
    assert [table[0] for table in tables] == [f"{name} | {header}" for name in first]
    systems = ["| teacher", "| small", "| again"]
    assert all([row.split(" | ")[0] for row in t[2:]] == systems for t in tables)
    assert (out / "cost_by_length.png").is_file() and "(cost_by_length.png)" in page
    costs = list(csv.DictReader((out / "cost_by_length.csv").open()))
    short, long = (row for row in costs if row["system"] == "small")
    assert (short["seconds_of_speech"], long["seconds_of_speech"]) == ("0.5", "2")
    assert 3.5 < float(long["macs"]) / float(short["macs"]) < 4.5

    monkeypatch.setattr(update_results, "ROOT", folder)
    block = "\n\n".join(update_results.comparison_block(out).parts)
    assert all("\n".join(table) in block for table in tables)
    assert "Of 4 claims 1 are decided:" in block and "It is fast." in block
    copied = folder / update_results.RESULTS / "corpus" / "tiny"
    assert (copied / "cost_by_length.csv").is_file() and f"({copied}" not in block

    speeds = (out / "speed.json").stat().st_mtime_ns
    logs = [path.stat().st_size for path in sorted((out / "log").glob("[ts]*.log"))]
    again = compare(folder, "--only", "small")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("has been run before") == 2
    assert "broken seed_1: left out (--only)" in again.stdout
    assert [path.stat().st_size for path in sorted((out / "log").glob("[ts]*.log"))] == logs
    assert (out / "speed.json").stat().st_mtime_ns == speeds


def test_mistakes_are_one_sentence(folder: Path) -> None:
    """A file that is not there, a system that is not in it."""
    result = compare(folder, "--only", "nobody")
    assert result.returncode == 1
    assert result.stderr.startswith("error: --only: there is no system nobody; there are teacher,")
    result = compare(folder, "--noise_folder", "nowhere")
    assert result.returncode == 1
    assert result.stderr.startswith("error: --noise_folder nowhere: there is no such folder")
