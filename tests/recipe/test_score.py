"""Stage 4's scoring command on a small corpus of made-up embeddings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from score import main

from speechbrain_ext.inference.embed_folder import TOGETHER
from speechbrain_ext.systems.experiment import save_weights, weights_sha256
from speechbrain_ext.verification.bootstrap import eer_interval
from speechbrain_ext.verification.embeddings import (
    Embeddings,
    load_embeddings,
    save_embeddings,
)
from speechbrain_ext.verification.enrolment import write_enrolment
from speechbrain_ext.verification.metrics import equal_error_rate, min_dcf
from speechbrain_ext.verification.tables import cells_of
from speechbrain_ext.verification.trials import read_trials
from tests.recipe.scoring import (
    SPEAKERS,
    Folders,
    ids_of,
    make_folders,
    result_of,
    score,
    score_column,
    write_manifest,
)
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "VoxCeleb" / "distill_mixer"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def test_every_list_is_scored(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    """All files of the contract exist and agree with each other and with the table."""
    score(folders)
    for name in ("valid", "test"):
        trials = read_trials(folders.manifests / "trials" / f"{name}.txt")
        lines = (folders.student / "scores" / f"{name}.txt").read_text().splitlines()
        assert [line.rsplit(" ", 1)[0] for line in lines] == (
            (folders.manifests / "trials" / f"{name}.txt").read_text().splitlines()
        )
        scores = score_column(folders.student / "scores" / f"{name}.txt")
        result = result_of(folders.student, name)
        assert {key: result[key] for key in ("system", "trials", "title", "corpus", "set")} == {
            "system": "v2",
            "trials": name,
            "title": f"{name} list",
            "corpus": "mini",
            "set": name,
        }
        assert result["synthetic"] is True
        assert result["weights_sha256"] == "hash0"
        assert (result["targets"], result["nontargets"]) == (trials.targets, trials.nontargets)
        # The file has six decimals, the result was measured before they were cut.
        eer, threshold = equal_error_rate(scores, trials.labels)
        assert result["eer"] == pytest.approx(100 * eer, abs=0.1)
        assert result["eer_threshold"] == pytest.approx(threshold, abs=1e-3)
        for prior in ("0.01", "0.05"):
            value, _ = min_dcf(scores, trials.labels, float(prior))
            assert result["min_dcf"][prior]["value"] == pytest.approx(value, abs=0.01)
        enrol, test = (
            np.array([n.split("/")[0] for n in side]) for side in (trials.enrol, trials.test)
        )
        low, high = eer_interval(scores, trials.labels, enrol, test) or (0, 0)
        assert result["eer_interval_95"] == pytest.approx([100 * low, 100 * high], abs=0.1)
        assert low < eer < high
        histogram = result["histogram"]
        assert sum(histogram["target"]) == trials.targets
        assert sum(histogram["nontarget"]) == trials.nontargets
        assert len(histogram["edges"]) == len(histogram["target"]) + 1
        assert 2 < len(result["det"]["miss"]) == len(result["det"]["false_alarm"]) <= 200
        for plot in ("det", "scores"):
            assert (folders.student / "plots" / f"{name}_{plot}.png").stat().st_size > 1000
            assert (folders.student / "plots" / f"{name}_{plot}.svg").stat().st_size > 1000
    table = capsys.readouterr().out
    assert f"{result_of(folders.student, 'test')['eer']:.2f}" in table
    assert "Mini (synthetic)" in table


def test_nothing_is_cut_in_a_file(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    score(folders, "--fuse", folders.teacher)
    cells = cells_of(result_of(folders.student, "test_fusion"))
    fusion = f"{folders.student.parent.name}+{folders.teacher.parent.name}"
    lines = capsys.readouterr().out.splitlines()
    assert any(all(cell in line for cell in ("test", fusion, *cells)) for line in lines)


def test_embeddings_of_other_weights_are_refused(folders: Folders) -> None:
    """A system that was trained further is not scored as it was."""
    network = torch.nn.Linear(2, 2)
    save_weights(folders.teacher, network, {})
    with refused("other-weights", folders.teacher, "extract.py"):
        score(folders, "--fuse", folders.teacher)
    path = folders.teacher / "embeddings" / "test.npz"
    before = load_embeddings(path)
    save_embeddings(path, Embeddings(before.ids, before.vectors, weights_sha256(network)))
    score(folders, "--trials", "test", "--fuse", folders.teacher)


def test_few_speakers_have_no_interval(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only four in the list: its figures come without one, and with the reason."""
    path = folders.manifests / "trials" / "test.txt"
    few = {f"test{speaker:02d}" for speaker in range(4)}
    lines = [
        line
        for line in path.read_text().splitlines()
        if {name.split("/")[0] for name in line.split()[1:]} <= few
    ]
    path.write_text("\n".join(lines) + "\n")
    score(folders, "--trials", "test", "--fuse", folders.teacher)
    for name in ("test", "test_fusion"):
        assert result_of(folders.student, name)["eer_interval_95"] is None
    assert "no 95 % interval" in capsys.readouterr().out


def test_fusion_is_the_mean(folders: Folders) -> None:
    """The teacher's embeddings are scored too; all is written to the student's folder."""
    score(folders, "--trials", "test", "--fuse", folders.teacher)
    assert not (folders.student / "results" / "valid.json").exists()
    assert [path.name for path in folders.teacher.iterdir()] == ["embeddings"]
    main([str(folders.teacher), "--manifests", str(folders.manifests), "--trials", "test"])
    student, teacher, fusion = (
        score_column(path)
        for path in (
            folders.student / "scores" / "test.txt",
            folders.teacher / "scores" / "test.txt",
            folders.student / "scores" / "test_fusion.txt",
        )
    )
    np.testing.assert_allclose(fusion, (student + teacher) / 2, atol=2e-6)
    result = result_of(folders.student, "test_fusion")
    assert (result["system"], result["trials"]) == ("v2+teacher", "test")
    assert result["weights_sha256"] == "hash0+hash1"
    # Two systems with errors of their own are better together.
    alone = [result_of(folder, "test")["eer"] for folder in (folders.student, folders.teacher)]
    assert result["eer"] < min(alone)
    for plot in ("test_fusion_det", "test_fusion_scores"):
        for ending in ("png", "svg"):
            assert (folders.student / "plots" / f"{plot}.{ending}").is_file()


def test_the_difference_has_the_interval_of_the_same_speakers(folders: Folders) -> None:
    """A system less itself is nothing; less another, what the two results say."""
    score(folders, "--trials", "test", "--fuse", folders.student)
    own = result_of(folders.student, "test_fusion")["difference"]
    assert own == {"eer": 0.0, "interval_95": [0.0, 0.0]}
    score(folders, "--trials", "test", "--fuse", folders.teacher)
    main([str(folders.teacher), "--manifests", str(folders.manifests), "--trials", "test"])
    eers = [result_of(folder, "test")["eer"] for folder in (folders.student, folders.teacher)]
    difference = result_of(folders.student, "test_fusion")["difference"]
    assert difference["eer"] == pytest.approx(eers[0] - eers[1])
    low, high = difference["interval_95"]
    assert low < difference["eer"] < high


def test_the_teacher_enrols_and_the_student_verifies(folders: Folders) -> None:
    score(folders, "--trials", "test", "--enrol_with", folders.teacher)
    result = result_of(folders.student, "test_enrolled")
    assert result["system"] == "v2, teacher enrols"
    assert result["weights_sha256"] == "hash0+hash1"
    trials = read_trials(folders.manifests / "trials" / "test.txt")
    vectors = []
    for folder in (folders.teacher, folders.student):
        found = load_embeddings(folder / "embeddings" / "test.npz")
        vectors.append(dict(zip(found.ids, found.vectors, strict=True)))
    scores = score_column(folders.student / "scores" / "test_enrolled.txt")
    for index in (0, 7, len(trials) - 1):
        enrol = vectors[0][trials.names[trials.enrol_index[index]]]
        test = vectors[1][trials.names[trials.test_index[index]]]
        expected = enrol @ test / np.linalg.norm(enrol) / np.linalg.norm(test)
        assert scores[index] == pytest.approx(expected, abs=2e-6)


def test_what_is_not_asked_for_again_is_removed(folders: Folders) -> None:
    """It would be of weights of an earlier training."""
    both = ("--fuse", folders.teacher, "--enrol_with", folders.teacher)
    score(folders, *both)
    files = {path for path in folders.student.rglob("*") if path.is_file()}
    score(folders, "--fuse", folders.teacher, "--trials", "test")
    left = {path for path in folders.student.rglob("*") if path.is_file()}
    assert {path.name for path in files - left} == {
        "test_enrolled.json",
        "test_enrolled.txt",
        *(
            f"test_enrolled_{plot}.{kind}"
            for plot in ("det", "scores", "reliability")
            for kind in ("png", "svg")
        ),
    }
    score(folders)
    assert {path.stem for path in (folders.student / "results").iterdir()} == {"valid", "test"}


def test_an_enroller_of_another_size_is_refused(folders: Folders) -> None:
    path = folders.teacher / "embeddings" / "test.npz"
    found = load_embeddings(path)
    save_embeddings(path, Embeddings(list(found.ids), found.vectors[:, :8].copy(), "hash1"))
    with refused("other-network", folders.student, folders.teacher, "8 numbers", "16"):
        score(folders, "--trials", "test", "--enrol_with", folders.teacher)
    assert not (folders.student / "results" / "test_enrolled.json").exists()


def test_models_of_several_utterances(folders: Folders) -> None:
    """The mean of a model's embeddings is scored; its speaker is that of its utterances."""
    manifests, lines, models = folders.manifests, [], {}
    for model in range(SPEAKERS):
        own = f"test{model:02d}"
        models[f"m{model}"] = (f"{own}/s0/0", f"{own}/s1/1", f"{own}/s0/2")
        for speaker in range(SPEAKERS):
            for name in (f"test{speaker:02d}/s1/3", f"test{speaker:02d}/s0/4"):
                lines.append(f"{int(speaker == model)} m{model} {name}")
    (manifests / "trials" / "test.txt").write_text("\n".join(lines) + "\n")
    write_enrolment(manifests / "enrolment" / "test.txt", models)
    entry = {"name": "test", "title": "t", "set": "test", "file": "trials/test.txt"}
    write_manifest(folders, [{**entry, "enrolment": "enrolment/test.txt"}])
    score(folders, "--fuse", folders.teacher)
    embeddings = load_embeddings(folders.student / "embeddings" / "test.npz")
    vector = dict(zip(embeddings.ids, embeddings.vectors, strict=True))
    expected = []
    for _, enrolled, name in (line.split() for line in lines):
        mean = np.mean([vector[each] for each in models[enrolled]], axis=0)
        norms = np.linalg.norm(mean) * np.linalg.norm(vector[name])
        expected.append(mean @ vector[name] / norms)
    scores = np.loadtxt(folders.student / "scores" / "test.txt", usecols=3)
    np.testing.assert_allclose(scores, expected, atol=2e-6)
    labels = np.array([line[0] == "1" for line in lines])
    sides = np.array([(line.split()[1][1:], line.split()[2][4:6]) for line in lines]).astype(int)
    interval = eer_interval(scores, labels, *sides.T)
    assert interval is not None
    found = result_of(folders.student, "test")
    assert found["eer_interval_95"] == pytest.approx([100 * bound for bound in interval], abs=0.2)
    write_enrolment(manifests / "enrolment" / "test.txt", {**models, "m1": ("x", "test01/s0/0")})
    with refused("unknown-utterance", "1 ", "test.csv", " x;"):
        score(folders)


def test_again_is_the_same(folders: Folders) -> None:
    """A finished stage can be run again and gives the same bytes."""
    contents = []
    for _ in range(2):
        score(folders, "--trials", "test")
        files = sorted(path for path in folders.student.rglob("test*") if path.is_file())
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]


def test_errors_are_one_sentence(folders: Folders) -> None:
    """The command ends with status 1, one line, no traceback, and says what to run first."""
    (folders.student / "embeddings" / "test.npz").unlink()
    done = subprocess.run(
        [sys.executable, str(RECIPE / "score.py"), str(folders.student)]
        + ["--manifests", str(folders.manifests), "--trials", "test"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    command = f"python extract.py {folders.student} --manifests {folders.manifests} --sets test"
    assert "(stage 4)" in done.stderr and command in done.stderr


def test_missing_folders_and_lists(folders: Folders) -> None:
    """What is not there is named, with the step that makes it."""
    with refused("unknown-name", "--trials dev", "valid, test"):
        score(folders, "--trials", "dev")
    with refused("missing-folder", folders.teacher / "nowhere"):
        score(folders, "--fuse", folders.teacher / "nowhere")
    (folders.teacher / "embeddings" / "valid.npz").unlink()
    with refused("earlier-stage", "teacher/seed_1/embeddings/valid.npz", "extract.py"):
        score(folders, "--fuse", folders.teacher)
    (folders.manifests / "test.csv").unlink()
    with refused("earlier-stage", "test.csv", "stage 1"):
        score(folders, "--trials", "test")
    (folders.manifests / "manifest.json").write_text("{}", encoding="utf-8")
    with refused("damaged-file", "manifest.json", "'trials'", "stage 1"):
        score(folders)
    write_manifest(folders, [])
    with refused("no-trials", "manifest.json"):
        score(folders)
    (folders.manifests / "manifest.json").unlink()
    with refused("earlier-stage", "manifest.json", "stage 1"):
        score(folders)


@pytest.mark.parametrize(
    ("text", "code", "facts"),
    [
        ("1 test00/s0/0 test00/s1/1\n", "one-sided-trials", ("non-target",)),
        (
            "1 test00/s0/0 a\n0 test00/s0/0 b\n",
            "unknown-utterance",
            ("2 ", "test.csv", "a, b;"),
        ),
        (
            "0 test00/s0/0 test00/s1/1\n1 test00/s0/0 test00/s0/2\n",
            "one-sided-trials",
            ("test00",),
        ),
        ("test00/s0/0 test00/s1/1\n", "bad-line", (":1:",)),
    ],
)
def test_lists_that_cannot_be_scored(
    folders: Folders, text: str, code: str, facts: tuple[str, ...]
) -> None:
    """Nothing is written for a list that is wrong."""
    path = folders.manifests / "trials" / "test.txt"
    path.write_text(text, encoding="utf-8")
    with refused(code, path, *facts):
        score(folders, "--trials", "test")
    assert [found.name for found in folders.student.iterdir()] == ["embeddings"]


def test_embeddings_that_do_not_fit_the_list(folders: Folders) -> None:
    """Embeddings made before the manifests grew lack utterances: counted, five named."""
    path = folders.student / "embeddings" / "test.npz"
    ids = ids_of("test")[10:]
    save_embeddings(path, Embeddings(ids, np.ones((len(ids), 4), dtype=np.float32), ""))
    with refused("missing-embedding", "10 ", "test00/s0/0, test00/s1/1, ", ", …;"):
        score(folders, "--trials", "test")


def test_what_embed_py_wrote_is_scored(folders: Folders, tmp_path: Path) -> None:
    """One file for all sets; the system is the one whose model made it."""
    score(folders, "--trials", "test")
    expected = (folders.student / "scores" / "test.txt").read_text()
    kept = load_embeddings(folders.student / "embeddings" / "test.npz")
    order = np.random.default_rng(0).permutation(len(kept))
    out = tmp_path / "embeddings" / "recordings"
    facts = {"model": str(folders.student / "export"), "view": "full"}
    ids = [kept.ids[row] for row in order]
    save_embeddings(out / TOGETHER, Embeddings(ids, kept.vectors[order], "0f3a", facts))
    main([str(out), "--manifests", str(folders.manifests), "--trials", "test"])
    assert (out / "scores" / "test.txt").read_text() == expected
    result = result_of(out, "test")
    assert (result["system"], result["weights_sha256"]) == ("v2", "0f3a")
    score(folders, "--trials", "test", "--fuse", out)
    assert result_of(folders.student, "test_fusion")["system"] == "v2+v2"


@pytest.mark.parametrize("fused", [False, True])
def test_what_embed_py_wrote_has_not_every_set(
    fused: bool, folders: Folders, tmp_path: Path
) -> None:
    """Without --trials that is told before any list is scored, with the lists that can be."""
    out = tmp_path / "embeddings" / "recordings"
    vectors = np.ones((len(ids_of("test")), 4), dtype=np.float32)
    save_embeddings(out / TOGETHER, Embeddings(ids_of("test"), vectors, "0f3a"))
    command = ["--manifests", str(folders.manifests)]
    command = (
        [str(folders.student), *command, "--fuse", str(out)] if fused else [str(out), *command]
    )
    with refused("missing-embedding", out, "valid", "--trials test"):
        main(command)
    assert not (out / "results").exists() and not (folders.student / "results").exists()
    save_embeddings(out / TOGETHER, Embeddings(["a/b"], vectors[:1], "0f3a"))
    with refused("missing-embedding", out, "valid, test", folders.manifests):
        main(command)
    everything = [*ids_of("valid"), *ids_of("test")]
    drawn = np.random.default_rng(0).normal(size=(len(everything), 4)).astype(np.float32)
    save_embeddings(out / TOGETHER, Embeddings(everything, drawn, "0f3a"))
    main([str(out), "--manifests", str(folders.manifests)])
    assert result_of(out, "valid") and result_of(out, "test")
