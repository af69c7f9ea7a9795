"""The command that embeds the utterances of a corpus: which sets, and what is said of others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from speechbrain_ext.verification.embeddings import load_embeddings
from tests.recipe.experiments import make_experiment
from tests.recipe.tiny import make_corpus, run


def test_the_sets_are_those_of_the_trial_lists(tmp_path: Path) -> None:
    """Of a corpus without trial lists, the held-out speakers; a set that is missing is named."""
    manifests = make_corpus(tmp_path / "corpus") / "manifests"
    entry = {"name": "valid", "title": "v", "set": "valid", "file": "trials/valid.txt"}
    content = {"corpus": "tones", "title": "Tones", "synthetic": True, "trials": [entry]}
    (manifests / "manifest.json").write_text(json.dumps(content))
    folder = make_experiment(tmp_path / "v2" / "seed_1")
    options = (folder, "--manifests", manifests, "--device", "cpu", "--num_workers", "0")
    done = run("extract.py", *options)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (folder / "embeddings").iterdir()] == ["valid.npz"]
    done = run("score.py", folder, "--manifests", manifests)
    assert done.returncode == 0, done.stderr
    done = run("extract.py", *options, "--sets", "valid", "test")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: --sets test: {manifests} has no test.csv but train, train_voices, valid; stage 1 "
        "makes them, test.csv of the lists given with --trials."
    ]


def test_the_cohort_is_the_mean_of_each_training_speaker(tmp_path: Path) -> None:
    manifests = make_corpus(tmp_path / "corpus") / "manifests"
    folder = make_experiment(tmp_path / "v2" / "seed_1")
    options = (folder, "--manifests", manifests, "--device", "cpu", "--num_workers", "0")
    done = run("extract.py", *options, "--sets", "train", "--cohort", "10")
    assert done.returncode == 0, done.stderr
    every = load_embeddings(folder / "embeddings" / "train.npz")
    cohort = load_embeddings(folder / "embeddings" / "cohort.npz")
    speakers = np.array([name.split("/")[0] for name in every.ids])
    assert cohort.ids == sorted(set(speakers.tolist()))
    assert cohort.weights_sha256 == every.weights_sha256
    for name, mean in zip(cohort.ids, cohort.vectors, strict=True):
        own = every.vectors[speakers == name]
        assert len(own) == 4
        np.testing.assert_allclose(mean, own.mean(axis=0), rtol=1e-4, atol=1e-4)
    done = run("extract.py", *options, "--cohort", "-1")
    assert done.returncode == 1 and done.stderr == "error: --cohort -1: give 0 or more.\n"
