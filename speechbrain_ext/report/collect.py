"""Read what the stages before wrote about a student, its teacher and their corpus."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import ruamel.yaml
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from speechbrain_ext.errors import UserError
from speechbrain_ext.report.records import (
    Benchmark,
    CorpusSummary,
    Engines,
    Experiment,
    MeasuredSpeed,
    Score,
    TrainedSystem,
    TrialCounts,
)
from speechbrain_ext.systems.experiment import kept_sha256
from speechbrain_ext.systems.train_log import read_train_log
from speechbrain_ext.verification.conditions import cards_of
from speechbrain_ext.verification.lists import ENROLLED, FUSION, NORMALIZED
from speechbrain_ext.verification.metrics import PRIORS
from speechbrain_ext.verification.score_norm import COSINE
from speechbrain_ext.verification.tables import calibrated_cells

STAGES = {
    1: "the manifests",
    2: "the teacher",
    3: "the student",
    4: "embeddings and scores",
    5: "export and speed",
}
NAMED = ("terms", "term_weights")
T = TypeVar("T")


def collect_experiment(exp: Path, teacher: Path | None, manifests: Path) -> Experiment:
    """Read an experiment whole.

    Arguments
    ---------
    exp : Path
        The student's experiment folder.
    teacher : Path, optional
        The teacher's experiment folder; None when its teacher is no experiment.
    manifests : Path
        The folder with ``manifest.json``.

    Returns
    -------
    Experiment
        Test lists only; the validation list stands in when the corpus has no test list.

    Raises
    ------
    UserError
        When a file is missing or cannot be used; the sentence names it and the stage to run.
    """
    corpus = read_corpus(manifests / "manifest.json")
    kind = "test" if any(t.set == "test" for t in corpus.trials) else "valid"
    lists = [t.name for t in corpus.trials if t.set == kind]
    if not lists:
        raise UserError(
            f"{manifests / 'manifest.json'} names no trial list; run stage 1 with trials.",
            code="no-trials",
        )
    own_teacher = _read_system("teacher", teacher, 2, lists) if teacher is not None else None
    student = _read_system("student", exp, 3, lists)
    fused = lists if teacher is not None else []
    fusion = {name: _read_score(exp, name + FUSION) for name in fused}
    speed = exp / "results" / "speed.json"
    experiment = Experiment(
        folder=exp,
        corpus=corpus,
        teacher=own_teacher,
        student=student,
        fusion=fusion,
        enrolled=_read_further(exp, fused, ENROLLED),
        benchmark=read_benchmark(speed) if speed.exists() else None,
        engines=_read_engines(exp),
        set=kind,
        lists=lists,
        conditions=cards_of(exp, kept_sha256(exp)),
    )
    for name in lists:
        for score in experiment.rows(name).values():
            if score.corpus != corpus.name:
                raise UserError(
                    f"{exp / 'results'} was scored on corpus '{score.corpus}' but {manifests} "
                    f"describes '{corpus.name}'; give the manifests of the corpus that was scored.",
                    code="other-corpus",
                )
    _check_weights(experiment)
    return experiment


def _check_weights(experiment: Experiment) -> None:
    """Refuse scores of weights that are no more: of a system, or of the two that were fused."""
    for name in experiment.lists:
        for system in experiment.systems:
            kept = kept_sha256(system.folder)
            if kept is not None and kept != system.scores[name].weights:
                raise UserError(
                    f"{system.folder / 'results' / f'{name}.json'} was scored with other weights "
                    f"than {system.folder} has by now; run stage 4 again.",
                    code="other-weights",
                )
            if name in system.normalized:
                if system.normalized[name].weights != system.scores[name].weights:
                    path = system.folder / "results" / f"{name}{NORMALIZED}.json"
                    raise UserError(
                        f"{path} was scored with other weights than {name}.json beside it; run "
                        "stage 4 again.",
                        code="other-weights",
                    )
        both = "+".join(system.scores[name].weights for system in reversed(experiment.systems))
        for scores, ending in ((experiment.fusion, FUSION), (experiment.enrolled, ENROLLED)):
            if name in scores and scores[name].weights != both:
                path = experiment.folder / "results" / f"{name}{ending}.json"
                raise UserError(
                    f"{path} was scored with other weights than student and teacher now; run "
                    "stage 4 again.",
                    code="other-weights",
                )


def read_corpus(path: Path) -> CorpusSummary:
    """Read ``manifest.json`` as stage 1 writes it."""

    def build(content: dict[str, Any]) -> CorpusSummary:
        return CorpusSummary(
            name=content["corpus"],
            title=content["title"],
            synthetic=bool(content["synthetic"]),
            sets={s: content[s] for s in ("train", "valid", "test") if content.get(s)},
            trials=[
                TrialCounts(t["name"], t["title"], t["set"], t["targets"], t["nontargets"])
                for t in content["trials"]
            ],
            skipped=dict(content.get("skipped", {})),
        )

    return _parse(path, 1, build)


def read_benchmark(path: Path) -> Benchmark:
    """Read ``speed.json`` as stage 5 writes it."""

    def build(content: dict[str, Any]) -> Benchmark:
        return Benchmark(
            device=content["device"],
            threads=content["threads"],
            batch=content["batch"],
            seconds_of_speech=content["seconds_of_speech"],
            rounds=content["rounds"],
            systems=[
                MeasuredSpeed(
                    name=s["name"],
                    parameters=s["parameters"],
                    macs=s["macs_per_utterance"],
                    utterances_per_second=s["utterances_per_second"],
                    spread=(s["spread"][0], s["spread"][1]),
                    relative=s["relative"],
                    from_waveform=s.get("from_waveform", {}).get("utterances_per_second"),
                    relative_from_waveform=s.get("from_waveform", {}).get("relative"),
                )
                for s in content["systems"]
            ],
        )

    return _parse(path, 5, build)


def _read_engines(exp: Path) -> Engines | None:
    """What stage 5 measured of the student's files, where there are some of these weights."""
    path, model = exp / "results" / "engines.json", exp / "export" / "model.json"
    if not (path.exists() and model.exists()):
        return None
    facts = _parse(model, 5, lambda content: (content["weights_sha256"], content["files"]))
    if facts[0] != kept_sha256(exp):
        return None
    return Engines(_parse(path, 5, lambda content: content["engines"]), facts[1])


def read_settings(path: Path, stage: int) -> dict[str, str]:
    """Read the settings of ``hyperparams.yaml`` without making any of its objects.

    Arguments
    ---------
    path : Path
        The file.
    stage : int
        The stage that writes it, for the message when it is missing.

    Returns
    -------
    dict
        Every key that holds a number, a word, a truth value or a flat list of these, as written; of
        an object, its class and plain arguments; the loss's terms and their weights by name.

    Example
    -------
    >>> path = getfixture("tmp_path") / "hyperparams.yaml"
    >>> _ = path.write_text("lr: 1e-3\\nloss: !new:losses.KL\\n  temperature: 4.0\\nuse: [a, b]\\n")
    >>> read_settings(path, 3)
    {'lr': '1e-3', 'loss': 'KL(temperature=4.0)', 'use': 'a, b'}
    """
    text = _text(path, stage)
    try:
        root = ruamel.yaml.YAML(typ="safe", pure=True).compose(text)
    except ruamel.yaml.YAMLError as error:
        raise UserError(
            f"{path} is not readable YAML; run stage {stage} again.", code="bad-yaml"
        ) from error
    pairs = root.value if isinstance(root, MappingNode) else []
    found = {
        key.value: _named(value) if key.value in NAMED else _setting(value) for key, value in pairs
    }
    return {key: value for key, value in found.items() if value is not None}


def _named(node: Node) -> str | None:
    pairs = node.value if isinstance(node, MappingNode) else []
    return ", ".join(f"{key.value} {_setting(value)}" for key, value in pairs) or None


def _setting(node: Node) -> str | None:
    made = re.match(r"!(?:new|name):(?:\w+\.)*(\w+)$", node.tag or "")
    if made:
        arguments = node.value if isinstance(node, MappingNode) else []
        plain = [
            f"{key.value}={value.value}"
            for key, value in arguments
            if isinstance(value, ScalarNode) and not (value.tag or "").startswith("!")
        ]
        return made[1] + (f"({', '.join(plain)})" if plain else "")
    if (node.tag or "").startswith("!"):
        return None
    if isinstance(node, ScalarNode):
        return str(node.value)
    if isinstance(node, SequenceNode) and node.value:
        if all(isinstance(value, ScalarNode) for value in node.value):
            return ", ".join(value.value for value in node.value)
    return None


def embeddings_path(system: TrainedSystem, name: str) -> Path:
    """Give the embeddings file of one set, which must exist."""
    path = system.folder / "embeddings" / f"{name}.npz"
    if not path.is_file():
        raise _missing(path, 4)
    return path


def _read_system(role: str, folder: Path, stage: int, lists: list[str]) -> TrainedSystem:
    settings = read_settings(folder / "hyperparams.yaml", stage)
    log = folder / "train_log.jsonl"
    # A teacher imported from another trainer has weights but was never trained here.
    imported = role == "teacher" and (folder / "save" / "embedding_model.safetensors").is_file()
    entries = [] if imported and not log.is_file() else read_train_log(log, _writer(stage))
    scores = {name: _read_score(folder, name) for name in lists}
    normalized = _read_further(folder, lists, NORMALIZED)
    if len({score.norm for score in normalized.values()}) > 1:
        raise UserError(
            f"{folder / 'results'} has lists of different norms; run stage 4 again.",
            code="other-settings",
        )
    name = scores[lists[0]].system
    return TrainedSystem(role, name, folder, settings, entries, scores, normalized)


def _read_further(folder: Path, lists: list[str], ending: str) -> dict[str, Score]:
    """Further scores of the lists that have them."""
    return {
        name: _read_score(folder, name + ending)
        for name in lists
        if (folder / "results" / f"{name}{ending}.json").exists()
    }


def _read_score(folder: Path, name: str) -> Score:
    def build(content: dict[str, Any]) -> Score:
        bounds, difference = content["eer_interval_95"], content.get("difference")
        calibrated = content.get("calibrated")
        if calibrated is not None:
            calibrated_cells(calibrated)  # which tells here what it lacks
        return Score(
            system=content["system"],
            trials=content["trials"],
            title=content["title"],
            targets=content["targets"],
            nontargets=content["nontargets"],
            eer=float(content["eer"]),
            interval=(float(bounds[0]), float(bounds[1])) if bounds is not None else None,
            threshold=content["eer_threshold"],
            min_dcf={
                prior: float(content["min_dcf"][prior]["value"]) for prior in map(str, PRIORS)
            },
            false_alarm=content["det"]["false_alarm"],
            miss=content["det"]["miss"],
            edges=content["histogram"]["edges"],
            target=content["histogram"]["target"],
            nontarget=content["histogram"]["nontarget"],
            weights=content["weights_sha256"],
            synthetic=bool(content["synthetic"]),
            corpus=content["corpus"],
            scale=content.get("scores", COSINE),
            difference=_read_difference(difference) if difference is not None else None,
            calibrated=calibrated,
        )

    return _parse(folder / "results" / f"{name}.json", 4, build)


def _parse(path: Path, stage: int, build: Callable[[dict[str, Any]], T]) -> T:
    text = _text(path, stage)
    try:
        return build(json.loads(text))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not readable JSON ({error}); run stage {stage} again.", code="damaged-file"
        ) from error
    except KeyError as error:
        raise UserError(
            f"{path} has no entry {error}; run stage {stage} again.", code="missing-key"
        ) from error
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} does not hold what stage {stage} writes ({error}); run it again.",
            code="damaged-file",
        ) from error


def _text(path: Path, stage: int) -> str:
    if not path.is_file():
        raise _missing(path, stage)
    return path.read_text(encoding="utf-8")


def _missing(path: Path, stage: int) -> UserError:
    return UserError(f"{path} is missing; run {_writer(stage)} first.", code="earlier-stage")


def _writer(stage: int) -> str:
    return f"stage {stage} ({STAGES[stage]})"


def _read_difference(content: dict[str, Any]) -> tuple[float, tuple[float, float] | None]:
    bounds = content["interval_95"]
    return float(content["eer"]), (float(bounds[0]), float(bounds[1])) if bounds else None
