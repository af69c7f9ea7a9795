"""Runs that fail, are killed, need others or have been made before; scripts that do nothing."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speechbrain_ext.compare import runner
from speechbrain_ext.compare.commands import (
    BLOCKED,
    FAILED,
    FINISHED,
    RUNNING,
    Record,
    Workplace,
    steps,
    training_arguments,
)
from speechbrain_ext.compare.plan import Plan, Run, read_plan
from speechbrain_ext.compare.runner import Runner
from speechbrain_ext.systems.command_line import resolved_settings
from speechbrain_ext.training.identity import claim_experiment, data_digests
from tests.processes import environment
from tests.recipe.tiny import RECIPE

pytestmark = pytest.mark.slow

SYSTEMS = """
common: {number_of_epochs: 2}
systems:
    teacher: {yaml: teacher.yaml, seeds: all}
    v2: {yaml: v2.yaml, teacher: teacher, seeds: all}
    alone: {yaml: teacher.yaml}
"""
MANIFEST = "ID,duration,wav,start,stop,spk_id\n{0}/1,1.0,/a.wav,0,16000,{0}\n"
# Notes that it was called, then does what the file "orders" says of its system.
SCRIPT = """
import os, pathlib, sys, time
import numpy
from safetensors.numpy import save_file
arguments = dict(zip(sys.argv[3::2], sys.argv[4::2]))
system, folder = arguments["--system"], pathlib.Path(arguments["--output_folder"])
with open("calls", "a") as calls:
    print(pathlib.Path(sys.argv[0]).stem, system, arguments["--seed"], file=calls)
orders = pathlib.Path("orders")
if orders.exists() and system in orders.read_text():
    if "slow" in orders.read_text():
        pathlib.Path("pid").write_text(str(os.getpid()))
        time.sleep(3600)
    print("error: the disk is full")
    sys.exit(1)
(folder / "save").mkdir(parents=True, exist_ok=True)
told = f"{system} {arguments} {orders.exists()}".encode()
# The same weights are not the same file: the order of the metadata is left to chance.
save_file(
    {"told": numpy.frombuffer(told, numpy.uint8)},
    folder / "save" / "embedding_model.safetensors",
    metadata={"now": str(time.time_ns())},
)
"""
LATER = """
import pathlib, sys
with open("calls", "a") as calls:
    print(pathlib.Path(sys.argv[0]).stem, *pathlib.Path(sys.argv[1]).parts[-2:], file=calls)
"""

IMPORT = """
import pathlib, sys
import numpy
from safetensors.numpy import save_file
with open("calls", "a") as calls:
    print("import_teacher", *sys.argv[1:-2], file=calls)
folder = pathlib.Path(sys.argv[-1])
(folder / "save").mkdir(parents=True, exist_ok=True)
save_file({"made": numpy.zeros(1)}, folder / "save" / "embedding_model.safetensors")
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    for name in ("train_teacher", "train_distill"):
        (tmp_path / f"{name}.py").write_text(SCRIPT)
    for name in ("extract", "score"):
        (tmp_path / f"{name}.py").write_text(LATER)
    (tmp_path / "local").mkdir()
    (tmp_path / "local/import_teacher.py").write_text(IMPORT)
    (tmp_path / "hparams").symlink_to(RECIPE / "hparams")
    manifests = tmp_path / "corpus" / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "manifest.json").write_text("{}")
    (manifests / "trials").mkdir()
    for name in ("train.csv", "valid.csv", "trials/valid.txt"):
        (manifests / name).write_text(MANIFEST.format("ann"))
    return Workplace(plan(), Path("corpus"), tmp_path)


def plan(text: str = SYSTEMS) -> Plan:
    path = Path("some.yaml")
    path.write_text(text)
    return read_plan(path)


def states(workplace: Workplace, runs: list[Run]) -> dict[str, str]:
    return {str(run): Record.read(workplace.record_path(run)).status for run in runs}


def claim(workplace: Workplace, runs: list[Run]) -> None:
    """Write what the stubs of the training scripts leave out."""
    for run in runs:
        text, tree = resolved_settings(training_arguments(workplace, run))
        claim_experiment(workplace.experiment(run.system.name, run.seed), text, data_digests(tree))


def calls() -> list[str]:
    path = Path("calls")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_every_step_once_and_in_order(workplace: Workplace) -> None:
    """The teacher before its student; called again, nothing is done again."""
    runs = workplace.plan.runs(1)
    assert Runner(workplace, runs, 1).run() == 0
    expected = []
    for system, script in (("teacher", "teacher"), ("v2", "distill"), ("alone", "teacher")):
        expected += [
            f"train_{script} {system} 1",
            f"extract {system} seed_1",
            f"score {system} seed_1",
        ]
    assert calls() == expected
    assert set(states(workplace, runs).values()) == {FINISHED}
    assert Runner(workplace, runs, 1).run() == 0
    assert calls() == []


def test_a_student_of_a_model_that_is_no_experiment(workplace: Workplace) -> None:
    """Its YAML, in a subfolder, names its teacher: nothing is trained for it."""
    text = "systems:\n    sv: {yaml: ssl/sv_mixer_wavlm_large.yaml, overrides: {num_blocks: 2}}\n"
    other = Workplace(plan(text), workplace.corpus_dir, workplace.recipe)
    (run,) = other.plan.runs(1)
    arguments = training_arguments(other, run)
    assert arguments[0].endswith("hparams/ssl/sv_mixer_wavlm_large.yaml")
    assert "--teacher_folder" not in arguments and "--teacher_source" not in arguments
    assert Runner(other, [run], 1).run() == 0
    assert calls() == ["train_distill sv 1", "extract sv seed_1", "score sv seed_1"]


OF_A_MODEL = """
common: {number_of_epochs: 2}
systems:
    campplus: {model: campplus, seeds: all, overrides: {n_mels: 80}}
    v2: {yaml: v2.yaml, teacher: campplus, seeds: all, overrides: {lin_neurons: 192}}
"""


def test_a_model_comes_along_once_for_all_seeds(workplace: Workplace) -> None:
    workplace = Workplace(plan(OF_A_MODEL), workplace.corpus_dir, workplace.recipe)
    runs = workplace.plan.runs(2)
    assert [str(run) for run in runs] == ["campplus seed_1", "v2 seed_1", "v2 seed_2"]
    assert Runner(workplace, runs, jobs=1).run() == 0
    imported, *rest = calls()
    assert imported == "import_teacher campplus --n_mels 80"
    assert rest[0] == "extract campplus seed_1"
    assert "train_distill v2 2" in rest
    log = workplace.log(runs[2]).read_text()
    assert "--teacher_folder exp/corpus/some/campplus/seed_1" in log

    claim(workplace, runs[1:])
    assert Runner(workplace, runs, jobs=1).run() == 0
    assert calls() == []
    other = Workplace(
        plan(OF_A_MODEL.replace("model: campplus", "model: ge2e")), workplace.corpus_dir, RECIPE
    )
    assert Runner(other, other.plan.runs(1), jobs=1).run() == 2
    record = Record.read(other.record_path(runs[0]))
    assert "campplus" in record.error
    assert "ge2e" in record.error
    assert calls() == []


def test_what_is_gone_or_new_is_made(workplace: Workplace) -> None:
    """Other trials: scored again. Weights removed: trained again. A further seed: it alone."""
    Runner(workplace, workplace.plan.runs(1), 1).run()
    calls()
    (workplace.manifests / "manifest.json").write_text('{"more": 1}')
    Runner(workplace, workplace.plan.runs(1, ["alone"]), 1).run()
    assert calls() == ["extract alone seed_1", "score alone seed_1"]
    (workplace.experiment("alone", 1) / "save" / "embedding_model.safetensors").unlink()
    Runner(workplace, workplace.plan.runs(1, ["alone"]), 1).run()
    assert calls()[0] == "train_teacher alone 1"
    Runner(workplace, workplace.plan.runs(2, ["v2"]), 1).run()
    assert [line for line in calls() if line.startswith("train")] == [
        "train_teacher teacher 2",
        "train_distill v2 2",
    ]


def test_a_norm_that_is_new_scores_again(workplace: Workplace) -> None:
    """With a cohort; the other plan scores without one again."""
    runs = workplace.plan.runs(1, ["alone"])
    Runner(workplace, runs, 1).run()
    calls()
    plan = dataclasses.replace(workplace.plan, score_norm="asnorm")
    normed = dataclasses.replace(workplace, plan=plan)
    record = Record.read(normed.record_path(runs[0]))
    todo = dict(steps(normed, runs[0], record))
    assert list(todo) == ["embedding", "scoring"]
    assert todo["embedding"][-1] == "--cohort"
    assert todo["scoring"][-2:] == ["--score_norm", "asnorm"]
    Runner(normed, runs, 1).run()
    assert calls() == ["extract alone seed_1", "score alone seed_1"]
    Runner(normed, runs, 1).run()
    assert calls() == []


def test_a_failure_stops_only_what_needs_it(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last error is kept; the rest is made; mended, it goes on."""
    Path("orders").write_text("teacher")
    runs = workplace.plan.runs(1)
    assert Runner(workplace, runs, 1).run() == 2
    assert states(workplace, runs) == {
        "teacher seed_1": FAILED,
        "v2 seed_1": BLOCKED,
        "alone seed_1": FINISHED,
    }
    record = Record.read(workplace.record_path(runs[0]))
    assert record.error == "training: the disk is full"
    assert str(workplace.log(runs[0])) in capsys.readouterr().out
    assert "the disk is full" in workplace.log(runs[0]).read_text()
    assert "teacher seed_1 failed" in Record.read(workplace.record_path(runs[1])).error
    Path("orders").unlink()
    calls()
    assert Runner(workplace, runs, 1).run() == 0
    assert [line for line in calls() if line.startswith("train")] == [
        "train_teacher teacher 1",
        "train_distill v2 1",
    ]


def test_settings_that_cannot_be_fail_alone(workplace: Workplace) -> None:
    """A key that the YAML lacks, a file that is not there."""
    text = SYSTEMS.replace("alone: {", "alone: {overrides: {chanels: 3}, ")
    text += "    gone: {yaml: gone.yaml}\n"
    other = Workplace(plan(text), workplace.corpus_dir, workplace.recipe)
    runs = other.plan.runs(1)
    assert Runner(other, runs, 2).run() == 2
    errors = {run.system.name: Record.read(other.record_path(run)).error for run in runs}
    assert "no key 'chanels'" in errors["alone"] and "gone.yaml does not exist" in errors["gone"]
    assert errors["v2"] == ""


def test_other_settings_or_another_teacher_are_refused(workplace: Workplace) -> None:
    """A finished run is kept only if it is what would be trained now."""
    runs = workplace.plan.runs(1)
    Runner(workplace, runs, 1).run()
    claim(workplace, runs)
    assert Runner(workplace, runs, 1).run() == 0
    changed = SYSTEMS.replace("alone: {", "alone: {overrides: {lr: 0.5}, ")
    other = Workplace(plan(changed), workplace.corpus_dir, workplace.recipe)
    assert Runner(other, other.plan.runs(1), 1).run() == 1
    assert "made with other settings (lr: " in Record.read(other.record_path(runs[2])).error
    shorter = SYSTEMS.replace("number_of_epochs: 2", "number_of_epochs: 1")
    other = Workplace(plan(shorter), workplace.corpus_dir, workplace.recipe)
    assert Runner(other, other.plan.runs(1, ["alone"]), 1).run() == 1
    assert "trained for 2 epochs, 1 are wanted" in Record.read(other.record_path(runs[2])).error
    assert states(workplace, runs[2:]) == {"alone seed_1": FAILED}
    # A teacher trained anew to the same weights changes nothing; to others, it does.
    folder = workplace.experiment("teacher", 1)
    (folder / "save" / "embedding_model.safetensors").unlink()
    assert Runner(workplace, runs, 1).run() == 0
    (folder / "save" / "embedding_model.safetensors").unlink()
    Path("orders").touch()
    assert Runner(workplace, runs, 1).run() == 1
    error = Record.read(workplace.record_path(runs[1])).error
    assert "trained with weights of teacher that have changed since: remove it" in error


def test_another_average_of_checkpoints_is_another_result(workplace: Workplace) -> None:
    """The script that trains makes it of what is trained; what was said before stays true."""
    runs = workplace.plan.runs(1, ["alone"])
    Runner(workplace, runs, 1).run()
    claim(workplace, runs)
    calls()
    text = SYSTEMS.replace("2}", "2, average_checkpoints: 2}", 1)
    other = Workplace(plan(text), workplace.corpus_dir, workplace.recipe)
    (run,) = other.plan.runs(1, ["alone"])
    assert Runner(other, [run], 1).run() == 0
    assert calls() == ["train_teacher alone 1", "extract alone seed_1", "score alone seed_1"]
    kept = (other.experiment("alone", 1) / "hyperparams.yaml").read_text()
    assert "average_checkpoints: 1" in kept  # it is for the script to write
    assert Runner(other, [run], 1).run() == 0 and calls() == []


def test_other_training_speakers_are_refused(workplace: Workplace) -> None:
    """Embedding and scoring anew would tell of weights that were trained on somebody else."""
    runs = workplace.plan.runs(1, ["alone"])
    Runner(workplace, runs, 1).run()
    claim(workplace, runs)
    calls()
    (workplace.manifests / "manifest.json").write_text('{"seed": 2}')
    (workplace.manifests / "train.csv").write_text(MANIFEST.format("bob"))
    assert Runner(workplace, runs, 1).run() == 1 and calls() == []
    error = Record.read(workplace.record_path(runs[0])).error
    assert "was made from other utterances or speakers of corpus/manifests/train.csv" in error


def test_each_job_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of its own where there are some, else a part of the cores; what a user set stays."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(runner, "cores", lambda: 8)
    monkeypatch.setattr(runner, "gpus", lambda: [])
    assert runner.job_environment(1, 3)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setattr(runner, "gpus", lambda: ["4", "6"])
    devices = [runner.job_environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert devices == ["4", "6", "4"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert runner.job_environment(0, 3)["OMP_NUM_THREADS"] == "5"


def test_jobs_run_side_by_side(workplace: Workplace) -> None:
    """Two at a time: what needs nothing does not wait."""
    Path("orders").write_text("teacher slow")
    runs = workplace.plan.runs(1)
    work = Runner(workplace, runs, 2)

    def stop_when_alone_is_done(_: float) -> None:
        time.sleep(0.05)
        if work.status.get(("alone", 1)) == FINISHED:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "time", _Clock(stop_when_alone_is_done))
        with pytest.raises(KeyboardInterrupt):
            work.run()
    assert states(workplace, runs[:1]) == {"teacher seed_1": RUNNING}
    assert not _alive(int(Path("pid").read_text()))  # interrupted, it ended its children


class _Clock:
    """The time module, with another sleep."""

    def __init__(self, sleep: object) -> None:
        self.sleep = sleep
        self.monotonic = time.monotonic


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_killed_outright_it_leaves_nothing_running(workplace: Workplace) -> None:
    """SIGKILL cannot be handled: the child dies with its parent all the same."""
    Path("orders").write_text("teacher slow")
    code = (
        "from pathlib import Path; from speechbrain_ext.compare.commands import Workplace;"
        "from speechbrain_ext.compare.plan import read_plan;"
        "from speechbrain_ext.compare.runner import Runner;"
        "workplace = Workplace(read_plan(Path('some.yaml')), Path('corpus'), Path('.'));"
        "Runner(workplace, workplace.plan.runs(1), 1).run()"
    )
    env = environment()
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    _wait_for(lambda: Path("pid").exists() and Path("pid").read_text() != "")
    child = int(Path("pid").read_text())
    assert _alive(child)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait_for(lambda: not _alive(child))
    assert states(workplace, workplace.plan.runs(1)[:1]) == {"teacher seed_1": RUNNING}


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_for(condition: object, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)
