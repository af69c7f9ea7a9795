"""A small corpus of made-up embeddings, and stage 4's scoring command on it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from score import main

from speechbrain_ext.corpora.manifest import COLUMNS
from speechbrain_ext.verification.embeddings import (
    Embeddings,
    save_embeddings,
)
from speechbrain_ext.verification.trials import make_trials, write_trials

SPEAKERS, UTTERANCES = 12, 6


@dataclass(frozen=True)
class Folders:
    """Where the corpus and the two systems lie."""

    manifests: Path
    student: Path
    teacher: Path


def ids_of(set_name: str) -> list[str]:
    return [f"{set_name}{s:02d}/s{u % 2}/{u}" for s in range(SPEAKERS) for u in range(UTTERANCES)]


def make_folders(tmp_path: Path) -> Folders:
    """Make a corpus with a valid and a test list, and two systems that have been extracted."""
    made = Folders(
        tmp_path / "data" / "mini" / "manifests",
        tmp_path / "exp" / "mini" / "v2" / "seed_1",
        tmp_path / "exp" / "mini" / "teacher" / "seed_1",
    )
    entries = []
    for set_name in ("valid", "test"):
        ids = ids_of(set_name)
        speakers = [name.split("/")[0] for name in ids]
        trials = make_trials(ids, speakers, [name.split("/")[1] for name in ids])
        file = f"trials/{set_name}.txt"
        write_trials(made.manifests / file, trials)
        entry = {"name": set_name, "title": f"{set_name} list", "set": set_name, "file": file}
        entries.append({**entry, "targets": trials.targets, "nontargets": trials.nontargets})
        with open(made.manifests / f"{set_name}.csv", "w", newline="", encoding="utf-8") as out:
            rows = csv.writer(out)
            rows.writerow(COLUMNS)
            rows.writerows(
                [i, 2.0, f"/x/{i}.flac", 0, 32000, s] for i, s in zip(ids, speakers, strict=True)
            )
        for seed, folder in enumerate((made.student, made.teacher)):
            centres = np.repeat(np.random.default_rng(8).normal(size=(SPEAKERS, 16)), UTTERANCES, 0)
            noise = np.random.default_rng(seed).normal(size=centres.shape)
            vectors = (centres + 1.2 * noise).astype(np.float32)
            path = folder / "embeddings" / f"{set_name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_embeddings(path, Embeddings(ids, vectors, f"hash{seed}"))
    write_manifest(made, entries)
    return made


def write_manifest(folders: Folders, entries: list[dict[str, Any]], synthetic: bool = True) -> None:
    content = {"corpus": "mini", "title": "Mini", "synthetic": synthetic, "trials": entries}
    (folders.manifests / "manifest.json").write_text(json.dumps(content), encoding="utf-8")


def score(folders: Folders, *options: str | Path) -> None:
    main([str(folders.student), "--manifests", str(folders.manifests), *map(str, options)])


def result_of(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results" / f"{name}.json").read_text())
    return content


def score_column(path: Path) -> np.ndarray:
    return np.loadtxt(path, usecols=3)
