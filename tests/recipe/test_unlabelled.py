"""Students of speech without labels: what they learn, alone and beside labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr

from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.experiment import load_encoder
from speechbrain_ext.training.brain import SpeakerBrain
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe import tiny
from tests.recipe.experiments import make_experiment
from tests.recipe.test_prepare_manifests import rows
from tests.recipe.test_unlabelled_speech import stage_1
from tests.recipe.tiny import RECIPE, STUDENT, TEACHER
from tests.refusals import refused


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests without labels in ``blind``, with some in ``mixed``; an untrained teacher."""
    root = tmp_path_factory.mktemp("unlabelled")
    tones = tiny.make_corpus(root / "tones")
    stage_1(root / "blind", "--unlabelled", tones / "train", "--valid_files", 6)
    sources = ["--train", tones / "train", "--unlabelled", tones / "valid"]
    stage_1(root / "mixed", *sources, "--valid_speakers", 2)
    make_experiment(root / "teacher", "teacher")
    return root


@pytest.fixture
def in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(RECIPE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def arguments(
    place: Path, corpus: str, folder: Path, *more: Any, yaml: str = "v2_unlabelled.yaml"
) -> list[str]:
    options = [f"hparams/{yaml}", *STUDENT[1:], "--corpus_dir", place / corpus]
    options += ["--teacher_folder", place / "teacher", "--lin_neurons", 8]
    return [*map(str, [*options, "--output_folder", folder, *more])]


def distil(*given: Any, brain: type[SpeakerBrain] = DistillBrain, **named: Any) -> None:
    run_training(brain, arguments(*given, **named))


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "save" / "embedding_model.safetensors")


@pytest.mark.slow
def test_a_student_learns_from_its_teacher_alone(
    place: Path, tmp_path: Path, in_the_recipe: None
) -> None:
    """No classifier anywhere; the best epoch is the one whose scores rank as the teacher's do."""
    folder = tmp_path / "exp"
    distil(place, "blind", folder, "--number_of_epochs", 3)
    lines = log_of(folder)
    for line in lines:
        train, valid = line["train"], line["valid"]
        assert train["loss"] == pytest.approx(train["distillation"]) and train["share"] == 1
        assert not {"classification", "accuracy"} & train.keys() and "eer" not in valid
        assert -1 <= valid["rank_correlation"] <= 1 and 0 <= valid["agreement"] <= 1
        assert 0 <= valid["halves_eer"] <= 100
    assert not list(folder.glob("save/classifier*")) and not list(folder.glob("save/label*"))
    checkpoints = list(folder.glob("save/CKPT*"))
    assert checkpoints and not [p for c in checkpoints for p in c.glob("classifier*")]
    best = max(lines, key=lambda line: (line["valid"]["rank_correlation"], line["epoch"]))
    metadata = load_metadata(folder)
    assert json.loads(metadata["epochs"]) == [best["epoch"]] and "valid_eer" not in metadata
    # What is logged is what the exported weights give.
    own, theirs = (scores_of(load_encoder(each), place) for each in (folder, place / "teacher"))
    found = spearmanr(own, theirs).statistic
    assert found == pytest.approx(best["valid"]["rank_correlation"], abs=0.02)
    facts = write_model_folder(folder, folder / "export")
    assert facts["speakers"] == 0
    assert "classifier" not in (folder / "export/hyperparams.yaml").read_text()


@pytest.mark.slow
def test_it_chooses_by_its_teacher_beside_labels_too(
    place: Path, tmp_path: Path, in_the_recipe: None
) -> None:
    """Held-out speakers are known; their EER is logged by its name, and chooses nothing."""
    folder = tmp_path / "exp"
    distil(place, "mixed", folder, "--number_of_epochs", 3)
    lines = log_of(folder)
    assert all({"eer", "rank_correlation"} <= line["valid"].keys() for line in lines)
    best = max(lines, key=lambda line: (line["valid"]["rank_correlation"], line["epoch"]))
    assert json.loads(load_metadata(folder)["epochs"]) == [best["epoch"]]
    kept = [path.read_text() for path in folder.glob("save/CKPT*/CKPT.yaml")]
    assert kept and all("rank_correlation:" in meta and "eer:" not in meta for meta in kept)


def load_metadata(folder: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(folder / "save" / "embedding_model.safetensors", "pt") as file:
        return file.metadata()


def scores_of(encoder: Any, place: Path) -> list[float]:
    """Cosines of the validation trials, each half embedded by itself."""
    unit = {}
    for row in rows(place / "blind", "valid"):
        wav, _ = soundfile.read(row["wav"], dtype="float32")
        half = torch.from_numpy(wav[int(row["start"]) : int(row["stop"])])
        with torch.no_grad():
            unit[row["ID"]] = torch.nn.functional.normalize(encoder(half[None])[0, 0], dim=0)
    lines = (place / "blind/manifests/trials/valid.txt").read_text().splitlines()
    return [float(unit[one] @ unit[other]) for _, one, other in map(str.split, lines)]


@pytest.mark.slow
def test_scores_and_the_report_are_as_ever(place: Path, tmp_path: Path) -> None:
    """The halves are what is scored, and each file stands for a speaker."""
    student, teacher = tmp_path / "student", place / "teacher"
    done = tiny.run("train_distill.py", *arguments(place, "blind", student))
    assert done.returncode == 0, done.stderr
    manifests = ("--manifests", place / "blind" / "manifests")
    for command in (
        ("extract.py", teacher, *manifests, "--device", "cpu"),
        ("extract.py", student, *manifests, "--device", "cpu"),
        ("score.py", teacher, *manifests),
        ("score.py", student, *manifests, "--fuse", teacher),
        ("report.py", student, *manifests, "--teacher", teacher),
    ):
        done = tiny.run(*map(str, command))
        assert done.returncode == 0, f"{command}: {done.stderr}"
    scored = (student / "scores" / "valid.txt").read_text().splitlines()
    own = [float(line.split()[-1]) for line in scored]
    assert own == pytest.approx(scores_of(load_encoder(student), place), abs=1e-4)
    best = max(log_of(student), key=lambda line: line["valid"]["rank_correlation"])
    rank = best["valid"]["rank_correlation"]
    results = (student / "RESULTS.md").read_text()
    assert f"| best valid rank correlation | – | {rank:.3f} (epoch {best['epoch']}) |" in results
    assert "| AAM margin, scale | 0.2, 30 | – |" in results
    assert "18 utterances (18 without)" in results
    assert "halves of held-out files" in (student / "report.html").read_text()


@pytest.mark.slow
def test_stopped_and_run_again_it_ends_the_same(
    place: Path, tmp_path: Path, in_the_recipe: None
) -> None:
    """Also as a mean of the checkpoints that rank best."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    mean = ("--average_checkpoints", 2)
    distil(place, "blind", whole, "--number_of_epochs", 3, *mean)
    distil(place, "blind", stopped, "--number_of_epochs", 1, *mean)
    distil(place, "blind", stopped, "--number_of_epochs", 3, *mean)
    assert all(torch.equal(v, weights_of(stopped)[k]) for k, v in weights_of(whole).items())
    ranks = [line["valid"]["rank_correlation"] for line in log_of(whole)]
    assert ranks == [line["valid"]["rank_correlation"] for line in log_of(stopped)]
    order = sorted(range(3), key=lambda n: (ranks[n], n), reverse=True)[:2]
    assert json.loads(load_metadata(whole)["epochs"]) == [n + 1 for n in order]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--mixup", 0.5, "--speeds", "[1.0, 0.9]")])
def test_labels_and_none_mix_in_one_training(
    place: Path, tmp_path: Path, in_the_recipe: None, more: tuple[Any, ...]
) -> None:
    """Some batches have no label; the EER of held-out speakers selects, the teacher is followed."""
    distil(place, "mixed", tmp_path / "exp", "--batch_size", 2, *more, yaml="v2.yaml")
    for line in log_of(tmp_path / "exp"):
        train, valid = line["train"], line["valid"]
        assert train["nonfinite"] == 0 and 0 <= train["accuracy"] <= 1
        assert train["utterances"] == (64 if more else 32)
        expected = 0.3 * train["classification"] + 0.7 * train["distillation"]
        assert train["loss"] == pytest.approx(expected, rel=1e-5)
        assert {"eer", "rank_correlation", "agreement"} <= valid.keys()
    weights = load_file(tmp_path / "exp" / "save" / "classifier.safetensors")
    assert len(weights["weight"]) == (8 if more else 4)


@pytest.mark.slow
def test_the_loss_of_the_labelled_is_that_of_them_alone(
    place: Path, tmp_path: Path, in_the_recipe: None
) -> None:
    class Watched(DistillBrain):
        def classification_loss(self, forward: Any, batch: Any) -> torch.Tensor:
            loss = super().classification_loss(forward, batch)
            labels = batch.spk_id_encoded.data
            known = labels.squeeze(1) >= 0
            kinds.add((bool(known.any()), bool(known.all())))
            if known.any():
                alone = self.hparams.compute_cost(forward.logits[known], labels[known])
                torch.testing.assert_close(loss, alone)
            else:
                assert float(loss.detach()) == 0
                (gradient,) = torch.autograd.grad(
                    loss, self.hparams.classifier.weight, retain_graph=True
                )
                assert not gradient.any()
            return loss

    kinds: set[tuple[bool, bool]] = set()
    more = ("--batch_size", 2, "--number_of_epochs", 3)
    distil(place, "mixed", tmp_path / "exp", *more, yaml="v2.yaml", brain=Watched)
    assert kinds == {(True, True), (True, False), (False, False)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "yaml"), [("mixed", "v2.yaml"), ("blind", "v2_unlabelled.yaml")]
)
def test_two_processes_end_where_one_does(
    place: Path, tmp_path: Path, corpus: str, yaml: str
) -> None:
    """Although the labels of a batch fall to them unevenly."""
    for name, more, processes in (
        ("one", (), 1),
        ("two", ("--batch_size", 4, "--distributed_backend", "gloo"), 2),
    ):
        given = arguments(place, corpus, tmp_path / name, "--dropout", 0, *more, yaml=yaml)
        done = tiny.run("train_distill.py", *given, processes=processes)
        assert done.returncode == 0, done.stderr
    for alone, both in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert both["train"]["loss"] == pytest.approx(alone["train"]["loss"], rel=1e-3)
        assert both["train"].get("accuracy") == alone["train"].get("accuracy")
        ranks = [line["valid"]["rank_correlation"] for line in (both, alone)]
        assert ranks[0] == pytest.approx(ranks[1], abs=0.05)


@pytest.mark.slow
def test_what_learns_from_labels_alone_hears_the_labelled_alone(
    place: Path, tmp_path: Path, in_the_recipe: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TEACHER, "--corpus_dir", place / "mixed", "--output_folder", tmp_path / "exp"]
    run_training(TeacherBrain, [*map(str, words), "--number_of_epochs", "1"])
    (line,) = log_of(tmp_path / "exp")
    assert line["train"]["utterances"] == 16 and "rank_correlation" not in line["valid"]
    assert "16 utterances without a label" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "yaml", "more", "told"),
    [
        ("blind", "v2.yaml", [], ("no-labels", "train.csv", "classifier", "null", "--alpha 1")),
        ("blind", "v2.yaml", ["--alpha", 1], ("no-labels", "train.csv", "classifier", "null")),
        ("blind", "v2_no_kd.yaml", [], ("no-labels", "train.csv", "--teacher_model")),
        ("mixed", "v2_unlabelled.yaml", ["--alpha", 0.6], ("bad-setting", "0.6", "leave 0.4 of")),
        (
            "blind",
            "v2_reconstruction.yaml",
            ["--classifier", "null", "--alpha", 1],
            ("bad-setting", "alpha 1 ", "term_weights", "0.8 or less"),
        ),
        (
            "mixed",
            "v2_balanced.yaml",
            ["--classifier", "null"],
            ("bad-setting", "classifier is null", "0.05"),
        ),
        (
            "mixed",
            "v2_no_kd.yaml",
            ["--classifier", "null"],
            ("bad-setting", "classifier is null", "leave 1 of"),
        ),
        (
            "mixed",
            "v2_unlabelled.yaml",
            ["--freeze_classifier", True],
            ("bad-setting", "classifier is null", "freeze_classifier"),
        ),
        ("blind", "v2_unlabelled.yaml", ["--teacher", "null"], ("no-teacher", "teacher is null")),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    place: Path,
    tmp_path: Path,
    in_the_recipe: None,
    corpus: str,
    yaml: str,
    more: list[Any],
    told: tuple[str, ...],
) -> None:
    with refused(*told):
        distil(place, corpus, tmp_path / "exp", *more, yaml=yaml)
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


@pytest.mark.slow
def test_a_teacher_that_is_trained_needs_labels_and_a_classifier(
    place: Path, tmp_path: Path, in_the_recipe: None
) -> None:
    for corpus, more, told in (
        ("blind", [], ("no-labels", "train.csv")),
        ("mixed", ["--classifier", "null"], ("bad-setting", "classifier is null")),
    ):
        words = [*TEACHER, "--corpus_dir", place / corpus, "--output_folder", tmp_path / "exp"]
        with refused(*told):
            run_training(TeacherBrain, [*map(str, words), *more])


@pytest.mark.slow
def test_begins_with_weights_without_a_classifier(
    place: Path, tmp_path: Path, in_the_recipe: None
) -> None:
    """From a student that has one, and to a student that has one from one that has none."""
    labelled, blind, again = (tmp_path / name for name in ("labelled", "blind", "again"))
    once = ("--number_of_epochs", 1, "--lr", 1e-12)
    distil(place, "mixed", labelled, *once, yaml="v2.yaml")
    distil(place, "blind", blind, *once, "--start_from", labelled)
    distil(place, "mixed", again, *once, "--start_from", blind, yaml="v2.yaml")
    first, *others = (weights_of(folder)["fc.weight"] for folder in (labelled, blind, again))
    assert all(torch.allclose(first, other, atol=1e-6) for other in others)
    assert (again / "save" / "classifier.safetensors").is_file()


@pytest.mark.slow
def test_a_teacher_that_gives_no_number_is_one_sentence(
    place: Path, tmp_path: Path, in_the_recipe: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(self: Any, wavs: torch.Tensor, lengths: Any = None) -> torch.Tensor:
        return torch.full((len(wavs), 8), torch.nan)

    monkeypatch.setattr("speechbrain_ext.distill.teacher.FrozenTeacher.embed", embed)
    with refused("bad-model", "teacher", "valid.csv"):
        distil(place, "blind", tmp_path / "exp")
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


@pytest.mark.slow
def test_a_student_of_whole_utterances(place: Path, tmp_path: Path, in_the_recipe: None) -> None:
    """A cached teacher embeds the halves, of which its file knows nothing, before that is made."""
    more = ("--teacher_cache", tmp_path / "cache.npz", "--classifier", "null", "--alpha", 1)
    distil(place, "blind", tmp_path / "exp", *more, yaml="v2_cached.yaml")
    assert all("rank_correlation" in line["valid"] for line in log_of(tmp_path / "exp"))


@pytest.mark.slow
@pytest.mark.parametrize("yaml", ["v3.yaml", "v2_label.yaml"])
def test_means_of_speakers_are_of_the_labelled(
    place: Path, tmp_path: Path, in_the_recipe: None, yaml: str
) -> None:
    given = ("--number_of_epochs", 1, "--batch_size", 4)
    distil(place, "mixed", tmp_path / "exp", *given, yaml=yaml)
    assert log_of(tmp_path / "exp")[0]["train"]["nonfinite"] == 0
    with open(place / "mixed/manifests/train.csv", newline="") as file:
        speakers = {row["spk_id"] for row in csv.DictReader(file)} - {""}
    weights = load_file(tmp_path / "exp" / "save" / "classifier.safetensors")["weight"]
    assert len(weights) == len(speakers) == 4
