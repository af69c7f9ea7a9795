"""The command that embeds the utterances of a corpus: which sets, and what is said of others."""

from __future__ import annotations

import json
from pathlib import Path

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
