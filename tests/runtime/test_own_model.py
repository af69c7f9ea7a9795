"""The model that comes with the package: whole, small, and better than chance on real speech."""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.runtime import load_model
from speechbrain_ext.runtime.model import OWN_MODEL
from speechbrain_ext.verification.metrics import equal_error_rate
from tests.refusals import refused
from tests.runtime.models import make_model, voice, write_facts
from tools import own_model

ROOT = Path(__file__).parents[2]
SPEECH = ROOT.parent / "shared/data/libri_mini/dev"
RESULTS = ROOT / "recipes/VoxCeleb/distill_mixer/results/real_16k/own_model"
CLEAN = RESULTS / "trained_on_clean_speech"


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


#: Lines of docs/results.md, by the condition of the cards.
COMPARED = {
    "as recorded": "as recorded",
    "White noise, 20 dB": "white noise, 20 dB",
    "Pink noise, 10 dB": "pink noise, 10 dB",
    "Telephone, 8 kHz": "a telephone's band",
    "Opus, 8 kbit/s": "Opus, 8 kbit/s",
    "Far microphone, 3 m": "microphone 3 m away",
    "Mains hum, 0 dB": "mains hum, 0 dB",
}


def test_the_results_say_what_both_cards_say() -> None:
    clean, noisy = (_rows(folder / "CONDITIONS.md") for folder in (CLEAN, OWN_MODEL))
    assert _rows(RESULTS / "evaluation" / "CONDITIONS.md") == noisy
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for condition, said in COMPARED.items():
        cells = [said, *clean[condition][1:3], *noisy[condition][1:3]]
        assert f"| {' | '.join(cells)} |\n" in page


def test_the_readme_says_what_its_card_says() -> None:
    rows = _rows(OWN_MODEL / "CONDITIONS.md")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("as recorded", "Opus, 12 kbit/s", "Telephone, 8 kHz", "White noise, 20 dB"):
        assert f"{_value(rows[name][1])} %" in readme
    for name in ("as recorded", "White noise, 20 dB"):
        assert f"{_value(rows[name][2])} %" in readme


def _rows(card: Path) -> dict[str, list[str]]:
    """The cells of a card's table, by their first one."""
    lines = card.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in cells if len(row) > 4}


def _value(cell: str) -> str:
    """Without its interval."""
    return cell.partition(" [")[0]


def test_one_is_made_of_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole: with the cohort that its calibration weighs, too."""
    export, made = make_model(tmp_path / "export"), tmp_path / "own"
    (export / "waveform.onnx").rename(export / "waveform.int8.onnx")
    facts = json.loads((export / "model.json").read_text(encoding="utf-8"))
    trials = {"title": "tones", "eer": 2.5, "difference": 0.1, "interval_95": [1.0, 4.0]}
    file = {"file": "waveform.int8.onnx", "bytes": 9000, "trials": [trials]}
    fitted_on = {"title": "tones", "targets": 9, "nontargets": 27, "speakers": 3}
    facts = {**facts, "parameters": 16, "files": [file]}
    facts["decisions"] = {**facts["decisions"], "fitted_on": fitted_on}
    write_facts(export, facts)
    monkeypatch.setattr(own_model, "OWN_MODEL", made)
    monkeypatch.setattr(sys, "argv", ["own_model", str(export)])
    own_model.main()
    one, other = (load_model(made).hear(voice(0, take)) for take in range(2))
    assert load_model(made).llr(one, other) == load_model(export).llr(one, other)
    assert "| tones | 2.50 [1.00, 4.00] | +0.10 |" in (made / "README.md").read_text("utf-8")
    write_facts(export, {**facts, "files": []})
    with refused("not-a-model", export, "export a system"):
        own_model.main()


@pytest.mark.skipif(not SPEECH.is_dir(), reason="there is no real speech")
def test_it_tells_real_speakers_apart() -> None:
    model = load_model()
    files = sorted(SPEECH.glob("*/*/*.flac"))[:80]  # twenty speakers
    heard = [model.hear(file) for file in files]
    pairs = list(combinations(range(len(files)), 2))
    scores = np.array([model.similarity(heard[a], heard[b]) for a, b in pairs])
    labels = np.array([files[a].parts[-3] == files[b].parts[-3] for a, b in pairs])
    assert equal_error_rate(scores, labels)[0] < 0.1
