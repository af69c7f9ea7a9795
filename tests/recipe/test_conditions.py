"""A model tried under conditions: the card, what a second run keeps, and where the card goes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.audio import read_audio
from speechbrain_ext.decisions import Decisions, OperatingPoint
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.experiment import weights_sha256
from speechbrain_ext.systems.pretrained import load_pretrained
from speechbrain_ext.verification.conditions import CARD, EVALUATION, FOLDER, card_rows
from speechbrain_ext.verification.fitted import Fitted, keep_decisions
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.trials import read_trials
from tests.recipe import report_fixture
from tests.recipe.experiments import make_experiment
from tests.recipe.tiny import make_corpus, run
from tests.refusals import refused

CLASSES = "!new:speechbrain_ext.channels.conditions"
CARD_YAML = f"""
Duration:
    0.4 s: {CLASSES}.Excerpt {{seconds: 0.4}}
    2 s: {CLASSES}.Excerpt {{seconds: 2}}
Level:
    -30 dB: {CLASSES}.Loudness {{decibels: -30}}
Other voices:
    5 dB: {CLASSES}.Babble {{snr: 5}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_experiment(tmp_path_factory.mktemp("models") / "v2" / "seed_1")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder `valid` of 4 speakers with 4 utterances each, a list, and a file of conditions."""
    folder = make_corpus(tmp_path / "corpus")
    shutil.copy(folder / "manifests" / "trials" / "valid.txt", folder / "own.txt")
    (folder / "card.yaml").write_text(CARD_YAML)
    return folder


def options(model: Path, corpus: Path, out: Path) -> list[str]:
    words = [str(model), "--out", str(out), "--trials", str(corpus / "valid")]
    words += [str(corpus / "own.txt"), "--conditions", str(corpus / "card.yaml")]
    return [*words, "--device", "cpu", "--num_workers", "0"]


def call(model: Path, corpus: Path, out: Path) -> dict[str, Any]:
    """Run the command in this process, and give the card of the list."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evaluate.py", *options(model, corpus, out)])
        evaluate.main()
    card: dict[str, Any] = json.loads((out / FOLDER / "own.json").read_text())
    return card


def parts(out: Path) -> dict[str, int]:
    """The files of embeddings under conditions, and when each was written."""
    found = (out / "embeddings" / "conditions").rglob("*.npz")
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_a_card_and_what_a_second_run_keeps(model: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    card = call(model, corpus, out)
    names = ["as recorded", "0.4 s", "2 s", "-30 dB", "5 dB"]
    assert [row["name"] for row in card["rows"]] == names
    first, short, whole, quiet, noisy = card["rows"]
    assert "test" not in first and first["both"]["eer_interval_95"] is None  # of 4 speakers
    # Every recording is shorter than 2 s: nothing was changed on either side.
    assert whole["spared"] == card["utterances"] == 16 and short["spared"] == 0
    for side in ("both", "test"):
        assert whole[side] == pytest.approx(first["both"])
        assert short[side] != first["both"] and noisy[side] != first["both"]
    # At the threshold that the list has itself: the model has none.
    assert card["threshold"]["stored"] is False and first["both"]["false_alarm"] <= 0.01

    # What is on the page, by hand: both sides quieter, and the test side alone.
    encoder = load_pretrained(model)
    trials = read_trials(corpus / "own.txt")
    clean, changed = {}, {}
    with torch.no_grad():
        for name in trials.utterances:
            wav = read_audio(corpus / "valid" / f"{name}.wav")
            clean[name] = encoder(wav[None])[0, 0]
            quieter = (wav * 10**-1.5 * 2**15).round() / 2**15
            changed[name] = encoder(quieter[None])[0, 0]
    for side, enrolled in (("both", changed), ("test", clean)):
        pairs = zip(trials.enrol.tolist(), trials.test.tolist(), strict=True)
        scores = np.array(
            [torch.cosine_similarity(enrolled[a], changed[b], dim=0).item() for a, b in pairs]
        )
        eer = 100 * equal_error_rate(scores, trials.labels)[0]
        assert quiet[side]["eer"] == pytest.approx(eer, abs=0.5)

    page = (out / CARD).read_text()
    assert "| Duration, 0.4 s |" in page and "since none is stored for this model" in page
    assert (out / "plots" / "own_conditions.svg").is_file()

    # Nothing is left to embed, and the figures are the same.
    before = parts(out)
    assert len(before) == 4
    assert call(model, corpus, out) == card and parts(out) == before
    # A condition that is new is the only one that is embedded.
    text = CARD_YAML.replace("seconds: 0.4", "seconds: 0.3").replace("0.4 s", "0.3 s")
    (corpus / "card.yaml").write_text(text)
    again = call(model, corpus, out)
    assert parts(out).items() > before.items() and len(parts(out)) == 5
    assert again["rows"][2:] == card["rows"][2:] and again["rows"][1]["name"] == "0.3 s"


def test_a_recording_that_changed_is_embedded_anew(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    (corpus / "card.yaml").write_text(f"Level: {{-30 dB: {CLASSES}.Loudness {{decibels: -30}}}}")
    out = tmp_path / "out"
    card = call(model, corpus, out)
    path = sorted((corpus / "valid").rglob("*.wav"))[0]
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=20000), 16000)
    before = parts(out)
    again = call(model, corpus, out)
    assert again["rows"] != card["rows"] and len(parts(out)) == 2
    assert parts(out).items() > before.items()
    kept = np.load(max(parts(out)), allow_pickle=False)["ids"]
    assert len(kept) == 1 and Path(str(kept[0])) == path.resolve()


def test_two_processes_make_the_card_of_one(model: Path, corpus: Path, tmp_path: Path) -> None:
    alone = call(model, corpus, tmp_path / "alone")
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = run(*launch, "evaluate.py", *options(model, corpus, tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / FOLDER / "own.json").read_text())
    for one, other in zip(alone["rows"], two["rows"], strict=True):
        for side in ("both", "test"):
            if side in one:
                assert other[side]["eer"] == pytest.approx(one[side]["eer"], abs=0.01)


def test_the_stored_threshold_decides(corpus: Path, tmp_path: Path) -> None:
    model = make_experiment(tmp_path / "v2" / "seed_1")
    weights = weights_sha256(load_pretrained(model).embedding_model)
    point = OperatingPoint("false_alarm_0.01", 0.01, 2.0, 120, True)
    title = "held-out training speakers"
    fit = {"title": title, "targets": 50, "nontargets": 12000, "speakers": 20, "digest": "0"}
    keep_decisions(model, Fitted(Decisions(fit, None, (point,))), weights)
    card = call(model, corpus, model / EVALUATION)
    assert card["threshold"] == {"value": 2.0, "origin": title, "stored": True}
    for row in card["rows"]:  # no cosine is as high
        assert (row["both"]["false_alarm"], row["both"]["miss"]) == (0.0, 1.0)
    # An earlier version's card, without intervals at the threshold, is shown, and measured anew.
    path = model / EVALUATION / FOLDER / "own.json"
    earlier = json.loads(path.read_text())
    for row in earlier["rows"]:
        row["digest"] = "of an earlier version"
        del row["both"]["miss_interval_95"]
    path.write_text(json.dumps(earlier))
    assert card_rows(earlier) == card_rows(card)
    assert call(model, corpus, model / EVALUATION) == card
    # An export has the card of its weights, and its README names it.
    write_model_folder(model, tmp_path / "export")
    page = (tmp_path / "export" / CARD).read_text()
    assert page == (model / EVALUATION / CARD).read_text() and "2.0000: 1 %" in page
    assert CARD in (tmp_path / "export" / "README.md").read_text()
    path.write_text(json.dumps({**card, "weights_sha256": "another"}))
    write_model_folder(model, tmp_path / "export")
    assert not (tmp_path / "export" / CARD).exists()
    assert CARD not in (tmp_path / "export" / "README.md").read_text()


def test_lists_and_conditions_that_do_not_go_together(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    """Before anything is embedded under conditions."""
    first = (corpus / "own.txt").read_text().split()
    (corpus / "own.txt").write_text(f"1 {first[1]} {first[2]}\n0 {first[1]} {first[2]}\n")
    with refused("few-speakers", "Other voices, 5 dB"):
        call(model, corpus, tmp_path / "out")
    assert not parts(tmp_path / "out")
    (corpus / "card.yaml").write_text(f"Duration: {{no: {CLASSES}.Excerpt {{seconds: 0.001}}}}")
    with refused("bad-setting", "Duration, no", "16 samples"):
        call(model, corpus, tmp_path / "out")


def test_the_report_has_a_section_of_conditions(tmp_path: Path) -> None:
    paths = report_fixture.make_experiment(tmp_path)
    figures = {"eer": 5.0, "eer_interval_95": [4.0, 6.5], "false_alarm": 0.031, "miss": 0.25}
    figures["false_alarm_interval_95"] = [0.0224, 0.0476]
    row = {"group": "", "name": "as recorded", "spared": 0, "both": figures}
    changed = {**row, "group": "White noise", "name": "5 dB", "test": {**figures, "eer": 17.25}}
    threshold = {"value": 0.4, "origin": "held-out speakers", "stored": True}
    card = {
        **{"system": "v2", "trials": "test", "title": "List of the card", "view": "full"},
        **{"utterances": 640, "targets": 2400, "nontargets": 9600, "threshold": threshold},
        **{"weights_sha256": None, "rows": [row, changed]},
    }
    report_fixture.write_json(paths["exp"] / EVALUATION / FOLDER / "test.json", card)
    assert report_fixture.write_report(paths).returncode == 0
    page = (paths["exp"] / "report.html").read_text()
    for text in (
        "Under conditions",
        "List of the card",
        "White noise, 5 dB",
        "17.25",
        "3.10 [2.24, 4.76]",
    ):
        assert text in page, text
    assert f"({EVALUATION}/{CARD})" in (paths["exp"] / "RESULTS.md").read_text()
