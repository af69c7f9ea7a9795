"""run.sh: its options and the order of its steps, with every step replaced by a stub."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from tests.processes import HANG
from tests.recipe.stubbed_run_sh import (
    DESCRIBE,
    FLOW,
    LARGE_MARGIN,
    RECIPE,
    ROOT,
    Recipe,
    script_names,
)


def test_help_explains_every_option(recipe: Recipe) -> None:
    done = recipe.run("--help")
    defaults = (ROOT / RECIPE / "run.sh").read_text().partition("# End of options.")[0]
    lines = [line for line in defaults.splitlines() if line[:1].islower() and "=" in line]
    names = [line.partition("=")[0] for line in lines]
    assert done.returncode == 0 and "stop_stage" in names
    for name in names:
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"  --{name} "))
        assert len(line.split()) > 2, f"--{name} is not explained"
    assert "[hparams/v2.yaml]" in done.stdout
    assert recipe.calls() == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--no_such_option", "3"], "--no_such_option"),
        (["--PATH", "/"], "--PATH"),
        (["stage", "3"], "'stage'"),
        (["--stage"], "--stage"),
        (["--stage", "7"], "--stage 7"),
        (["--stage", "3", "--stop_stage", "2"], "--stop_stage 2"),
        (["--seed", "-1"], "--seed"),
        (["--allow_overlap", "perhaps"], "'perhaps'"),
        (["--score_norm", "znorm"], "--score_norm znorm"),
        (["--calibration", "score age"], "--calibration 'score age'"),
        (["--calibration", "none score"], "--calibration 'none score'"),
        (["--calibration", ""], "--calibration ''"),
        (["--corpus", "minni"], "'minni'"),
        (["--corpus", "minni"], "choose mini or voxceleb"),
        (["--corpus", "tree"], "'tree'"),
        (["--voxceleb1", "."], "--voxceleb1"),
        (["--data", ".", "--name", "x", "--sessions=3"], "--sessions"),
        (["--name", "x", "--stage", "2", "--sessions", "3"], "--sessions"),
        (["--data", ".", "--name", "mini"], "mini"),
        (["--data", "nowhere"], "nowhere"),
        (["--unlabelled", "nowhere"], "nowhere"),
        (["--unlabelled", "."], "--teacher_model"),
        (["--unlabelled", ".", "--student", "hparams/ssl/sv_mixer.yaml"], "ssl/sv_mixer.yaml"),
        (["--unlabelled", ".", "--name", "mini", "--teacher_model", "campplus"], "mini"),
        (["--unlabelled", ".", "--corpus", "minni"], "'minni'"),
        (["--student", "hparams/v3.yaml"], "hparams/v3.yaml"),
        (["--teacher_source", "some/wavlm"], "hparams/v2.yaml"),
        (["--large_margin", "hparams/no.yaml"], "hparams/no.yaml: there is no such file"),
        (["--large_margin", "hparams/outside.yaml"], "hparams/outside.yaml has no line"),
        (["--large_margin_args", "--margin 0.4"], "--large_margin_args"),
        ([*LARGE_MARGIN, "--large_margin_args", "--margin '0.5"], "--margin '0.5"),
        ([*LARGE_MARGIN, "--large_margin_args", "--includes [a.yaml]"], "--includes"),
        (["--large_margin", "hparams/v2.yaml"], "exp/mini/v2/seed_1, where the student is"),
        (["--student", "hparams/ssl/sv_mixer.yaml", "--teacher_exp", "a"], "--teacher_exp"),
        (["--student", "hparams/ssl/sv_mixer.yaml", "--teacher_source", "./no"], "./no"),
        (["--offline", "maybe"], "'maybe'"),
        (["--teacher_model", "campplus", "--teacher_exp", "."], "--teacher_exp"),
        (
            ["--teacher_model", "campplus", "--student", "hparams/ssl/chosen.yaml"],
            "--teacher_model",
        ),
        (["--teacher_model", "camplus"], "camplus: there is no such model"),
        (["--teacher_model", "campplus", "--teacher_args", "--framwork x"], "'framwork'"),
        (
            ["--unlabelled", ".", "--teacher_model", "campplus", *LARGE_MARGIN],
            "a margin needs labels",
        ),
        (["--name", "x", "--unlabelled", ".", "--corpus", "mini"], "leave one of both options out"),
        (["--trials", "no.txt"], "no.txt: there is no such file"),
        (["--data", ".", "--name", "x", "--trials", "run.sh"], "--trials_root"),
        (["--data", ".", "--name", "x", "--trials_root", "."], "--trials_root needs --trials"),
        (["--exclude_speakers", "no.txt"], "--exclude_speakers"),
        (["--enrol", "no.map"], "--enrol"),
        (["--speaker_groups", "no.txt"], "--speaker_groups"),
        (["--name", ""], "--name"),
        (["--name", "x"], "--name x names the speech of --data"),
        (["--name", "x", "--corpus", "voxceleb"], "--name x names the speech of --data"),
        (["--data", "/"], "--name"),
        (["--data", ".", "--name", "../../zz"], "'../../zz'"),
        (["--data", ".", "--name", ".."], "'..'"),
        (["--data", ".", "--corpus", "a/b"], "'a/b'"),
        (["--name", "-x"], "'-x'"),
        (["--corpus", ""], "--name"),
        (["--student", "hparams/outside.yaml"], "hparams/outside.yaml"),
        (["--manifest_args", "--valid_speakers '5"], "--valid_speakers '5"),
        (["--exp_root", "run.sh"], "--exp_root"),
        (["--data_root", "run.sh"], "--data_root"),
    ],
)
def test_a_wrong_option_is_one_sentence(recipe: Recipe, options: list[str], named: str) -> None:
    done = recipe.run(*options)
    assert done.returncode != 0
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert named in done.stderr
    assert recipe.calls() == []


def test_nothing_is_written_outside_of_the_places_for_it(recipe: Recipe) -> None:
    before = sorted(recipe.root.rglob("*"))
    for name in ("..", "../..", "a/b", ".", "-a", "a\nb"):
        assert recipe.run("--data", ".", "--name", name).returncode == 1
    assert sorted(recipe.root.rglob("*")) == before


@pytest.mark.parametrize("data", [".", "..", "./../speech é #1/", "sub/.."])
def test_a_corpus_is_named_as_its_folder_is(recipe: Recipe, data: str) -> None:
    """However its path is written."""
    speech = recipe.root / "speech é #1"
    (speech / "sub").mkdir(parents=True)
    cwd = speech / "sub" if data == ".." else speech
    done = recipe.run("--data", data, "--stop_stage", "0", cwd=cwd)
    assert done.returncode == 0, done.stderr
    (call,) = recipe.calls()
    assert f"own --out data/speech é #1 --jobs {os.cpu_count()} --data {speech}" in call


def test_places_outside_of_the_repository(recipe: Recipe) -> None:
    """Where nothing can be written beside the script; every stage goes by them."""
    data, exp = recipe.root / "corpora", recipe.root / "my experiments"
    done = recipe.run("--data_root", "corpora", "--exp_root", str(exp))
    assert done.returncode == 0, done.stderr + done.stdout
    calls = recipe.calls()
    assert script_names(calls) == FLOW
    assert all(f"{data}/mini" in call or f"{exp}/mini" in call for call in calls)
    assert not any(" data/" in call or " exp/" in call for call in calls)
    assert not (recipe.folder / "data").exists() and not (recipe.folder / "exp").exists()
    assert (exp / "mini/log/stage_6.log").is_file()


@pytest.mark.parametrize("option", ["data_root", "exp_root"])
def test_a_place_that_cannot_be_written_is_a_sentence(recipe: Recipe, option: str) -> None:
    (recipe.folder / option.removesuffix("_root")).touch()  # a file where the folder is to be
    done = recipe.run()
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "cannot be made" in done.stderr and f"with --{option}." in done.stderr
    assert recipe.calls() == []


@pytest.mark.parametrize(
    ("formats", "given"),
    [("", ""), ("none", " --formats none"), ("onnx fp16", " --formats onnx fp16")],
)
def test_formats_of_the_export(recipe: Recipe, formats: str, given: str) -> None:
    assert recipe.run().returncode == 0
    done = recipe.run("--formats", formats, "--stage", "5", "--stop_stage", "5")
    assert done.returncode == 0, done.stderr
    assert recipe.calls()[-3].endswith(f"export.py exp/mini/v2/seed_1{given}")


def test_arguments_of_the_manifests(recipe: Recipe) -> None:
    done = recipe.run("--manifest_args", "--valid_speakers 5 --min_seconds 1", "--stop_stage", "1")
    assert done.returncode == 0, done.stderr
    assert recipe.calls()[-1].endswith("--valid_speakers 5 --min_seconds 1")


def test_bars_of_progress_know_the_terminal_and_logs_do_not(recipe: Recipe) -> None:
    """Python's standard error goes to the log; a terminal of run.sh's own is named to it."""
    Recipe._script(
        recipe.root / "python",
        DESCRIBE + 'echo "bars go to ${PROGRESS_TERMINAL:-nothing} $TQDM_DISABLE"\n'
        '[ ! -t 2 ] || echo "a terminal"\n',
    )
    command = ["bash", str(recipe.root / "run.sh"), "--stop_stage", "0"]
    master, terminal = pty.openpty()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, text=True, timeout=HANG)
    assert f"bars go to {os.ttyname(terminal)} 1\nStage 0: done" in done.stdout
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
    assert "bars go to nothing 1\nStage 0: done" in done.stdout
    os.close(master)
    os.close(terminal)


def test_whole_flow(recipe: Recipe) -> None:
    done = recipe.run()
    assert done.returncode == 0, done.stderr
    calls = recipe.calls()
    assert script_names(calls) == FLOW
    assert "--corpus_dir data/mini --train data/mini/dev" in calls[1]
    assert "--trials data/mini/trials/test.txt --trials_root data/mini/test" in calls[1]
    assert "--output_folder exp/mini/teacher/seed_1" in calls[2]
    assert "--teacher_folder exp/mini/teacher/seed_1 --output_folder exp/mini/v2/seed_1" in calls[3]
    assert [call.endswith(" --cohort") for call in calls[4:6]] == [True, True]
    assert calls[6].endswith("--score_norm asnorm --calibration score")
    assert calls[7].endswith(
        "--fuse exp/mini/teacher/seed_1 --score_norm asnorm --calibration score"
    )
    for stage in range(7):
        assert f"Stage {stage}: done in" in done.stdout
        assert (recipe.folder / f"exp/mini/log/stage_{stage}.log").is_file()


def test_scores_without_a_norm(recipe: Recipe) -> None:
    assert recipe.run("--score_norm", "none", "--stop_stage", "4").returncode == 0
    text = "\n".join(recipe.calls())
    assert "score.py" in text and "--cohort" not in text and "--score_norm" not in text


def test_measures_of_a_calibration(recipe: Recipe) -> None:
    """A cohort that it weighs is embedded without a norm, too."""
    options = ("--score_norm", "none", "--stage", "4", "--stop_stage", "4")
    assert recipe.run("--stop_stage", "3").returncode == 0
    recipe.calls()
    assert recipe.run("--calibration", "duration cohort", *options).returncode == 0
    calls = recipe.calls()
    assert [call.endswith(" --cohort") for call in calls[:2]] == [True, True]
    assert all(call.endswith("--calibration duration cohort") for call in calls[2:])


def test_part_of_the_flow_again(recipe: Recipe) -> None:
    assert recipe.run().returncode == 0
    recipe.calls()
    assert recipe.run("--stage", "2", "--stop-stage=4").returncode == 0
    assert script_names(recipe.calls()) == FLOW[2:8]


@pytest.mark.parametrize(("stage", "missing"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3), (6, 4)])
def test_a_stage_out_of_order_names_the_missing(recipe: Recipe, stage: int, missing: int) -> None:
    done = recipe.run("--stage", str(stage), "--stop_stage", str(stage))
    assert done.returncode != 0
    assert f"stage {missing} has not been run" in done.stdout
    assert recipe.calls() == []


@pytest.mark.parametrize("place", [None, "elsewhere"])
def test_a_failed_stage_names_its_log(recipe: Recipe, place: str | None) -> None:
    given = [] if place is None else ["--exp_root", place]
    done = recipe.run(*given, fail="train_distill.py")
    root = recipe.folder / "exp" if place is None else recipe.root / place
    log = root / "mini/log/stage_3.log"
    assert done.returncode != 0
    assert "stage 3" in done.stderr and f" {log}." in done.stderr
    assert "what went wrong" in log.read_text()
    assert script_names(recipe.calls()) == FLOW[:4]
    # The first of several commands of a stage stops it, too.
    done = recipe.run(*given, "--stage", "3", fail="mini/teacher/seed_1 --manifests")
    assert done.returncode != 0
    assert script_names(recipe.calls()) == ["train_distill.py", "extract.py"]


def test_own_data_from_another_folder(recipe: Recipe) -> None:
    speech = recipe.root / "my speech"
    (speech / "train/a/b").mkdir(parents=True)
    (speech / "train/a/b/c.wav").touch()
    (speech / "dev/d/e").mkdir(parents=True)
    (speech / "list 1.txt").touch()
    options = ["--data", "train", "--trials", "list 1.txt", "--trials_root", "dev"]
    options += ["--allow_overlap", "--teacher_args", "--lr 0.1", "--ngpu", "2"]
    done = recipe.run(*options, cwd=speech)
    assert done.returncode == 0, done.stderr + done.stdout
    calls = recipe.calls()
    assert calls[0].startswith("local/prepare_corpus.py own --out data/my speech --jobs ")
    assert calls[0].endswith(f" --data {speech}/train --trials_root {speech}/dev")
    assert "--corpus_dir data/my speech --train data/my speech/dev" in calls[1]
    trials = f"--trials {speech}/list 1.txt --trials_root data/my speech/test"
    assert f"{trials} --allow_overlap" in calls[1]
    launch = "-m speechbrain_ext.training.launch 2 train_teacher.py"
    assert calls[2].startswith(launch)
    assert calls[2].endswith("--lr 0.1")
    assert "number_of_epochs" not in calls[2]  # which is for the embedded corpus alone


def test_utterances_of_models(recipe: Recipe) -> None:
    """Their list is the caller's, and stage 1's."""
    (recipe.root / "speech").mkdir()
    for name in ("trials.lst", "enroll.map"):
        (recipe.root / name).touch()
    options = ["--data", "speech", "--trials", "trials.lst", "--trials_root", "speech"]
    done = recipe.run(*options, "--enrol", "enroll.map", "--stop_stage", "1")
    assert done.returncode == 0, done.stderr + done.stdout
    assert f" --enrol {recipe.root}/enroll.map" in recipe.calls()[-1]


def test_own_data_without_stage_0(recipe: Recipe) -> None:
    (recipe.root / "speech/a/b").mkdir(parents=True)
    part = ["--data", "speech", "--corpus", "mine", "--stage", "1", "--stop_stage", "1"]
    done = recipe.run(*part)
    assert done.returncode != 0 and "stage 0 has not been run" in done.stdout


def test_voxceleb(recipe: Recipe) -> None:
    trees = [recipe.root / "vox1", recipe.root / "vox2"]
    for tree in trees:
        tree.mkdir()
    done = recipe.run(
        *("--corpus", "voxceleb", "--voxceleb1", "vox1", "--voxceleb2", "vox2"),
        *("--stop_stage", "2", "--precision", "fp16"),
    )
    assert done.returncode == 0, done.stderr
    prepare, manifests, train = recipe.calls()
    assert f"--voxceleb1 {trees[0]} --voxceleb2 {trees[1]}" in prepare
    assert "--train data/voxceleb/dev" in manifests
    assert train.endswith("--output_folder exp/voxceleb/teacher/seed_1 --precision fp16")


@pytest.mark.parametrize("corpus", ["mini", "voxceleb"])
def test_lists_of_the_command_line_are_those_that_are_scored(recipe: Recipe, corpus: str) -> None:
    (recipe.root / "mine.txt").touch()
    done = recipe.run("--corpus", corpus, "--trials", "mine.txt", "--stop_stage", "1")
    assert done.returncode == 0, done.stderr
    assert f"--trials {recipe.root}/mine.txt --trials_root data/{corpus}/test" in recipe.calls()[1]


def test_options_of_the_corpus(recipe: Recipe) -> None:
    """They go to stage 0 as they are given."""
    given = ["--train-speakers", "30", "--corpus_seed=7", "--max_seconds", "3.5"]
    assert recipe.run(*given, "--seed", "2", "--stop_stage", "2").returncode == 0
    corpus, _, train = recipe.calls()
    assert corpus.startswith("local/prepare_corpus.py mini --out data/mini --jobs ")
    assert corpus.endswith(" --train_speakers 30 --corpus_seed 7 --max_seconds 3.5")
    assert " --seed 2" in train and "speakers" not in train
    (recipe.root / "v1").mkdir()
    options = ["--corpus", "voxceleb", "--voxceleb1_test_only", "--voxceleb1", "v1"]
    assert recipe.run(*options, "--stop_stage", "0").returncode == 0
    (corpus,) = recipe.calls()
    assert corpus.endswith(f" --voxceleb1_test_only --voxceleb1 {recipe.root}/v1")


def test_a_corpus_that_was_added(recipe: Recipe) -> None:
    """run.sh names no corpus: Python says which can be made, and their options."""
    done = recipe.run("--corpus", "letters", "--letters", "a b", "c", "--stop_stage", "2")
    assert done.returncode == 0, done.stderr
    corpus, manifests, train = recipe.calls()
    assert corpus.startswith("local/prepare_corpus.py letters --out data/letters --jobs ")
    assert corpus.endswith(" --letters a b c")
    lists = "--trials data/letters/trials/test.txt --trials_root data/letters/test"
    assert manifests.startswith("local/prepare_manifests.py") and lists in manifests
    assert "--output_folder exp/letters/teacher/seed_1" in train


def test_lists_of_stage_0_are_found_whatever_they_are_called(recipe: Recipe) -> None:
    trials = recipe.folder / "data/voxceleb/trials"
    (trials.parent / "dev").mkdir(parents=True)
    trials.mkdir()
    for name in ("hard.lst", "veri_test2.txt"):
        (trials / name).touch()
    done = recipe.run("--corpus", "voxceleb", "--stage", "1", "--stop_stage", "1")
    assert done.returncode == 0, done.stderr
    (call,) = recipe.calls()
    lists = "data/voxceleb/trials/hard.lst data/voxceleb/trials/veri_test2.txt"
    assert f"--trials {lists} --trials_root data/voxceleb/test" in call


def test_the_name_of_the_corpus(recipe: Recipe) -> None:
    (recipe.root / "speech").mkdir()
    done = recipe.run("--data", "speech", "--name", "mine", "--stop_stage", "0")
    assert done.returncode == 0, done.stderr
    (call,) = recipe.calls()
    jobs = f"--jobs {os.cpu_count()}"
    assert call.endswith(f"own --out data/mine {jobs} --data {recipe.root}/speech")


def test_a_list_of_speech(recipe: Recipe) -> None:
    (recipe.root / "lists").mkdir()
    (recipe.root / "lists/mine.csv").touch()
    done = recipe.run("--data", "lists/mine.csv", "--stop_stage", "0")
    assert done.returncode == 0, done.stderr
    (call,) = recipe.calls()
    assert "own --out data/mine " in call and f" --data {recipe.root}/lists/mine.csv" in call


def test_quotes_in_arguments_of_a_training(recipe: Recipe) -> None:
    options = ["--student_args", "--back_end '{channels: [8, 8]}' --lr 1", "--stop_stage", "3"]
    assert recipe.run(*options).returncode == 0
    assert recipe.calls()[-1].endswith("--back_end {channels: [8, 8]} --lr 1")
    calls = recipe.calls()
    for which in ("--student_args", "--teacher_args"):
        done = recipe.run(which, "--noise_folder '/data/musan --lr 1")
        assert done.returncode == 1
        assert "A quote is not closed in: " in done.stderr
        assert done.stderr.endswith("--noise_folder '/data/musan --lr 1\n")
    assert recipe.calls() == calls
