"""run.sh: its options and the order of its steps, with every step replaced by a stub."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from speechbrain_ext.systems.imported import model_name
from tests.processes import HANG

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path("recipes/VoxCeleb/distill_mixer")
FLOW = [
    "prepare_corpus.py",
    "prepare_manifests.py",
    "train_teacher.py",
    "train_distill.py",
    "extract.py",
    "extract.py",
    "score.py",
    "score.py",
    "export.py",
    "benchmark.py",
    "benchmark.py",
    "report.py",
]
SSL_YAMLS = {
    "outside.yaml": "system: ../../outside\n",
    "shared/base.yaml": "lr: 0.001\n",
    "large_margin.yaml": "!include:v2.yaml\nsystem: v2_large_margin\n",
    "shared/ssl.yaml": "!include:base.yaml\n# Words.\nteacher_source: 'some/wavlm' # its name\n",
    "teachers/campplus.yaml": "embedding_model: !new:some.Network\n",
    "teachers/onnx.yaml": "model: null\nframework: null\n"
    "embedding_model: !new:speechbrain_ext.lobes.foreign.OnnxModel\n",
    "ssl/sv_mixer.yaml": "!include:../shared/ssl.yaml\nsystem: sv_mixer\n",
    "ssl/smaller.yaml": "!include:sv_mixer.yaml\nsystem: smaller\nteacher_source: other/hubert\n",
    "ssl/no_kd.yaml": "!include:sv_mixer.yaml\nsystem: no_kd\nteacher: null # labels alone\n",
    "ssl/teachers/other.yaml": "teacher_source: an/other\n",
    "ssl/chosen.yaml": "includes: [sv_mixer.yaml, teachers/other.yaml]\nsystem: chosen\n",
    # Taught by an experiment, whatever else it includes.
    "ssl/of_experiment.yaml": "!include:sv_mixer.yaml\nsystem: of_exp\nteacher_folder: exp/x\n",
    "ssl/tuned.yaml": "!include:../shared/base.yaml\nsystem: tuned\nteacher_source: some/wavlm\n",
    "ssl/aligned.yaml": "!include:sv_mixer.yaml\nsystem: aligned\nteacher_source: null\n"
    "teacher_folder: !ref <exp_root>/<corpus>/tuned/seed_<seed>\n",
}
MODEL = ["--teacher_model", "campplus"]
LARGE_MARGIN = ["--large_margin", "hparams/large_margin.yaml"]
# Python itself says what YAML files are, which is no step.
# What it says of a corpus needs PyTorch, so the stub says it.
DESCRIBE = f"""#!/usr/bin/env bash
case "$*" in
    *import\\ onnx*) exit ;;
    *training.second*) case "$*" in *"${{FAIL:-nothing}}"*) exit 3 ;; esac; exit ;;
    *describe\\ --student_options*imported) echo "--lin_neurons 192"; exit ;;
    *describe\\ --student_options*) exit ;;
    *describe\\ --enrols*) case "$*" in *imported*v6*) echo true ;; *) echo false ;; esac; exit ;;
    *systems.describe*)
        echo 'makers="mini or voxceleb"'
        case "$*" in
            *--corpus\\ mini) options="train_speakers --corpus_seed --max_seconds" ;;
            *--corpus\\ own) options="data --trials_root --unlabelled" ;;
            *--corpus\\ voxceleb) options="voxceleb1 --voxceleb2 --voxceleb1_test_only" ;;
            *--corpus\\ letters) options="letters" ;;
        esac
        echo "corpus_options='${{options:+--out --jobs --$options}}'"
        case "$*" in *" --corpus "*) set -- "${{@:1:$#-2}}" ;; esac
        PYTHONPATH={ROOT} exec {sys.executable} "$@" ;;
esac
"""
# Notes how it was called, and leaves what the next stage looks for.
STUB_PYTHON = (
    DESCRIBE
    + """
echo "${HF_HUB_OFFLINE:+offline }$*" >> "$CALLS"
case "$*" in *"${FAIL:-nothing}"*) echo "what went wrong" >&2; exit 3 ;; esac
all=("$@")
value() {
    local i
    for i in "${!all[@]}"; do [ "${all[i]}" != "$1" ] || echo "${all[i + 1]}"; done
}
leave() { for file; do mkdir -p "$(dirname "$file")"; touch "$file"; done; }
case "$*" in
    *prepare_corpus.py*)
        out=$(value --out)
        case "$*" in *\ own\ *) ;; *) leave "$out/trials/test.txt" ;; esac
        case "$*" in *\ own\ *--unlabelled*) ;; *) leave "$out/dev/a" ;; esac
        case "$*" in *\ --data\ *) leave "$out/dev/a" ;; esac
        case "$*" in *\ --unlabelled\ *) leave "$out/unlabelled/00/a" ;; esac
        leave "$out/corpus.json" ;;
    *prepare_manifests.py*)
        leave "$(value --corpus_dir)/manifests/manifest.json" ;;
    *import_teacher*) leave "$(value --out)/"{hyperparams.yaml,save/embedding_model.safetensors} ;;
    *train_*) leave "$(value --output_folder)/save/embedding_model.safetensors" ;;
    *score.py*) mkdir -p "${2%/}/results" ;;
esac
"""
)


class Recipe:
    """A copy of run.sh whose Python is a stub."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.calls_file = root, root / RECIPE, root / "calls"
        (self.folder / "hparams").mkdir(parents=True)
        (root / "tools").mkdir()
        shutil.copy(ROOT / "run.sh", root)
        shutil.copy(ROOT / RECIPE / "run.sh", self.folder)
        shutil.copytree(ROOT / RECIPE / "utils", self.folder / "utils")
        for system in ("teacher", "v2"):
            (self.folder / f"hparams/{system}.yaml").write_text(f"system: {system} # name\n")
        (self.folder / "hparams/v6.yaml").write_text("system: v6\nclassifier: null\n")
        for name, text in SSL_YAMLS.items():
            path = self.folder / "hparams" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._script(root / "python", STUB_PYTHON)
        self._script(
            root / "tools/setup_env.sh",
            f"#!/usr/bin/env bash\necho $1 > '{root}/extras'\necho '{root}/python'\n",
        )

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def run(
        self, *options: str, cwd: Path | None = None, fail: str = "nothing"
    ) -> subprocess.CompletedProcess[str]:
        """Call run.sh as a user does; ``fail`` is part of the call of the step to fail."""
        return subprocess.run(
            ["bash", str(self.root / "run.sh"), *options],
            cwd=cwd or self.root,
            env={**os.environ, "CALLS": str(self.calls_file), "FAIL": fail},
            capture_output=True,
            text=True,
            timeout=HANG,
        )

    def calls(self) -> list[str]:
        """Give every call of Python, and forget them."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return lines


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path / "with a space")


def script_names(calls: list[str]) -> list[str]:
    scripts = [next(word for word in call.split() if word.endswith(".py")) for call in calls]
    return [Path(script).name for script in scripts]


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
