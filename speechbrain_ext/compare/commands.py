"""The commands of a run, and the record of which have been done."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ruamel.yaml

from speechbrain_ext.compare.plan import Plan, Run
from speechbrain_ext.distill.objective import check_weights
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path, file_digest
from speechbrain_ext.systems.command_line import is_student, resolved_settings
from speechbrain_ext.systems.experiment import WEIGHTS, kept_sha256
from speechbrain_ext.systems.imported import check_packages, model_settings
from speechbrain_ext.training.identity import (
    DATA_KEYS,
    check_experiment,
    check_sources,
    data_digests,
)

WAITING, RUNNING, FINISHED, FAILED, BLOCKED = (
    "not run",
    "not finished",
    "finished",
    "failed",
    "not run because of another",
)


@dataclass(frozen=True)
class Workplace:
    """Where a comparison on a corpus lies, and the recipe that does its work.

    Arguments
    ---------
    plan : Plan
        What is asked for.
    corpus_dir : Path
        Holds ``manifests``.
    recipe : Path
        Folder of ``train_teacher.py``, ``train_distill.py``, ``extract.py``, ``score.py`` and of
        ``hparams``.
    exp_root : Path
        Experiments go below it.
    """

    plan: Plan
    corpus_dir: Path
    recipe: Path
    exp_root: Path = Path("exp")

    @property
    def manifests(self) -> Path:
        """The folder that stage 1 made."""
        return self.corpus_dir / "manifests"

    @property
    def folder(self) -> Path:
        """Everything that is written lies below."""
        corpus = os.path.basename(os.path.abspath(self.corpus_dir))
        return self.exp_root / corpus / self.plan.name

    def experiment(self, name: str, seed: int) -> Path:
        """The experiment folder of a run."""
        return self.folder / name / f"seed_{seed}"

    def log(self, run: Run) -> Path:
        """Where the output of a run's commands goes."""
        return self.folder / "log" / f"{run.system.name}_seed_{run.seed}.log"

    def record_path(self, run: Run) -> Path:
        """What is known of a run."""
        return self.log(run).with_suffix(".json")


@dataclass
class Record:
    """State of a run; a file beside its log.

    Arguments
    ---------
    status : str
        One of the five above.
    error : str
        Why, where it is not finished.
    epochs : int
        Epochs it is trained for.
    averaged : int
        Of how many checkpoints its weights are the mean.
    weights : str, optional
        SHA-256 of the weights that its training ended with.
    scored : str, optional
        SHA-256 of the manifest that it was scored with, and the norm of its scores.
    inputs : dict
        SHA-256 of the weights it was trained from, by system.
    begun, ended : str
        Times, ISO 8601.
    machine : dict
        Where it was trained.
    """

    status: str = WAITING
    error: str = ""
    epochs: int = 0
    averaged: int = 1
    weights: str | None = None
    scored: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    begun: str = ""
    ended: str = ""
    machine: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record; one that is missing or damaged is that of a run not begun."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")


def training_arguments(workplace: Workplace, run: Run) -> list[str]:
    """The arguments of a run's training script."""
    yaml = Path(os.path.relpath(workplace.recipe / "hparams")) / run.system.yaml
    settings = {**workplace.plan.common, **run.system.overrides}
    for key, needed in run.reads.items():
        settings[key] = str(workplace.experiment(*needed))
    settings |= {
        "system": run.system.name,
        "corpus_dir": str(workplace.corpus_dir),
        "exp_root": str(workplace.exp_root),
        "seed": run.seed,
        "output_folder": str(workplace.experiment(run.system.name, run.seed)),
    }
    return [str(yaml), "--noprogressbar", *_overrides(settings)]


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    arguments = []
    for key, value in settings.items():
        # JSON is YAML on one line.
        arguments += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return arguments


def steps(workplace: Workplace, run: Run, record: Record) -> list[tuple[str, list[str]]]:
    """What is still to be done of a run: (name, command) in order, empty when it is finished.

    Sets ``epochs`` and ``inputs`` of the record to what the training is going to have.

    Raises
    ------
    UserError
        When the run cannot be made, or its folder was made with other settings or inputs.
    """
    if run.system.model is not None:
        return _steps_of_model(workplace, run, record)
    arguments = training_arguments(workplace, run)
    text, tree = resolved_settings(arguments)
    check_teacher_is_heard(run, tree)
    epochs = int(tree["number_of_epochs"])
    folder = workplace.experiment(run.system.name, run.seed)
    manifests = _manifests_digest(workplace.manifests)
    inputs = {
        name: kept_sha256(workplace.experiment(name, seed)) or "none" for name, seed in run.needs
    }
    if (folder / "hyperparams.yaml").is_file():
        check_experiment(folder, text, _data_digests(manifests, *(tree[key] for key in DATA_KEYS)))
        _same_inputs(record, inputs, folder)
        if record.epochs > epochs:
            raise UserError(
                f"{folder} was trained for {record.epochs} epochs, {epochs} are wanted: remove it",
                code="other-settings",
            )
    weights, averaged = kept_sha256(folder), int(tree["average_checkpoints"])
    made = (record.weights, record.epochs, record.averaged)
    trained = weights is not None and made == (weights, epochs, averaged)
    if trained and record.scored == scored_with(workplace):
        return []
    script = "train_distill.py" if is_student(tree) else "train_teacher.py"
    train = [("training", _python(workplace.recipe / script, *arguments))]
    score = _scoring(workplace, run, tree.get("device"))
    record.inputs = inputs
    if not trained:
        record.epochs, record.averaged, record.weights = epochs, averaged, None
    return score if trained else [*train, *score]


def _steps_of_model(workplace: Workplace, run: Run, record: Record) -> list[tuple[str, list[str]]]:
    """What is still to be done of a model that comes along: it is imported, not trained."""
    assert run.system.model is not None
    folder = workplace.experiment(run.system.name, run.seed)
    asked = [run.system.model, *_overrides(run.system.overrides)]
    made_of = record.inputs.get("model", shlex.join(asked))
    if made_of != shlex.join(asked):
        raise UserError(
            f"{folder} was made of {made_of}, {shlex.join(asked)} is wanted: remove it",
            code="other-settings",
        )
    weights = kept_sha256(folder)
    there = weights is not None and record.weights == weights
    if there and record.scored == scored_with(workplace):
        return []
    record.inputs = {"model": made_of}
    script = workplace.recipe / "local/import_teacher.py"
    bring = [("import", _python(script, *asked, "--out", str(folder)))]
    score = _scoring(workplace, run, None)
    return score if there else [*bring, *score]


def _scoring(workplace: Workplace, run: Run, device: str | None) -> list[tuple[str, list[str]]]:
    folder = str(workplace.experiment(run.system.name, run.seed))
    device = device or workplace.plan.common.get("device")
    common = ["--manifests", str(workplace.manifests)]
    extract = ["--device", str(device)] if device else []
    score: list[str] = []
    if workplace.plan.score_norm:
        extract += ["--cohort"]
        score = ["--score_norm", workplace.plan.score_norm]
    return [
        ("embedding", _python(workplace.recipe / "extract.py", folder, *common, *extract)),
        ("scoring", _python(workplace.recipe / "score.py", folder, *common, *score)),
    ]


def scored_with(workplace: Workplace) -> str:
    """What the scores of a run follow from beside its weights."""
    norm = workplace.plan.score_norm
    return _manifests_digest(workplace.manifests) + (f" {norm}" if norm else "")


def finish_step(workplace: Workplace, run: Run, record: Record, step: str) -> None:
    """Note in the record that a step has ended well."""
    folder = workplace.experiment(run.system.name, run.seed)
    if step in ("training", "import"):
        record.weights = kept_sha256(folder)
        if record.weights is None:
            raise UserError(
                f"the {step} ended without {folder / WEIGHTS}/*.safetensors", code="damaged-file"
            )
    elif step == "scoring":
        record.scored = scored_with(workplace)


def check_runs(workplace: Workplace, runs: Iterable[Run], file: Path) -> None:
    """Refuse a comparison of which a training would refuse its YAML, its overrides or their files.

    No network is made, and what other runs make need not be there.

    Arguments
    ---------
    workplace : Workplace
        Of the comparison.
    runs : iterable of Run
        What is to be trained; of a system one run is looked at.
    file : Path
        The comparison's own, for the message.

    Raises
    ------
    UserError
        Naming the system.
    """
    for run in {run.system.name: run for run in runs}.values():
        try:
            if run.system.model is not None:
                _check_model(workplace, run.system.model, run.system.overrides)
                continue
            _, tree = resolved_settings(training_arguments(workplace, run))
            check_teacher_is_heard(run, tree)
            check_loss(tree)
            check_sources(tree, [str(workplace.experiment(*need)) for need in run.needs])
        except UserError as error:
            raise UserError(f"{file}: {run.system.name}: {error}", code=error.code) from None


def _check_model(workplace: Workplace, model: str, overrides: Mapping[str, Any]) -> None:
    teachers = workplace.recipe / "hparams/teachers"
    check_packages(model, model_settings(model, _overrides(overrides), teachers).tree)


def check_teacher_is_heard(run: Run, tree: Any) -> None:
    """Refuse a system that its teacher's folder does not reach: it would be trained without."""
    if run.system.teacher is None:
        return
    yaml = ruamel.yaml.YAML()
    yaml.width = 10**6  # no path is broken over lines
    text = io.StringIO()
    yaml.dump({key: value for key, value in tree.items() if key != "teacher_folder"}, text)
    if str(tree["teacher_folder"]) not in text.getvalue():
        raise UserError(
            f"{run.system.yaml} has no teacher that comes from teacher_folder, so "
            f"{run.system.teacher} cannot be it: choose a system with one, as v2.yaml",
            code="wrong-system",
        )


def check_loss(tree: Any) -> None:
    """Refuse weights of a loss that do not sum to 1, where alpha is a number."""
    alpha = tree.get("alpha")
    if isinstance(alpha, int | float):
        weights = tree["term_weights"] or {}
        try:
            check_weights(alpha, alpha, weights, tree.get("classifier") is not None)
        except ValueError as error:
            raise UserError(str(error), code="bad-setting") from None


def _manifests_digest(manifests: Path) -> str:
    path = manifests / "manifest.json"
    try:
        return file_digest(path)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: run stage 1 first (python local/prepare_manifests.py)",
            code="earlier-stage",
        ) from None


@functools.cache  # for as long as manifest.json is the same: all runs have one corpus
def _data_digests(manifests: str, *paths: str) -> dict[str, str]:
    return data_digests(dict(zip(DATA_KEYS, paths, strict=True)))


def _same_inputs(record: Record, inputs: dict[str, str], folder: Path) -> None:
    for name, digest in inputs.items():
        if record.inputs.get(name, digest) != digest:
            raise UserError(
                f"{folder} was trained with weights of {name} that have changed since: remove it",
                code="other-weights",
            )


def _python(script: Path, *arguments: str) -> list[str]:
    return [sys.executable, os.path.relpath(script), *arguments]
