"""The model that comes with the package: whole, small, and better than chance on real speech."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.runtime import load_model
from speechbrain_ext.runtime.model import OWN_MODEL
from speechbrain_ext.verification.metrics import equal_error_rate

ROOT = Path(__file__).parents[2]
SPEECH = ROOT.parent / "shared/data/libri_mini/dev"


def test_it_is_whole_and_small() -> None:
    assert sum(path.stat().st_size for path in OWN_MODEL.iterdir()) <= 3_000_000
    facts = json.loads((OWN_MODEL / "model.json").read_text(encoding="utf-8"))
    for name, digest in facts["sha256"].items():
        assert hashlib.sha256((OWN_MODEL / name).read_bytes()).hexdigest() == digest
    names = {path.name for path in OWN_MODEL.iterdir()}
    assert names == {*facts["sha256"], "model.json", "README.md"}
    model = load_model()
    assert model.dim == facts["embedding_size"] and model.decisions is not None
    card = (OWN_MODEL / "README.md").read_text(encoding="utf-8")
    for point in model.decisions.operating_points:
        assert f"{point.threshold:.4f}" in card


def test_the_readme_says_what_its_card_says() -> None:
    lines = (OWN_MODEL / "CONDITIONS.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = {row[0]: row for row in cells if len(row) > 4}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("as recorded", "Opus, 12 kbit/s", "Telephone, 8 kHz", "White noise, 20 dB"):
        assert f"{rows[name][1]} %" in readme
    for name in ("as recorded", "White noise, 20 dB"):
        assert f"{rows[name][3]} %" in readme


@pytest.mark.skipif(not SPEECH.is_dir(), reason="there is no real speech")
def test_it_tells_real_speakers_apart() -> None:
    model = load_model()
    files = sorted(SPEECH.glob("*/*/*.flac"))[:80]  # twenty speakers
    heard = [model.hear(file) for file in files]
    pairs = list(combinations(range(len(files)), 2))
    scores = np.array([model.similarity(heard[a], heard[b]) for a, b in pairs])
    labels = np.array([files[a].parts[-3] == files[b].parts[-3] for a, b in pairs])
    assert equal_error_rate(scores, labels)[0] < 0.1
