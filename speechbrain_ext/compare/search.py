"""A search for a network that is right at little cost: short trainings, and what each costs.

A YAML names the system, what all its trainings share, and the values that its keys may take.
Optuna chooses among them by two objectives, what a short training learnt and the time of an
embedding, and keeps everything in a database: a search that was stopped goes on.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch

from speechbrain_ext.compare.pareto import Point, frontier, pareto_figure
from speechbrain_ext.errors import UserError, brought_by
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.measure.speed import time_side_by_side, timed_noise
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.systems.experiment import untrained_encoder
from speechbrain_ext.systems.yaml import read_yaml
from speechbrain_ext.verification.plots import save_figure

with brought_by("search"):
    import optuna
with brought_by("export"):
    from speechbrain_ext.export.graphs import write_embedding_graph
    from speechbrain_ext.export.parity import open_session

KEYS = {"title", "yaml", "objective", "common", "space"}
#: What a short training is judged by, on the held-out speech, and whether more of it is better.
OBJECTIVES = {"eer": False, "rank_correlation": True}
DATABASE, BEST, TWIN = "search.db", "best.yaml", "the same as"
_SECONDS, _ROUNDS = 2.0, 20


@dataclass(frozen=True)
class Search:
    """The content of a search's YAML file.

    Arguments
    ---------
    path : Path
        The file.
    title : str
        What is looked for.
    yaml : Path
        The system that is changed.
    objective : str
        Of :data:`OBJECTIVES`.
    common : dict
        Overrides of all trainings.
    space : dict
        The values that each key may take.
    """

    path: Path
    title: str
    yaml: Path
    objective: str
    common: dict[str, Any]
    space: dict[str, list[Any]]

    @classmethod
    def read(cls, path: Path) -> Search:
        """Read the file.

        Raises
        ------
        UserError
            When it lacks a key, has another, or there is nothing to choose from.
        """
        tree = read_yaml(path, "give a file of hparams/searches")
        if missing := sorted(KEYS - {"common"} - set(tree)):
            raise UserError(f"{path} has no {', '.join(missing)}", code="missing-key")
        if unknown := sorted(set(tree) - KEYS):
            raise UserError(
                f"{path} has the unknown key {unknown[0]}: it may have {', '.join(sorted(KEYS))}",
                code="unknown-key",
            )
        if tree["objective"] not in OBJECTIVES:
            raise UserError(
                f"{path}: objective {tree['objective']} is none of {', '.join(OBJECTIVES)}",
                code="bad-setting",
            )
        space = tree["space"]
        for key, values in space.items() if isinstance(space, Mapping) else [("space", space)]:
            if not isinstance(values, list) or not values:
                raise UserError(
                    f"{path}: space: {key} is {values!r}, and must be a list of its values",
                    code="bad-setting",
                )
        yaml = path.parent / tree["yaml"]
        return cls(
            path, tree["title"], yaml, tree["objective"], dict(tree.get("common") or {}), space
        )

    def overrides(self, numbers: Mapping[str, int]) -> dict[str, str]:
        """The words of the command line for a choice, the places of its values."""
        chosen = {key: self.space[key][place] for key, place in numbers.items()}
        return {key: _word(value) for key, value in {**self.common, **chosen}.items()}


@dataclass(frozen=True)
class Limits:
    """What no candidate may exceed; one that does is not trained."""

    max_params: float | None = None
    max_latency_ms: float | None = None


def run_search(
    search: Search,
    folder: Path,
    options: Sequence[str],
    trials: int,
    limits: Limits,
    recipe: Path,
    seed: int = 1,
) -> Path:
    """Try candidates until there are as many as asked for, and write what was found.

    Arguments
    ---------
    search : Search
        What is looked for.
    folder : Path
        Where the database, the trainings and the results go.
    options : sequence of str
        Of every training: ``--corpus_dir``, ``--teacher_folder``.
    trials : int
        Candidates in all, those of earlier calls and those beyond the limits among them; fewer
        where the values allow no more.
    limits : Limits
        What no candidate may exceed.
    recipe : Path
        The folder of ``train_distill.py``.
    seed : int
        Of the choices.

    Returns
    -------
    Path
        ``RESULTS.md``; beside it lie ``search.csv``, a plot of the frontier and ``best.yaml``.

    Raises
    ------
    UserError
        When a training fails, or the folder holds a search among other values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = _open(search, folder, seed)
    for stopped in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(stopped.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(stopped.params)
    wanted = min(trials, math.prod(len(values) for values in search.space.values()))
    bar = progress_bar(total=wanted, initial=len(_ended(study)), desc="candidates")
    while len(_ended(study)) < wanted:
        trial = study.ask()
        numbers = {
            key: trial.suggest_categorical(key, list(range(len(values))))
            for key, values in search.space.items()
        }
        twin = next((t for t in _ended(study) if t.params == trial.params), None)
        if twin is not None:  # the sampler is told again, and another is asked for
            trial.set_user_attr(TWIN, twin.number)
            study.tell(trial, twin.values, state=twin.state)
            continue
        values = _try(search, folder, options, limits, recipe, trial, numbers)
        if values is None:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, values)
        bar.update()
    bar.close()
    return _write(search, folder, study, limits)


def _try(
    search: Search,
    folder: Path,
    options: Sequence[str],
    limits: Limits,
    recipe: Path,
    trial: optuna.Trial,
    numbers: Mapping[str, int],
) -> tuple[float, float] | None:
    """Measure a candidate and train it for a short while; None where it exceeds a limit."""
    overrides = search.overrides(numbers)
    _, encoder = untrained_encoder(search.yaml, {**overrides, "corpus_dir": "none"})
    size, latency = encoder.num_parameters, _latency_ms(encoder)
    trial.set_user_attr("parameters", size)
    trial.set_user_attr("latency_ms", latency)
    for value, most in ((size, limits.max_params), (latency, limits.max_latency_ms)):
        if most is not None and value is not None and value > most:
            return None
    place = folder / f"candidate_{trial.number}"
    words = [word for key, value in overrides.items() for word in (f"--{key}", value)]
    command = [sys.executable, "train_distill.py", search.yaml.resolve(), *words, *options]
    command += ["--output_folder", place.resolve() / "seed_1", "--noprogressbar"]
    with open(folder / "search.log", "ab") as log:
        status = subprocess.run(
            [str(word) for word in command], cwd=recipe, stdout=log, stderr=log, check=False
        ).returncode
    if status != 0:
        raise UserError(
            f"the training of {place} failed: see the end of {folder / 'search.log'}, and call "
            "again",
            code="failed-process",
        )
    lines = (place / "seed_1" / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    learnt = json.loads(lines[-1])["valid"][search.objective]
    return learnt, latency


def _latency_ms(encoder: SpeakerEncoder) -> float:
    """Of 2 s of speech from the features on, in ONNX Runtime on one thread: a median."""
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        path = Path(name) / "network.onnx"
        write_embedding_graph(encoder, path)
        session = open_session(path)
        feats = encoder.compute_features(timed_noise(1, round(_SECONDS * SAMPLE_RATE))).numpy()
        call = partial(session.run, None, {session.get_inputs()[0].name: feats})
        times = time_side_by_side({"network": call}, _ROUNDS, torch.device("cpu"))
    return 1e3 * statistics.median(times["network"])


def _open(search: Search, folder: Path, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(logging.WARNING)
    direction = optuna.study.StudyDirection
    best = direction.MAXIMIZE if OBJECTIVES[search.objective] else direction.MINIMIZE
    study = optuna.create_study(
        study_name=search.path.stem,
        storage=f"sqlite:///{folder / DATABASE}",
        directions=[best, direction.MINIMIZE],
        sampler=optuna.samplers.TPESampler(seed=seed),
        load_if_exists=True,
    )
    common = {key: _word(value) for key, value in search.common.items()}
    space = {key: [_word(value) for value in values] for key, values in search.space.items()}
    asked = json.dumps([str(search.yaml), search.objective, common, space])
    before = study.user_attrs.get("asked", asked)
    if before != asked:
        raise UserError(
            f"{folder} holds a search by {search.path.name} as it was before: choose another "
            "--out, or take back what was changed",
            code="other-settings",
        )
    study.set_user_attr("asked", asked)
    return study


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Every candidate once."""
    states = optuna.trial.TrialState
    ended = study.get_trials(deepcopy=False, states=[states.COMPLETE, states.PRUNED])
    return [trial for trial in ended if TWIN not in trial.user_attrs]


def _write(search: Search, folder: Path, study: optuna.Study, limits: Limits) -> Path:
    """The table, the plot and the YAML of the best."""
    more = OBJECTIVES[search.objective]
    trained = [t for t in _ended(study) if t.state == optuna.trial.TrialState.COMPLETE]
    if not trained:
        raise UserError(
            f"no candidate of {search.path} keeps the limits: raise --max_params or "
            "--max_latency_ms, or name smaller values in its space",
            code="no-candidate",
        )
    points = {t.number: Point(str(t.number), t.values[1], _cost(t, more)) for t in trained}
    front = [int(point.name) for point in frontier(list(points.values()), more_is_better=False)]
    best = min(trained, key=lambda t: (_cost(t, more), t.values[1]))
    with _written(folder / "search.csv") as file:
        writer = csv.writer(file)
        keys = list(search.space)
        writer.writerow(
            ["candidate", *keys, "parameters", "latency_ms", search.objective, "on_frontier"]
        )
        for trial in _ended(study):
            chosen = [_word(search.space[key][trial.params[key]]) for key in keys]
            learnt = trial.values[0] if trial.values else ""
            attributes = trial.user_attrs["parameters"], trial.user_attrs["latency_ms"]
            writer.writerow([trial.number, *chosen, *attributes, learnt, trial.number in front])
    label = f"Milliseconds for {_SECONDS:g} s of speech, one thread"
    low = "1 − rank correlation" if more else "EER (%)"
    figure = pareto_figure(
        list(points.values()), False, label, search.title, "Short trainings", low
    )
    save_figure(figure, folder / "frontier")
    settings = {key: search.space[key][place] for key, place in best.params.items()}
    tree = {"system": f"{search.path.stem}_best", **settings}
    with _written(folder / BEST) as file:
        file.write(f"!include:{search.yaml.resolve()}\n")
        file.write(f"# The best of {len(trained)} candidates of {search.path.name}.\n")
        ruamel.yaml.YAML().dump(tree, file)
    path = folder / "RESULTS.md"
    with _written(path) as file:
        file.write(_page(search, trained, len(_ended(study)), front, best.number, limits))
    return path


def _page(
    search: Search,
    trained: Sequence[optuna.trial.FrozenTrial],
    tried: int,
    front: Sequence[int],
    best: int,
    limits: Limits,
) -> str:
    keys = list(search.space)
    lines = [
        f"# {search.title}",
        "",
        f"{tried} candidates, of which {len(trained)} kept the limits ({_told(limits)}) and were "
        f"trained for a short while. Below are those that no other beats at both, "
        f"{search.objective} on the held-out speech and milliseconds for {_SECONDS:g} s of speech "
        "from the features on (ONNX Runtime, FP32, one thread). `search.csv` has all; "
        f"`{BEST}` is candidate {best}.",
        "",
        "| candidate | " + " | ".join(keys) + f" | parameters | ms | {search.objective} |",
        "| ---: |" + " --- |" * len(keys) + " ---: | ---: | ---: |",
    ]
    by_number = {trial.number: trial for trial in trained}
    for number in front:
        trial = by_number[number]
        chosen = " | ".join(_word(search.space[key][trial.params[key]]) for key in keys)
        figure, latency = trial.values
        lines.append(
            f"| {number} | {chosen} | {trial.user_attrs['parameters']:,} | {latency:.2f} | "
            f"{figure:.4g} |"
        )
    lines += ["", "![What was learnt against the time of an embedding](frontier.png)"]
    return "\n".join(lines) + "\n"


def _told(limits: Limits) -> str:
    told = []
    if limits.max_params is not None:
        told.append(f"{limits.max_params:,.0f} parameters")
    if limits.max_latency_ms is not None:
        told.append(f"{limits.max_latency_ms:g} ms")
    return " and ".join(told) or "none"


def _cost(trial: optuna.trial.FrozenTrial, more: bool) -> float:
    """What was learnt, as a number that is low where it is good."""
    return 1.0 - trial.values[0] if more else trial.values[0]


def _word(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, str):
        return value
    text = io.StringIO()
    yaml = ruamel.yaml.YAML()
    yaml.default_flow_style, yaml.width = True, 10**6
    yaml.dump(value, text)
    return text.getvalue().removesuffix("...\n").strip()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Any]:
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        yield file
