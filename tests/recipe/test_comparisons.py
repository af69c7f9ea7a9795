"""The comparisons that are committed, and compare.py without its work."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare
import pytest

from speechbrain_ext.compare.claims import read_claims
from speechbrain_ext.compare.commands import (
    Record,
    Workplace,
    check_loss,
    check_teacher_is_heard,
    steps,
    training_arguments,
)
from speechbrain_ext.compare.plan import Plan, read_plan
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.systems.command_line import resolved_settings
from tests.processes import environment
from tests.recipe.tiny import RECIPE
from tests.refusals import refused


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """compare.py without its work: what it would have done."""
    done: list[str] = []
    (tmp_path / "some.yaml").write_text("systems: {teacher: {yaml: teacher.yaml}}")

    class Runs:
        def __init__(self, *given: Any) -> None:
            done.append("trained")

        def run(self) -> int:
            return 0

    def write(*given: Any) -> Path:
        done.append(f"written, alone: {given[-1]}")
        return tmp_path

    monkeypatch.setattr(compare, "Runner", Runs)
    monkeypatch.setattr(compare, "write_results", write)
    monkeypatch.setattr(Corpus, "read", lambda manifests: None)
    manifests = tmp_path / "x" / "manifests"
    (manifests / "trials").mkdir(parents=True)
    for name in ("train.csv", "valid.csv", "trials/valid.txt"):
        (manifests / name).touch()
    places = ["--corpus_dir", tmp_path / "x", "--exp_root", tmp_path / "exp"]
    file = tmp_path / "some.yaml"

    def run(*more: str) -> list[str]:
        done.clear()
        compare.main([*map(str, [file, *places, *more])])
        return done

    return run


def test_one_comparison_at_a_time(tmp_path: Path, main: Callable[..., list[str]]) -> None:
    """Beside it another may report, but not measure speed."""
    assert main() == ["trained", "written, alone: True"]
    (log,) = tmp_path.glob("exp/x/*/log")
    hold = "from speechbrain_ext.files import claimed\n"
    hold += f"with claimed({str(log)!r}, ''): print(flush=True); input()"
    pipe, code = subprocess.PIPE, [sys.executable, "-c", hold]
    with subprocess.Popen(code, stdin=pipe, stdout=pipe, env=environment()) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with refused("busy-folder", "compare.py"):
            main()
        assert main("--report_only") == ["written, alone: False"]
        other.kill()
    assert main("--report_only") == ["written, alone: True"]


def test_a_file_system_without_locks(
    main: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    assert main() == ["trained", "written, alone: True"]


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("documents", 30),
        ("teachers", 12),
        ("sv_mixer_tables", 9),
        ("ssl_small", 7),
        ("self_distillation", 1),
    ],
)
def test_the_files_are_whole(name: str, claims: int) -> None:
    """Their claims are about their systems; the settings of every run can be made."""
    folders = {"noise_folder": Path("/data/musan"), "rir_folder": Path("/data/rirs")}
    plan = read_plan(RECIPE / "hparams" / "comparisons" / f"{name}.yaml", folders)
    assert not plan.left_out
    ids = [claim.id for claim in read_claims(plan)]
    assert len(ids) == len(set(ids)) > claims
    workplace = Workplace(plan, Path("data/some"), RECIPE)
    for run in plan.runs(1):
        if run.system.model is None:
            _, tree = resolved_settings(training_arguments(workplace, run))
            assert tree["system"] == run.system.name
            check_teacher_is_heard(run, tree)
            check_loss(tree)


STUDENT = "yaml: v2.yaml, teacher: first, overrides"
SSL = "yaml: ssl/sv_mixer_wavlm_large.yaml, overrides"


@pytest.mark.parametrize(
    ("mistyped", "code", "facts"),
    [
        ("yaml: techer.yaml", "missing-file", ["techer.yaml"]),
        ("yaml: teacher.yaml, overrides: {batchsize: 8}", "unknown-key", ["batchsize"]),
        ("yaml: teacher.yaml, overrides: {lr: fast}", "bad-setting", ["lr", "'fast'"]),
        ("yaml: teacher.yaml, overrides: {max_grad_norm: no}", "bad-command", ["max_grad_norm"]),
        ("yaml: v2_no_kd.yaml, teacher: first", "wrong-system", ["v2_no_kd.yaml", "first"]),
        ("yaml: HERE/mine.yaml, teacher: first", "unknown-key", ["mine.yaml", "learning_rate"]),
        (
            "yaml: ssl/sv_mixer_aligned.yaml, teacher: first, overrides: {n_mels: 40}",
            "no-effect",
            ["n_mels 40"],
        ),
        (
            f"{STUDENT}: {{embedding_model: {{chanels: 8}}}}",
            "bad-setting",
            ["v2.yaml", "embedding_model", "MLPMixer", "'chanels'"],
        ),
        (
            "yaml: HERE/class.yaml, teacher: first",
            "bad-setting",
            ["class.yaml", "compute_features", "speechbrain_ext.lobes.nowhere.LogMel"],
        ),
        (f"{STUDENT}: {{alpha: 0.4, classifier: null}}", "bad-setting", ["classifier", "0.6 of 1"]),
        (f"{STUDENT}: {{term_weights: {{x: much}}}}", "bad-setting", ["term_weights", "much"]),
        (f"{STUDENT}: {{noise_folder: musan}}", "bad-setting", ["noise_folder", "musan"]),
        (f"{STUDENT}: {{start_from: exp/old}}", "not-a-model", ["start_from", "exp/old"]),
        (f"{STUDENT}: {{valid_trials: no.txt}}", "earlier-stage", ["no.txt"]),
        ("yaml: v2.yaml, overrides: {teacher_folder: exp/old}", "missing-file", ["exp/old"]),
        (f"{SSL}: {{teacher_source: ./wavlm}}", "missing-folder", ["./wavlm"]),
        ("model: camplus", "unknown-name", ["camplus"]),
        ("model: campplus, overrides: {n_mel: 40}", "unknown-key", ["campplus.yaml", "n_mel"]),
        ("model: HERE/m.onnx", "missing-package", ["m.onnx", "[export]"]),
        (f"{SSL}: {{offline: True}}", "not-cached", ["microsoft/wavlm-large"]),
    ],
)
def test_every_system_is_checked_before_any_is_trained(
    mistyped: str,
    code: str,
    facts: list[str],
    tmp_path: Path,
    main: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What its own training would refuse, hours later; what an earlier one makes may be missing."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    find = importlib.util.find_spec
    missing = {"onnxruntime": None}
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: missing[name] if name in missing else find(name, *more),
    )
    (tmp_path / "m.onnx").touch()
    for name, line in (
        ("mine", "learning_rate: 0.1"),
        ("class", "compute_features: !new:speechbrain_ext.lobes.nowhere.LogMel"),
    ):
        text = f"!include:{RECIPE}/hparams/v2.yaml\n{line}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    file = tmp_path / "some.yaml"
    first = "first: {yaml: teacher.yaml}, good: {yaml: v2.yaml, teacher: first}"
    file.write_text(f"systems: {{{first}, second: {{{mistyped.replace('HERE', str(tmp_path))}}}}}")
    with refused(code, file, "second", *facts):
        main()
    assert not list(tmp_path.glob("exp/x/*/log/*"))
    assert main("--only", "good") == ["trained", "written, alone: True"]
    assert main("--report_only") == ["written, alone: True"]


def rounds_of(plan: Plan) -> list[tuple[str, str]]:
    """Every run's folder and its teacher's, as its training is told them."""
    workplace = Workplace(plan, Path("data/mini"), RECIPE)
    folders = []
    for run in plan.runs(1):
        _, tree = resolved_settings(training_arguments(workplace, run))
        folders.append((tree["output_folder"], tree.get("teacher_folder", "")))
    return folders


def test_each_round_learns_from_the_last(tmp_path: Path) -> None:
    """Three rounds of self-distillation; a fourth is a line."""
    file = RECIPE / "hparams" / "comparisons" / "self_distillation.yaml"
    names = ["teacher", "v2", "v2_round2", "v2_round3"]
    folders = [f"exp/mini/self_distillation/{name}/seed_1" for name in names]
    assert rounds_of(read_plan(file)) == list(zip(folders, ["", *folders[:-1]], strict=True))
    last = "    v2_round3: {yaml: v2.yaml, teacher: v2_round2, seeds: all}\n"
    another = last.replace("round3", "round4").replace("round2", "round3")
    more = tmp_path / file.name
    more.write_text(file.read_text().replace(last, last + another))
    *_, (folder, teacher) = rounds_of(read_plan(more))
    assert (folder, teacher) == (folders[-1].replace("round3", "round4"), folders[-1])


@pytest.mark.parametrize(
    ("yaml", "code"),
    [("v2_no_kd", "wrong-system"), ("teacher", "unknown-key")],
)
def test_a_system_without_a_teacher_cannot_take_one(tmp_path: Path, yaml: str, code: str) -> None:
    """It is refused before it is trained."""
    (tmp_path / "some.yaml").write_text(
        f"systems: {{v2: {{yaml: v2_no_kd.yaml}}, v2_round2: {{yaml: {yaml}.yaml, teacher: v2}}}}"
    )
    plan = read_plan(tmp_path / "some.yaml")
    workplace, run = Workplace(plan, Path("data/some"), RECIPE), plan.runs(1)[1]
    with refused(code, f"{yaml}.yaml", "teacher_folder"):
        steps(workplace, run, Record())
