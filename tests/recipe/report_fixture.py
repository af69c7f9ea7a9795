"""A plausible experiment made from random numbers: what the report reads, without any training."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import report

from speechbrain_ext.systems.yaml import resolve_hparams
from tests.recipe.tiny import RECIPE

EPOCHS = 14


def make_experiment(
    root: Path,
    lists: tuple[str, ...] = ("test",),
    synthetic: bool = True,
    source: str | None = None,
) -> dict[str, Path]:
    """Write teacher, student and manifest; give the paths ``exp``, ``teacher``, ``manifests``.

    With a ``source``, the teacher is a self-supervised model of that name, and no experiment.
    """
    rng = np.random.default_rng(7)
    paths = {
        "exp": root / "exp" / "mini" / "v2" / "seed_1",
        "teacher": root / "exp" / "mini" / "lstm_autoencoder" / "seed_1",
        "manifests": root / "data" / "mini" / "manifests",
    }
    titles = {name: "test" if name == "test" else f"List {name}" for name in lists}
    _manifest(paths["manifests"], titles, synthetic)
    speakers = rng.normal(size=(40, 64))
    systems = [("teacher", "lstm_autoencoder", 0.85), ("exp", "v2", 1.0)]
    if source is not None:
        systems = systems[1:]
        del paths["teacher"]
    for role, system, noise in systems:
        folder = paths[role]
        student = role == "exp"
        folder.mkdir(parents=True)
        yaml = {"lstm_autoencoder": "teacher.yaml", "v2": "v2.yaml"}[system]
        settings = {"number_of_epochs": str(EPOCHS), "seed": "1234"}
        if source is not None:
            yaml = "ssl/sv_mixer_wavlm_large.yaml"
            settings |= {"teacher_source": source, "teacher_layers": "[8, 12]"}
            settings["layer_pairs"] = "[[block2, layer8], [block3, layer12]]"
        text = resolve_hparams(RECIPE / "hparams" / yaml, settings)
        (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")
        _log(folder / "train_log.jsonl", rng, student)
        _embeddings(folder / "embeddings" / "test.npz", rng, speakers, noise, system)
        for name, title in titles.items():
            common = {
                "trials": name,
                "title": title,
                "corpus": "mini",
                "synthetic": synthetic,
                "set": "test",
                "scores": "cosine",
            }
            _result(
                folder / "results" / f"{name}.json",
                rng,
                2.9 if student else 3.1,
                {**common, "system": system},
            )
            if student and source is None:
                difference = {"eer": -0.2, "interval_95": [-1.1, 0.7]}
                fused = {**common, "system": "v2+lstm_autoencoder", "difference": difference}
                _result(folder / "results" / f"{name}_fusion.json", rng, 3.3, fused)
    _speed(paths["exp"] / "results" / "speed.json", source or "teacher")
    return paths


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def write_report(paths: dict[str, Path], *, columns: int = 80) -> Done:
    """Run the command on an experiment, in a terminal ``columns`` wide."""
    options = ["--manifests", str(paths["manifests"])]
    if "teacher" in paths:
        options += ["--teacher", str(paths["teacher"])]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, {"COLUMNS": str(columns)}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            report.main([str(paths["exp"]), *options])
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write JSON, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _manifest(folder: Path, titles: dict[str, str], synthetic: bool) -> None:
    trials = [
        {
            "name": "valid",
            "title": "held-out training speakers",
            "set": "valid",
            "targets": 540,
            "nontargets": 4200,
        }
    ]
    trials += [
        {"name": n, "title": t, "set": "test", "targets": 2400, "nontargets": 9600}
        for n, t in titles.items()
    ]
    content = {
        "fingerprint": "0" * 64,
        "corpus": "mini",
        "title": "Mini corpus (synthetic speech)" if synthetic else "Mini corpus",
        "synthetic": synthetic,
        "train": {"utterances": 3120, "speakers": 130, "hours": 2.61},
        "valid": {"utterances": 240, "speakers": 10, "hours": 0.2},
        "test": {"utterances": 640, "speakers": 40, "hours": 0.53},
        "trials": [{**t, "file": f"trials/{t['name']}.txt"} for t in trials],
        "skipped": {"unreadable": 2, "empty": 0, "silent": 1, "too_short": 0},
    }
    write_json(folder / "manifest.json", content)


def _log(path: Path, rng: np.random.Generator, student: bool) -> None:
    lines = []
    for epoch in range(1, EPOCHS + 1):
        fall = np.exp(-epoch / 5)
        classification = 0.8 + 12 * fall * rng.uniform(0.95, 1.05)
        second = (0.22 + 0.7 * fall) * rng.uniform(0.95, 1.05)
        train: dict[str, Any] = {"classification": classification}
        entry: dict[str, Any] = {"epoch": epoch, "lr": 1e-3 * 0.95**epoch}
        if student:
            entry["alpha"] = 0.7
            loss = 0.3 * classification + 0.7 * second
            train |= {"loss": loss, "distillation": second, "share": 0.7 * second / loss}
        else:
            train |= {"loss": classification + 0.1 * second, "reconstruction": second}
        train |= {
            "accuracy": 0.93 - 0.9 * fall,
            "data_wait": 0.02 + 0.03 * rng.uniform(),
            "seconds": 14.2,
            "utterances": 3120,
            "skipped": 0,
        }
        eer = 8 + 26 * fall + rng.normal(0, 0.7)
        costs = {"min_dcf_0.01": 0.7 + 0.3 * fall, "min_dcf_0.05": 0.5 + 0.4 * fall}
        lines.append(
            json.dumps({**entry, "train": train, "valid": {"eer": eer, **costs, "seconds": 1.8}})
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _embeddings(
    path: Path, rng: np.random.Generator, speakers: np.ndarray, noise: float, weights: str
) -> None:
    ids, vectors = [], []
    for index, centre in enumerate(speakers):
        for session in range(1, 5):
            shift = rng.normal(size=centre.shape) * noise * 0.5
            for take in range(1, 5):
                ids.append(f"id{10001 + index}/s{session:02d}/{take:05d}")
                vectors.append(centre + shift + rng.normal(size=centre.shape) * noise)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        ids=np.array(ids),
        embeddings=np.array(vectors, dtype=np.float32),
        weights_sha256=np.array(weights),
    )


def _result(path: Path, rng: np.random.Generator, distance: float, common: dict[str, Any]) -> None:
    target = 0.12 + 0.11 * (distance + rng.normal(size=2400))
    nontarget = 0.12 + 0.11 * rng.normal(size=9600)
    thresholds = np.linspace(-0.4, 0.9, 200)
    miss = (target[None] < thresholds[:, None]).mean(1)
    alarm = (nontarget[None] >= thresholds[:, None]).mean(1)
    best = int(np.abs(miss - alarm).argmin())
    eer = 50 * float(miss[best] + alarm[best])
    edges = np.linspace(-0.4, 0.9, 61)
    content = {
        **common,
        "targets": 2400,
        "nontargets": 9600,
        "eer": eer,
        "eer_interval_95": [eer * 0.87, eer * 1.16],
        "eer_threshold": float(thresholds[best]),
        "min_dcf": {
            "0.01": {"value": 0.0613 * eer, "threshold": 0.52},
            "0.05": {"value": 0.0412 * eer, "threshold": 0.44},
        },
        "det": {"false_alarm": alarm.tolist(), "miss": miss.tolist()},
        "histogram": {
            "edges": edges.tolist(),
            "target": np.histogram(target, edges)[0].tolist(),
            "nontarget": np.histogram(nontarget, edges)[0].tolist(),
        },
        "calibrated": _calibrated(eer, common["title"]),
        "weights_sha256": common["system"],
    }
    write_json(path, content)


def _calibrated(eer: float, title: str) -> dict[str, Any]:
    def figure(value: float) -> dict[str, Any]:
        return {"value": value, "interval_95": [value * 0.8, value * 1.3]}

    point = {"name": "false_alarm_0.01", "false_alarm": 0.01, "threshold": 0.4}
    point |= {"trials": 120, "supported": True}
    found = {"false_alarm": figure(0.0023 * eer), "miss": figure(0.031 * eer)}
    fitted_on = {"title": "held-out training speakers", "targets": 192, "nontargets": 12369}
    return {
        "fitted_on": {**fitted_on, "speakers": 48, "digest": "0f"},
        "cross_validated": False,
        "measures": ["score"],
        "eer": eer,
        "min_dcf": {"0.01": 0.0613 * eer, "0.05": 0.0412 * eer},
        "act_dcf": {"0.01": figure(0.0713 * eer), "0.05": figure(0.0512 * eer)},
        "cllr": figure(0.0371 * eer),
        "min_cllr": 0.0332 * eer,
        "operating_points": [{**point, "found": found}],
        "reliability": {
            "said": [-4.0, 0.0, 4.0],
            "found": [-3.5, 0.1, 3.4],
            "targets": [5, 90, 800],
            "nontargets": [4000, 100, 9],
        },
    }


def _speed(path: Path, teacher: str) -> None:
    systems = [
        (teacher, 3_873_745, 1.071e9, 101.9, 1.0),
        ("student", 2_664_576, 4.87e8, 148.3, 1.455),
    ]
    content = {
        "device": "cpu",
        "threads": 2,
        "batch": 8,
        "seconds_of_speech": 2.0,
        "rounds": 15,
        "systems": [
            {
                "name": name,
                "parameters": parameters,
                "macs_per_utterance": macs,
                "utterances_per_second": speed,
                "spread": [speed * 0.96, speed * 1.03],
                "relative": relative,
                "from_waveform": {
                    "utterances_per_second": 0.8 * speed,
                    "spread": [0.7 * speed, 0.9 * speed],
                    "relative": relative,
                },
            }
            for name, parameters, macs, speed, relative in systems
        ],
    }
    write_json(path, content)
