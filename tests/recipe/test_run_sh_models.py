"""run.sh: who teaches, who learns, and from which speech, with every step replaced by a stub."""

from __future__ import annotations

import pytest

from speechbrain_ext.systems.imported import model_name
from tests.recipe.stubbed_run_sh import (
    FLOW,
    LARGE_MARGIN,
    Recipe,
    script_names,
)


def test_a_teacher_that_is_there(recipe: Recipe) -> None:
    teacher = recipe.root / "mine/save"
    teacher.mkdir(parents=True)
    (teacher / "embedding_model.safetensors").touch()
    done = recipe.run("--teacher_exp", "mine", "--stop_stage", "3")
    assert done.returncode == 0, done.stderr
    calls = recipe.calls()
    assert script_names(calls) == [*FLOW[:2], "train_distill.py"]
    assert f"--teacher_folder {recipe.root}/mine" in calls[2]


@pytest.mark.parametrize("model", ["campplus", "my models/b.onnx"])
def test_a_trained_model_teaches(recipe: Recipe, model: str) -> None:
    """It comes along as an experiment, and the student's embeddings are of its size."""
    (recipe.root / "my models").mkdir()
    (recipe.root / "my models/b.onnx").touch()
    options = ["--teacher_model", model]
    if model != "campplus":
        options += ["--teacher_args", "--framework wespeaker"]
    done = recipe.run(*options, "--student_args", "--lr 0.01")
    assert done.returncode == 0, done.stderr + done.stdout
    calls = recipe.calls()
    assert script_names(calls) == [*FLOW[:2], "import_teacher.py", *FLOW[3:]]
    taken = str(recipe.root / model) if "/" in model else model
    name = model_name(taken, recipe.folder / "hparams/teachers")
    experiment = f"exp/mini/{name}/imported"
    assert calls[2].endswith(f"{taken} --out {experiment} {' '.join(options[3:])}".strip())
    extras = (recipe.root / "extras").read_text().strip()
    assert extras == ("mini" if model == "campplus" else "mini,export")  # has ONNX Runtime
    assert calls[3].startswith("train_distill.py hparams/v6.yaml --corpus_dir data/mini")
    assert f"--teacher_folder {experiment} --lin_neurons 192" in calls[3]
    assert calls[3].endswith("--lr 0.01") and f"--teacher {experiment}" in calls[-1]
    scores = [call for call in calls if call.startswith("score.py")]
    assert "--enrol_with" not in scores[0]
    assert f"--fuse {experiment} --enrol_with {experiment} " in scores[1]
    # The same experiment by its folder
    folder = recipe.folder / experiment
    (folder / "hyperparams.yaml").write_text("{licence: MIT, embedding_model: !new:a.B {}}")
    done = recipe.run("--teacher_exp", str(folder), "--stage", "3", "--stop_stage", "4")
    assert done.returncode == 0, done.stderr + done.stdout
    again = recipe.calls()
    assert again[0].startswith("train_distill.py hparams/v6.yaml --corpus_dir data/mini")
    assert f"--teacher_folder {folder} --lin_neurons 192" in again[0]
    assert f"--enrol_with {folder} " in again[-1]


def test_a_second_training_begins_with_the_student_and_takes_its_place(recipe: Recipe) -> None:
    options = [*LARGE_MARGIN, "--teacher_model", "campplus", "--student", "hparams/v2.yaml"]
    options += ["--student_args", "--alpha 0.5", "--large_margin_args", "--margin 0.4"]
    done = recipe.run(*options, "--precision", "fp16")
    assert done.returncode == 0, done.stderr + done.stdout
    calls = recipe.calls()
    scripts = [*FLOW[:2], "import_teacher.py", "train_distill.py", *FLOW[3:]]
    assert script_names(calls) == scripts
    first, second = calls[3:5]
    given = "--corpus_dir data/mini --seed 1 --teacher_folder exp/mini/campplus/imported"
    folder = "exp/mini/v2_large_margin/seed_1"
    assert f"hparams/v2.yaml {given} --lin_neurons 192 --output_folder exp/mini/v2/seed_1" in first
    assert first.endswith("--alpha 0.5 --precision fp16")
    start = f"--lin_neurons 192 --start_from exp/mini/v2/seed_1 --output_folder {folder}"
    assert f"hparams/large_margin.yaml {given} {start}" in second
    assert second.endswith("--margin 0.4 --precision fp16") and "--alpha" not in second
    assert "v2/seed_1" not in " ".join(calls[5:]) and f"report.py {folder}" in calls[-1]


def test_a_second_training_that_fails(recipe: Recipe) -> None:
    done = recipe.run(*LARGE_MARGIN, fail="train_distill.py hparams/large_margin.yaml")
    assert done.returncode != 0 and "stage 3" in done.stderr
    assert script_names(recipe.calls()) == [*FLOW[:4], "train_distill.py"]
    done = recipe.run(*LARGE_MARGIN, "--stage", "3", fail="training.second")
    assert done.returncode != 0 and recipe.calls() == []  # it is refused before the first


def test_speech_without_labels(recipe: Recipe) -> None:
    """It takes the place of labelled speech; the student then has no classifier."""
    speech = recipe.root / "my calls"
    speech.mkdir()
    options = ["--unlabelled", "my calls", "--teacher_model", "campplus"]
    done = recipe.run(*options, "--student", "hparams/v2.yaml", "--student_args", "--lr 1")
    assert done.returncode == 0, done.stderr + done.stdout
    calls = recipe.calls()
    assert script_names(calls) == [*FLOW[:2], "import_teacher.py", *FLOW[3:]]
    assert calls[0].startswith("local/prepare_corpus.py own --out data/my calls --jobs ")
    assert calls[0].endswith(f" --unlabelled {speech}")
    assert " --unlabelled data/my calls/unlabelled " in calls[1]
    assert "--train" not in calls[1]
    assert calls[3].endswith(
        "/v2/seed_1 --classifier null --alpha 1 --lr 1"
    )  # what is given in so many words wins
    done = recipe.run(*options)  # V6 has none in any case
    assert done.returncode == 0, done.stderr + done.stdout
    assert "--classifier" not in recipe.calls()[3]


@pytest.mark.parametrize(
    ("options", "kind", "name"),
    [(["--data", "speech"], "own", "speech"), (["--corpus", "mini"], "mini", "mini")],
)
def test_speech_with_and_without_labels(
    recipe: Recipe, options: list[str], kind: str, name: str
) -> None:
    for folder in ("speech", "talks"):
        (recipe.root / folder).mkdir()
    done = recipe.run(*options, "--unlabelled", "talks", "--stop_stage", "3")
    assert done.returncode == 0, done.stderr + done.stdout
    corpus, manifests, _, student = recipe.calls()
    assert f"{kind} --out data/{name} " in corpus
    assert corpus.endswith(f" --unlabelled {recipe.root}/talks")
    both = f"--train data/{name}/dev --unlabelled data/{name}/unlabelled"
    assert both in manifests and "--classifier" not in student


def test_a_student_of_a_model_that_is_taken_as_it_is(recipe: Recipe) -> None:
    """No stage looks for an experiment of the teacher; it is measured beside the student."""
    done = recipe.run("--student", "hparams/ssl/sv_mixer.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    said = "Stage 2 trains nothing: the teacher is some/wavlm, which is taken as it is."
    assert said in done.stdout.splitlines()
    calls = recipe.calls()
    scripts = ["train_distill.py", "extract.py", "score.py", "export.py"]
    scripts += ["benchmark.py", "benchmark.py"]
    assert script_names(calls) == [*FLOW[:2], *scripts, "report.py"]
    train, extract, score, _, benchmark, engines, report = calls[2:]
    exp = "exp/mini/sv_mixer/seed_1"
    assert f"--output_folder {exp} --number_of_epochs" in train
    assert "--teacher" not in train and "--lr_decay" not in train and "--offline" not in train
    assert f"extract.py {exp} --manifests" in extract and "--fuse" not in score
    assert benchmark.endswith(f"--out {exp}/results/speed.json --with_teacher {exp}")
    assert f"--out {exp}/results/engines.json {exp} --device cpu" in engines
    assert report.endswith(f"report.py {exp} --manifests data/mini/manifests")


def test_the_source_of_the_teacher(recipe: Recipe) -> None:
    """An included YAML's, one's own, a folder of the caller's, the student's arguments."""
    (recipe.root / "my models/wavlm").mkdir(parents=True)
    folder = f"{recipe.root}/my models/wavlm"
    ssl = ["--student", "hparams/ssl/smaller.yaml", "--stop_stage", "3"]
    for options, name, given in (
        ([], "other/hubert", ""),
        (["--teacher_source", "my models/wavlm"], folder, f"--teacher_source {folder} "),
        (["--teacher_source", "hub/name"], "hub/name", "--teacher_source hub/name "),
        (["--student_args", "--teacher_source a/b --lr 1"], "a/b", "--teacher_source a/b --lr 1"),
    ):
        done = recipe.run(*ssl, *options)
        assert done.returncode == 0, done.stderr + done.stdout
        assert f"the teacher is {name}, which" in done.stdout
        train = recipe.calls()[-1]
        assert "exp/mini/smaller/seed_1" in train and given in train
        assert ("--teacher_source" in train) == bool(given)


def test_a_teacher_that_a_student_chooses(recipe: Recipe) -> None:
    """In a file of its own, of several that the student's YAML builds on."""
    options = ["--student", "hparams/ssl/chosen.yaml", "--stage", "2", "--stop_stage", "2"]
    done = recipe.run(*options)
    assert done.returncode == 0, done.stderr
    assert "the teacher is an/other, which is taken as it is." in done.stdout


def test_a_student_without_a_teacher(recipe: Recipe) -> None:
    """Its YAML has a source, which its first weights come from, and no teacher."""
    options = ["--student", "hparams/ssl/no_kd.yaml", "--stage", "2", "--stop_stage", "2"]
    done = recipe.run(*options)
    assert "Stage 2 trains nothing: hparams/ssl/no_kd.yaml has no teacher." in done.stdout
    assert done.returncode == 0 and recipe.calls() == []


def test_offline(recipe: Recipe) -> None:
    """No script may ask a hub; a student's training has a key that says so as well."""
    assert recipe.run("--student", "hparams/ssl/sv_mixer.yaml", "--offline").returncode == 0
    calls = recipe.calls()
    assert all(call.startswith("offline ") for call in calls)
    assert " --offline True" in calls[2]
    options = ["--student", "hparams/ssl/aligned.yaml", "--teacher_model", "campplus"]
    assert recipe.run(*options, "--offline", "--stop_stage", "2").returncode == 0
    assert " --offline" not in recipe.calls()[-1]  # no key of a model that comes along
    assert recipe.run("--offline", "--stop_stage", "3").returncode == 0
    assert not any("--offline" in call for call in recipe.calls())


def test_a_student_of_an_experiment_that_includes_such_a_student(recipe: Recipe) -> None:
    """With a teacher_folder, a teacher is trained."""
    done = recipe.run("--student", "hparams/ssl/of_experiment.yaml", "--stop_stage", "3")
    assert done.returncode == 0, done.stderr
    assert script_names(recipe.calls()) == FLOW[:4]


def test_the_teacher_is_the_system_that_the_student_names(recipe: Recipe) -> None:
    """Of which it takes the folder; where that starts from a model, it is told which."""
    options = ["--student", "hparams/ssl/aligned.yaml", "--teacher_source", "a/b", "--offline"]
    done = recipe.run(*options, "--stop_stage", "3")
    assert done.returncode == 0, done.stderr
    teacher, student = recipe.calls()[2:4]
    assert "train_teacher.py hparams/ssl/tuned.yaml" in teacher
    assert "--output_folder exp/mini/tuned/seed_1 --teacher_source a/b --offline True" in teacher
    assert "--teacher_folder exp/mini/tuned/seed_1" in student and "a/b" not in student
    for call in (teacher, student):  # neither has the mel path's rate
        assert "--number_of_epochs 5" in call and "--lr" not in call
