"""A comparison whose runs are finished, without their training: every file that its page reads."""

from __future__ import annotations

import csv
import json
from itertools import combinations
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from speechbrain_ext.verification.embeddings import Embeddings, save_embeddings

PLAN = """
title: Systems that were never trained
reference: good
baseline: teacher
score_norm: asnorm
lengths: [1, 10]
common: {number_of_epochs: 2, speeds: [1.0, 0.9]}
systems:
    teacher: {yaml: teacher.yaml, seeds: all, overrides: {lr: 0.5}}
    good: {yaml: v2.yaml, teacher: teacher, seeds: all}
    poor: {yaml: v2.yaml, teacher: teacher, overrides: {alpha: auto, channels: 16}}
    failed: {yaml: v2.yaml, teacher: teacher}
    blocked: {yaml: v2.yaml, teacher: failed}
    gone: {yaml: v2.yaml, teacher: teacher}
    noisy: {yaml: v2.yaml, overrides: {noise_folder: {given: noise_folder}}}
claims:
    - {id: a, claim: Good is better., source: 1, documents: "-5", test: {better: good, worse: poor}}
    - {id: b, claim: Good is near., source: 1, test: {eer: good, of: teacher, within: 9}}
    - {id: c, claim: They are alike., source: 2, test: {equal: [good, poor], within: 1}}
    - {id: d, claim: Two help., source: 2, test: {better: good+teacher, worse: teacher}}
    - {id: e, claim: It was made., source: 2, test: {better: failed, worse: good}}
    - {id: f, claim: The share is small., source: 3, test: {share: good, below: 0.3}}
    - {id: g, claim: Good is fast., source: "3 | 4", test: {speed: good, of: teacher, at_least: 2}}
    - {id: h, claim: Nobody knows., source: 3, untested: there is no way}
remarks: [Nothing was trained., Nothing is to be learned.]
"""
SPEAKERS, UTTERANCES = 14, 3
# How far apart speakers are, of every run that is finished.
RUNS = {("teacher", 1): 2.0, ("teacher", 2): 1.7, ("good", 1): 1.5, ("good", 2): 1.3}
RUNS |= {("poor", 1): 0.6}
SIZES = {"teacher": (3873745, 4e8, 90.0), "good": (2664576, 1e8, 270.0), "poor": (9999, 1e6, 300.0)}


def make(folder: Path) -> tuple[Path, Path]:
    """Write a corpus's manifests and, in exp/corpus/never, what the runs of ``PLAN`` left.

    Returns
    -------
    plan, corpus : Path
        The comparison's YAML, and the corpus's folder.
    """
    plan, corpus = folder / "never.yaml", folder / "corpus"
    plan.write_text(PLAN)
    _corpus(corpus / "manifests")
    out = folder / "exp" / "corpus" / "never"
    (out / "log").mkdir(parents=True)
    for (name, seed), apart in RUNS.items():
        _finished(out, name, seed, apart)
    _record(out, "failed", 1, status="failed", error="training: the disk is full")
    (out / "log" / "failed_seed_1.log").write_text("error: the disk is full\n")
    _record(out, "blocked", 1, status="not run because of another", error="failed seed_1 failed")
    _record(out, "gone", 1, status="finished", scored="x asnorm")
    (out / "speed.json").write_text(json.dumps(_speed()))
    return plan, corpus


def _corpus(manifests: Path) -> None:
    (manifests / "trials").mkdir(parents=True)
    lists = []
    for name, kind in (("valid", "valid"), ("dev", "test")):
        ids = [f"{name}{s:02}/{u}" for s in range(SPEAKERS) for u in range(UTTERANCES)]
        with open(manifests / f"{kind}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["ID", "duration", "wav", "start", "stop", "spk_id"])
            writer.writerows([each, 1.0, "/x.wav", 0, 16000, each.split("/")[0]] for each in ids)
        pairs = [
            f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}" for a, b in combinations(ids, 2)
        ]
        (manifests / "trials" / f"{name}.txt").write_text("\n".join(pairs) + "\n")
        entry = {"name": name, "title": name.title(), "set": kind, "file": f"trials/{name}.txt"}
        lists.append(entry)
    content = {"corpus": "noise", "title": "Noise", "synthetic": True, "trials": lists}
    (manifests / "manifest.json").write_text(json.dumps(content))


def _finished(out: Path, name: str, seed: int, apart: float) -> None:
    folder = out / name / f"seed_{seed}"
    machine = {"device": "A machine", "threads": str(seed), "cores": "2", "torch": "2.7.1"}
    times = {"begun": f"2026-01-0{seed}T10:00:00+00:00", "ended": f"2026-01-0{seed}T11:30:00+00:00"}
    _record(
        out,
        name,
        seed,
        status="finished",
        weights=f"{name}{seed}",
        scored="x asnorm",
        machine=machine,
        **times,
    )
    (folder / "save").mkdir(parents=True)
    weights = {"weight": np.zeros(1, np.float32)}
    save_file(weights, folder / "save" / "embedding_model.safetensors", {"epochs": "[1, 2]"})
    share = {} if name == "teacher" else {"share": 0.25 * seed}
    lines = [
        {"epoch": n, "train": {"seconds": 10.0 * n, **share}, "valid": {"eer": 9 / n, "seconds": 1}}
        for n in (1, 2)
    ]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results").mkdir()
    (folder / "embeddings").mkdir()
    for list_name, kind in (("valid", "valid"), ("dev", "test"), ("others", "cohort")):
        costs = {prior: {"value": 0.5 + float(prior) * seed / apart} for prior in ("0.01", "0.05")}
        for stem in (list_name, f"{list_name}_normalized"):
            # The lists of `poor` were scored before scores were calibrated.
            fit = None if name == "poor" else _calibrated(0.01 * seed)
            result = {"min_dcf": costs, "calibrated": fit}
            (folder / "results" / f"{stem}.json").write_text(json.dumps(result))
        own = np.random.default_rng([seed, len(name), len(list_name)]).standard_normal(
            (SPEAKERS, UTTERANCES, 8)
        )
        centre = np.random.default_rng(0).standard_normal((SPEAKERS, 1, 8))
        vectors = (own + apart * centre).reshape(-1, 8).astype(np.float32)
        ids = [f"{list_name}{s:02}/{u}" for s in range(SPEAKERS) for u in range(UTTERANCES)]
        save_embeddings(
            folder / "embeddings" / f"{kind}.npz", Embeddings(ids, vectors, f"{name}{seed}")
        )


def _calibrated(error: float) -> dict[str, object]:
    figures = [{"value": times * error, "interval_95": None} for times in range(2, 7)]
    point = {
        "name": "false_alarm_0.01",
        "found": dict(zip(("false_alarm", "miss"), figures[3:], strict=True)),
    }
    costs = {"act_dcf": dict(zip(("0.01", "0.05"), figures, strict=False)), "cllr": figures[2]}
    return {**costs, "min_cllr": error, "operating_points": [point]}


def _record(out: Path, name: str, seed: int, **content: object) -> None:
    (out / "log" / f"{name}_seed_{seed}.json").write_text(json.dumps(content))


def _speed() -> dict[str, object]:
    systems, costs = [], []
    for name, (parameters, macs, rate) in reversed(SIZES.items()):
        whole = {"utterances_per_second": rate, "spread": [rate * 0.9, rate * 1.1]}
        whole["relative"] = rate / 90
        sizes = {"parameters": parameters, "macs_per_utterance": macs}
        systems.append({"name": name, **sizes, "from_waveform": whole})
        seconds = [1 / rate, 9 / rate]
        spread = [[0.9 * each, 1.1 * each] for each in seconds]
        costs.append(
            {"name": name, "macs": [macs, 10 * macs], "seconds": seconds, "spread": spread}
        )
    return {
        "weights": {name: f"{name}1" for name in SIZES},
        "failed": {"strange": "it is no network"},
        "machine": {"device": "A machine", "torch": "2.7.1"},
        "device": "cpu",
        "threads": 2,
        "batch": 8,
        "seconds_of_speech": 2.0,
        "rounds": 20,
        "systems": systems,
        "by_length": {
            "lengths": [1, 10],
            "rounds": 5,
            "device": "cpu",
            "threads": 2,
            "systems": costs,
        },
    }
