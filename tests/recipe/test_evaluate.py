"""The command that evaluates a model on many trial lists."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.evaluation_lists import Audio
from speechbrain_ext.decisions import Calibration, Decisions, OperatingPoint
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.inference import evaluation
from speechbrain_ext.inference.store import EmbeddingStore
from speechbrain_ext.inference.views import VIEWS
from speechbrain_ext.systems.experiment import weights_sha256
from speechbrain_ext.systems.pretrained import load_pretrained
from speechbrain_ext.verification.bootstrap import eer_interval
from speechbrain_ext.verification.embeddings import Embeddings, save_embeddings
from speechbrain_ext.verification.fitted import Fitted, keep_decisions
from speechbrain_ext.verification.lists import NORMALIZED
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.quality import unit_cohort
from speechbrain_ext.verification.trials import read_trials
from tests.recipe.evaluating import call, error_of, exported_model, listed_corpus, result
from tests.recipe.tiny import run
from tests.refusals import refused


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listed_corpus(tmp_path_factory.mktemp("corpus"))


def test_many_lists_in_one_command(model: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    own_list = shutil.copy(corpus / "manifests" / "trials" / "train.txt", tmp_path / "own.txt")
    mixed_list = tmp_path / "mixed.txt"
    mixed_list.write_text((corpus / "mixed.txt").read_text().replace("valid/id05", "train/id00"))
    done = run(
        *("evaluate.py", model, "--out", out, "--trials", corpus / "train", own_list),
        *("--trials", corpus, mixed_list, "--num_workers", "1"),
    )
    assert done.returncode == 0, done.stderr
    # The second list's files are the first one's, below another root.
    assert done.stdout.startswith(
        "2 lists, 279 trials, 24 utterances, 0.4 min of audio; 24 utterances, 0.4 min, are to be"
    )
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    plots = [f"plots/{stem}" for stem in ("det_of_all_lists", "mixed_det", "mixed_scores")]
    plots += ["plots/own_det", "plots/own_scores"]
    assert found == [
        *("RESULTS.md", "embeddings/part_000000.npz", "model.json"),
        *(f"{stem}.{ending}" for stem in plots for ending in ("png", "svg")),
        *("results/mixed.json", "results/own.json", "scores/mixed.txt", "scores/own.txt"),
    ]
    encoder = load_pretrained(model)
    with torch.no_grad():
        embeddings = {
            path.relative_to(corpus / "train").with_suffix("").as_posix(): encoder(
                read_audio(str(path))[None]
            )[0, 0]
            for path in sorted((corpus / "train").rglob("*.wav"))
        }
    trials = read_trials(own_list)
    pairs = zip(trials.enrol.tolist(), trials.test.tolist(), strict=True)
    scores = np.array(
        [torch.cosine_similarity(embeddings[a], embeddings[b], dim=0).item() for a, b in pairs]
    )
    np.testing.assert_allclose(np.loadtxt(out / "scores/own.txt", usecols=3), scores, atol=1e-5)
    own, mixed = result(out, "own"), result(out, "mixed")
    assert own["eer"] == pytest.approx(100 * equal_error_rate(scores, trials.labels)[0], abs=0.5)
    first, second = (
        np.array([name.split("/")[0] for name in side]) for side in (trials.enrol, trials.test)
    )
    interval = [100 * bound for bound in eer_interval(scores, trials.labels, first, second) or ()]
    assert own["eer_interval_95"] == pytest.approx(interval, abs=1.0)
    assert (own["system"], own["view"], own["utterances"]) == ("v2", "full", 24)
    # A target pair of two speakers: the names do not tell who speaks.
    assert mixed["eer_interval_95"] is None and mixed["targets"] == 2
    page = (out / "RESULTS.md").read_text()
    low, high = own["eer_interval_95"]
    for text in (page, done.stdout):
        assert f"{own['eer']:.2f}" in text and f"{low:.2f} to {high:.2f}" in text
        assert "No interval where the names" in " ".join(text.split())
    assert "minDCF 0.01 | minDCF 0.05" in page


def test_a_cohort_normalises(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each list has a row more, until it is evaluated without."""
    out, trials = tmp_path / "out", ("--trials", corpus / "valid", corpus / "own.txt")
    weights = weights_sha256(load_pretrained(model).embedding_model)
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    members = [str(n) for n in range(20)]
    save_embeddings(tmp_path / "cohort.npz", Embeddings(members, vectors, weights))
    norm = ("--score_norm", "asnorm", "--cohort", tmp_path / "cohort.npz")
    call(model, "--out", out, *trials, *norm)
    own, normalized = result(out, "own"), result(out, "own_normalized")
    assert normalized["title"] == f"{own['title']}, AS-norm"
    assert (own["scores"], normalized["scores"]) == (
        "cosine",
        "AS-norm, the 10 nearest of a cohort of 20",
    )
    before, after = (
        np.loadtxt(out / f"scores/own{end}.txt", usecols=3) for end in ("", NORMALIZED)
    )
    assert np.abs(before).max() <= 1 and np.abs(after).max() > 2  # deviations, and no cosines
    page = (out / "RESULTS.md").read_text()
    assert "| own, AS-norm | 24 | 96 | 16 |" in page and page.count("own.txt`") == 1
    assert page.startswith("# v2 on 1 trial list\n")
    assert f"the 10 nearest of a cohort of 20, `{tmp_path / 'cohort.npz'}`" in page
    call(model, "--out", out, *trials)
    assert (
        not list(out.rglob("own_normalized*")) and "AS-norm" not in capsys.readouterr().out[-500:]
    )
    save_embeddings(tmp_path / "cohort.npz", Embeddings(members, vectors, "others"))
    save_embeddings(tmp_path / "few.npz", Embeddings(members[:9], vectors[:9], weights))
    seen = Embeddings(members, vectors, weights, {"view": "segments"})
    save_embeddings(tmp_path / "seen.npz", seen)
    shutil.copy(corpus / "own.txt", tmp_path / "x_normalized.txt")
    for arguments, words in (
        ((*trials, *norm), "cohort.npz: the cohort was embedded with other weights"),
        ((*trials, *norm[:3], tmp_path / "few.npz"), "few.npz: the cohort has 9 members"),
        (
            (*trials, *norm[:3], tmp_path / "seen.npz"),
            "seen.npz: the cohort was embedded with",
        ),
        ((*trials, *norm[:2]), "--score_norm asnorm needs --cohort"),
        ((*trials, *norm[2:]), "does nothing without --score_norm"),
        (("--trials", corpus / "valid", tmp_path / "x_normalized.txt"), "rename the list"),
    ):
        assert words in error_of(capsys, model, "--out", out, *arguments)


def test_a_model_is_measured_by_its_own_calibration(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fitted when its recipe scored it; of an experiment and of an export alike."""
    weights = weights_sha256(load_pretrained(model).embedding_model)
    rows = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    cohort = unit_cohort(Embeddings([str(n) for n in range(20)], rows, weights))
    measures = {"score": 2.0, "norm": 0.1, "cohort": 0.5, "duration": 1.0}
    calibration = Calibration(-1.0, measures, 0.05)
    points = (OperatingPoint("false_alarm_0.01", 0.01, 0.9, 120, True),)
    fitted_on = {"title": "held-out", "targets": 50, "nontargets": 12000, "speakers": 40}
    decisions = Decisions({**fitted_on, "digest": "0f"}, calibration, points)
    experiment = tmp_path / "v2" / "seed_1"
    shutil.copytree(model, experiment)
    keep_decisions(experiment, Fitted(decisions, cohort), weights)
    write_model_folder(experiment, experiment / "export")
    trials = ("--trials", corpus / "valid", corpus / "own.txt")
    found = []
    for folder in (experiment, experiment / "export"):
        out = tmp_path / f"of_{folder.name}"
        call(folder, "--out", out, *trials)
        found.append(result(out, "own")["calibrated"])
        page = (out / "RESULTS.md").read_text()
        assert "fitted on held-out: 50 target and 12,000 non-target trials" in page
        assert "| own |" in page.partition("actDCF")[2]
        assert "fitted on held-out" in " ".join(capsys.readouterr().out.split())
    assert found[0] == found[1]
    assert found[0]["measures"] == list(measures)
    assert found[0]["operating_points"][0]["found"]["miss"]["value"] <= 1.0
    # Not with other weights, nor of parts of utterances.
    keep_decisions(experiment, Fitted(decisions, cohort), "others")
    call(experiment, "--out", tmp_path / "of_seed_1", *trials)
    assert result(tmp_path / "of_seed_1", "own")["calibrated"] is None
    call(experiment / "export", "--out", tmp_path / "parts", *trials, "--view", "segments")
    assert result(tmp_path / "parts", "own")["calibrated"] is None
    assert "Nothing is calibrated" in capsys.readouterr().out
    # A length that only decoding tells is no duration.
    unknown = [evaluate.Audio("a.opus", float("inf"), (0, 0))]
    with refused("unusable-audio", "a.opus", experiment, "--calibration score"):
        evaluate.check_lengths(experiment, unknown)


def test_run_again_embeds_what_is_new(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "audio", tmp_path / "out"
    shutil.copytree(corpus / "valid", root)
    (tmp_path / "few.txt").write_text("1 id050/s0/0 id050/s1/1\n0 id050/s0/0 id051/s0/0\n")
    call(model, "--out", out, "--trials", root, tmp_path / "few.txt")
    assert "3 utterances, 0.1 min, are to be embedded" in capsys.readouterr().out
    first = (out / "embeddings" / "part_000000.npz").read_bytes()
    # Another list, and the same model from its exported folder.
    call(model / "export", "--out", out, "--trials", root, corpus / "own.txt")
    assert "16 utterances, 0.3 min of audio; 13 utterances" in capsys.readouterr().out
    assert (out / "embeddings" / "part_000000.npz").read_bytes() == first
    rows = (out / "RESULTS.md").read_text()
    assert "| few | 1 | 1 | 3 |" in rows and "| own | 24 | 96 | 16 |" in rows
    before = (out / "scores" / "own.txt").read_bytes()
    call(model, "--out", out, "--trials", root, corpus / "own.txt", tmp_path / "few.txt")
    assert "; 0 utterances" in capsys.readouterr().out
    assert (out / "scores" / "own.txt").read_bytes() == before
    # A recording that was replaced is heard again.
    replaced = root / "id050" / "s0" / "0.wav"
    soundfile.write(replaced, np.random.default_rng(1).uniform(-0.3, 0.3, 20000), 16000)
    call(model, "--out", out, "--trials", root, corpus / "own.txt")
    assert "; 1 utterances" in capsys.readouterr().out
    assert (out / "scores" / "own.txt").read_bytes() != before


def test_an_interrupted_run_keeps_what_it_has(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, done = tmp_path / "out", 0
    embed_batch = evaluation.embed_batch

    def interrupted(*arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done > 5:
            raise KeyboardInterrupt
        return embed_batch(*arguments)

    arguments: list[str | Path] = [model, "--out", out, "--max_batch_seconds", "2"]
    arguments += ["--trials", corpus / "valid", corpus / "own.txt"]
    monkeypatch.setattr(evaluation, "embed_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(*arguments)
    monkeypatch.undo()
    capsys.readouterr()
    call(*arguments)
    assert "16 utterances, 0.3 min of audio; 6 utterances" in capsys.readouterr().out


def test_two_processes_do_the_work_of_one(model: Path, corpus: Path, tmp_path: Path) -> None:
    arguments = ("--trials", corpus / "valid", corpus / "own.txt", "--max_batch_seconds", "2")
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    done = run(
        *("evaluate.py", model, "--out", shared, *arguments),
        *("--device", "cpu", "--num_workers", "0"),
        processes=2,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 list,") == 1
    assert len(EmbeddingStore(shared / "embeddings").known()) == 16
    assert len(list((shared / "embeddings").iterdir())) == 2
    call(model, "--out", alone, *map(str, arguments))
    a, b = (np.loadtxt(out / "scores" / "own.txt", usecols=3) for out in (shared, alone))
    np.testing.assert_allclose(a, b, atol=1e-5)

    done = run(
        *("evaluate.py", model, "--out", tmp_path / "x", "--trials", tmp_path, corpus / "own.txt"),
        *("--device", "cpu"),
        processes=2,
    )
    assert done.returncode == 1
    assert done.stderr.count("error: /") == done.stderr.count("16 of its 16 audio files") == 1


@pytest.mark.parametrize("view", ["segments", "both"])
def test_views(view: str, model: Path, corpus: Path, tmp_path: Path) -> None:
    call(model, "--out", tmp_path, "--view", view, "--trials", corpus / "valid", corpus / "own.txt")
    encoder = VIEWS[view](load_pretrained(model))
    trials = read_trials(corpus / "own.txt")
    a, b = (
        encoder(read_audio(str(corpus / "valid" / f"{side[0]}.wav"))[None])[0, 0]
        for side in (trials.enrol, trials.test)
    )
    score = np.loadtxt(tmp_path / "scores" / "own.txt", usecols=3)[0]
    assert score == pytest.approx(torch.cosine_similarity(a, b, dim=0).item(), abs=1e-5)
    assert f"view `{view}`" in (tmp_path / "RESULTS.md").read_text()


def test_how_much_there_is_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    known, unknown = Audio("a.wav", 90.0, (1, 1)), Audio("b.m4a", math.inf, (1, 1))
    evaluate.announce([], [known, unknown], [unknown])
    assert capsys.readouterr().out.partition("trials, ")[2] == (
        "2 utterances, 1.5 min of audio and 1 of unknown length; 1 utterances, 0.0 min and 1 of "
        "unknown length, are to be embedded\n"
    )


def test_names_find_their_files(tmp_path: Path, model: Path) -> None:
    """Any format, through links, one embedding for each file."""
    root = tmp_path / "audio"
    for number, name in enumerate(("a/1.flac", "a/2.wav", "b/1.v2.wav", "b/2.flac")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).uniform(-0.3, 0.3, 8000)
        soundfile.write(root / name, noise, 16000)
    (root / "b" / "2.m4a").touch()  # which b/2.flac was converted from
    (tmp_path / "mirror").symlink_to(root)
    (root / "c.flac").symlink_to(root / "a" / "1.flac")
    (tmp_path / "x.txt").write_text("1 a/1.wav a/2.wav\n0 ./a/1.flac b/2.m4a\n0 c b/1.v2\n")
    (tmp_path / "y.txt").write_text("1 a/1 a/2\n0 a/1 b//2\n")
    lists = evaluate.read_evaluation_lists(
        [[str(root), str(tmp_path / "x.txt")], [str(tmp_path / "mirror"), str(tmp_path / "y.txt")]]
    )
    names = [
        {name: files[0][0] for name, files in zip(each.trials.names, each.files, strict=True)}
        for each in lists
    ]
    real = os.path.realpath(root)
    assert names[0] == {
        "a/1": f"{real}/a/1.flac", "c": f"{real}/a/1.flac", "a/2": f"{real}/a/2.wav",
        "b/2": f"{real}/b/2.flac", "b/1.v2": f"{real}/b/1.v2.wav",
    }  # fmt: skip
    assert set(names[1].values()) <= set(names[0].values())
    call(model, "--out", tmp_path / "out", "--trials", root, tmp_path / "x.txt")
    assert len(EmbeddingStore(tmp_path / "out" / "embeddings").known()) == 4


def test_names_in_any_form_keep_their_speakers(tmp_path: Path) -> None:
    """Absolute, Windows's, composed where the disk decomposes: the same trials and intervals."""
    root = tmp_path / "audio"
    for name in ("Rene\u0301/s/e\u0301.wav", "Rene\u0301/s/2.wav", "b/s/1.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "plain.txt").write_text(
        "1 Ren\u00e9/s/\u00e9 Ren\u00e9/s/2\n0 b/s/1 Ren\u00e9/s/2\n"
    )
    (tmp_path / "odd.txt").write_text(
        f"1 {root}/Ren\u00e9/s/\u00e9.flac ./Ren\u00e9\\s\\2.wav\n0 b//s/1 Rene\u0301/s/2\n"
    )
    plain, odd = (
        evaluate.read_evaluation_lists([[str(root), str(tmp_path / name)]])[0]
        for name in ("plain.txt", "odd.txt")
    )
    assert plain.trials.names.tolist() == odd.trials.names.tolist()
    assert plain.files == odd.files and len(set(plain.files)) == 3
    assert plain.speakers is not None and odd.speakers is not None
    assert plain.speakers.tolist() == odd.speakers.tolist()


def test_models_of_several_utterances(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As CN-Celeb has them: the utterances of models below a folder of their own."""
    root, enrol = tmp_path / "test", tmp_path / "enrol"
    for name, folder in (("id050", root), ("id051", root), ("id050", enrol), ("id051", enrol)):
        shutil.copytree(corpus / "valid" / name, folder / name)
    # Of one name in both folders, and not one recording.
    shutil.copy(enrol / "id050/s1/1.wav", enrol / "id050/s0/0.wav")
    models = tmp_path / "enroll.map"
    models.write_text("m0 id050/s0/0.wav id050/s1/3.wav\nm1 id051/s0/0.wav\n")
    (tmp_path / "trials.lst").write_text(
        "m0 id050/s0/0.wav 1\nm0 id051/s1/1.wav 0\nm1 id051/s1/1.wav 1\nm1 id050/s0/0.wav 0\n"
    )
    arguments = (model, "--out", tmp_path / "out", "--trials", root, tmp_path / "trials.lst")
    call(*arguments, "--enrol", enrol, models)
    encoder = load_pretrained(model)
    with torch.no_grad():
        heard = {
            path: encoder(read_audio(str(path))[None])[0, 0]
            for path in (*root.rglob("*.wav"), *enrol.rglob("*.wav"))
        }
    first = (heard[enrol / "id050/s0/0.wav"] + heard[enrol / "id050/s1/3.wav"]) / 2
    second = heard[enrol / "id051/s0/0.wav"]
    tests = [heard[root / "id050/s0/0.wav"], heard[root / "id051/s1/1.wav"]]
    pairs = [(first, tests[0]), (first, tests[1]), (second, tests[1]), (second, tests[0])]
    expected = [torch.cosine_similarity(a, b, dim=0).item() for a, b in pairs]
    scores = np.loadtxt(tmp_path / "out/scores/trials.txt", usecols=3)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert result(tmp_path / "out", "trials")["utterances"] == 5
    (read,) = evaluate.read_evaluation_lists(
        [[str(root), str(tmp_path / "trials.lst")]], [str(enrol), str(models)]
    )
    assert read.trials.names.tolist() == ["m0", "id050/s0/0", "id051/s1/1", "m1"]
    assert read.speakers is not None and read.speakers.tolist() == [0, 0, 1, 1]
    models.write_text("m0 id050/s0/0.wav\n")
    assert "1 of its 2 models are not in" in error_of(capsys, *arguments, "--enrol", enrol, models)
    models.write_text("m8 id050/s0/0.wav\n")
    assert "no trial list has one of its models (m8)" in (
        error_of(capsys, model, "--out", tmp_path / "other", "--trials", corpus / "valid",
                 corpus / "own.txt", "--enrol", enrol, models)
    )  # fmt: skip
    models.write_text("m0 id050/s9/0.wav\nm1 id051/s0/0.wav\n")
    assert "1 of its 2 audio files are not below" in (
        error_of(capsys, *arguments, "--enrol", enrol, models)
    )


def test_parts_are_read_in_their_order(tmp_path: Path) -> None:
    stores = [EmbeddingStore(tmp_path) for _ in range(2)]
    for rank, store in enumerate(stores):
        store.number_parts(rank, 2)
    for number, store in enumerate([*stores, *stores]):
        names = ["/both", f"/only{number}"]
        vectors = {name: np.full(2, number, dtype=np.float32) for name in names}
        store.add(vectors, dict.fromkeys(names, (number, 0)))
        store.flush()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"part_{number:06d}.npz" for number in range(4)
    ]
    store = EmbeddingStore(tmp_path)
    assert store.known()["/both"] == (3, 0) and len(store.known()) == 5
    assert store.matrix(["/only1", "/both"]).tolist() == [[1.0, 1.0], [3.0, 3.0]]
    with refused("missing-embedding", " 1 ", "/none"):
        store.matrix(["/both", "/none"])
    assert Audio("/a", 2.0, (1, 2)).row == {"ID": "/a", "wav": "/a", "duration": 2.0}
