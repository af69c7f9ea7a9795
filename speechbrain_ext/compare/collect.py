"""What the runs of a comparison left, collected once: all that is written of it reads this."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from safetensors import SafetensorError, safe_open

from speechbrain_ext.compare.commands import FINISHED, WAITING, Record, Workplace
from speechbrain_ext.compare.plan import Plan, Run
from speechbrain_ext.compare.runner import describe_machine
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.measure.speed import benchmark_encoders, benchmark_lengths
from speechbrain_ext.systems.experiment import WEIGHTS, encoder_yaml, load_encoder
from speechbrain_ext.systems.train_log import Figure, read_train_log, selecting_figure
from speechbrain_ext.verification.comparison import FUSED, Comparison
from speechbrain_ext.verification.embeddings import COHORT, load_embeddings
from speechbrain_ext.verification.lists import NORMALIZED
from speechbrain_ext.verification.metrics import PRIORS
from speechbrain_ext.verification.score_norm import NORMS, Cohort, normalized_scores
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.tables import calibrated_figures
from speechbrain_ext.verification.trials import TrialList

#: The errors at the stored threshold of 1 % false alarms, in %.
RATES = ("stored_false_alarm", "stored_miss")
#: What calibrated scores are known by, in the order of ``CALIBRATED_HEADINGS``.
CALIBRATED = (*(f"act_dcf_{prior}" for prior in PRIORS), "cllr", "min_cllr", *RATES)


class Training(NamedTuple):
    """What the log of a training tells.

    Arguments
    ---------
    epochs : str
        The epochs whose weights were chosen, on held-out trials.
    selected_by : Figure
        By what they were chosen.
    valid : float
        This figure of theirs.
    share : float, optional
        Distillation's share of the loss in the last epoch.
    seconds : float
        Duration, validation included.
    """

    epochs: str
    selected_by: Figure
    valid: float
    share: float | None
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Arguments
    ---------
    run : Run
        What it is.
    folder : Path
        Its experiment folder.
    record : Record
        When and where it was made.
    results : dict
        What score.py measured, by trial list.
    training : Training, optional
        What its log tells; None of a model that came along trained.
    """

    run: Run
    folder: Path
    record: Record
    results: dict[str, dict[str, Any]]
    training: Training | None

    @property
    def share(self) -> float | None:
        """Distillation's share of the loss in the last epoch."""
        return None if self.training is None else self.training.share


class Missing(NamedTuple):
    """A run that is not finished: its status, why if that is known, and its log if there is one."""

    run: Run
    status: str
    why: str
    log: str  # below the comparison's folder


class Rate(NamedTuple):
    """Utterances per second: the median, and the slowest and fastest round."""

    median: float
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Row:
    """A system on a trial list; ``values`` of one without a finished run are status and seeds."""

    system: str
    yaml: str
    teacher: str
    list: str
    values: dict[str, Any]


@dataclass(frozen=True, eq=False)
class ListEvidence:
    """What is known on one trial list.

    Arguments
    ---------
    name, title, set : str
        The list, and the set that it is about.
    targets, nontargets, speakers : int
        How many it has.
    comparison : Comparison, optional
        The error rates of all runs on it; None when nothing is finished.
    rows : list of Row
        One a system, in the order of the table.
    """

    name: str
    title: str
    set: str
    targets: int
    nontargets: int
    speakers: int
    comparison: Comparison | None
    rows: list[Row]


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is known of a comparison.

    Arguments
    ---------
    plan : Plan
        What was asked for.
    corpus : Corpus
        What it was trained and tested on.
    trained, missing : list
        The runs that are finished, and the others, in the order of the table.
    lists : list of ListEvidence
        The trial lists of the corpus.
    normalized : list of ListEvidence
        The test lists with scores that a cohort normalises, where the plan wants a norm.
    cost : dict
        What :func:`speechbrain_ext.measure.speed.benchmark_encoders` measured, on which machine,
        and in ``by_length`` what :func:`speechbrain_ext.measure.speed.benchmark_lengths` did, where
        the plan names lengths; empty while nothing is measured.
    rates : dict
        The speed of each system, the front end included.
    shares : dict
        Distillation's share of the loss of each system, one a seed.
    """

    plan: Plan
    corpus: Corpus
    trained: list[Trained]
    missing: list[Missing]
    lists: list[ListEvidence]
    normalized: list[ListEvidence]
    cost: dict[str, Any]
    rates: dict[str, Rate]
    shares: dict[str, list[float]]

    @property
    def tests(self) -> list[ListEvidence]:
        """The test lists: what systems are judged by."""
        return [on for on in self.lists if on.set == "test"]


def collect_evidence(
    workplace: Workplace, runs: Sequence[Run], fusions: Sequence[str], may_measure: bool
) -> Evidence:
    """Collect all that is known of a comparison.

    Arguments
    ---------
    workplace : Workplace
        Where it lies.
    runs : sequence of Run
        All that belong to it, finished or not.
    fusions : sequence of str
        Systems whose scores are to be averaged, as ``v2+teacher``.
    may_measure : bool
        Whether speeds may be measured now; False while trainings would disturb.
    """
    corpus = Corpus.read(workplace.manifests)
    norm = workplace.plan.score_norm
    normalized = [name for name, entry in corpus.lists.items() if norm and entry["set"] == "test"]
    trained, missing = finished_runs(workplace, runs, list(corpus.lists))
    cost = _cost(workplace, trained, may_measure)
    wanted = {run.system.name for run in runs}
    names = [name for name in workplace.plan.systems if name in wanted]

    def on_list(name: str, norm: str | None) -> ListEvidence:
        entry = corpus.lists[name]
        trials, numbers = corpus.trials(entry)
        sides = numbers[trials.enrol_index], numbers[trials.test_index]
        own, others, stem = trained, missing, name
        if norm:
            stem = name + NORMALIZED
            own = [each for each in trained if stem in each.results]
            others = [*missing, *(_not_normalized(each) for each in trained if each not in own)]
        comparison = None
        if own:
            scores = _scores(own, trials, entry["set"], norm)
            both = [] if norm else dict.fromkeys(fusions)
            fused = [f for f in both if all(part in scores for part in f.split(FUSED))]
            comparison = Comparison(scores, trials.labels, *sides, fused=fused)
        return ListEvidence(
            name,
            f"{entry['title']}, {NORMS[norm]}" if norm else entry["title"],
            entry["set"],
            trials.targets,
            trials.nontargets,
            len(set(sides[0]) | set(sides[1])),
            comparison,
            _rows(names, own, others, cost, stem, comparison, workplace.plan.reference),
        )

    lists = [on_list(name, None) for name in corpus.lists]
    with_norm = [on_list(name, norm) for name in normalized]
    shares: dict[str, list[float]] = {}
    for each in trained:
        if each.share is not None:
            shares.setdefault(each.run.system.name, []).append(each.share)
    rates = {}
    for system in cost.get("systems", []):
        whole = system["from_waveform"]
        rates[system["name"]] = Rate(whole["utterances_per_second"], *whole["spread"])
    return Evidence(workplace.plan, corpus, trained, missing, lists, with_norm, cost, rates, shares)


def finished_runs(
    workplace: Workplace, runs: Sequence[Run], lists: Sequence[str]
) -> tuple[list[Trained], list[Missing]]:
    """The runs that are finished, scored on these trial lists, and those that are not.

    Both are in the order of the table. Of a finished run there are normalised scores too, where it
    has those that the plan asks for.
    """
    order = {name: number for number, name in enumerate(workplace.plan.systems)}
    trained: list[Trained] = []
    missing: list[Missing] = []
    for run in sorted(runs, key=lambda run: (order[run.system.name], run.seed)):
        record = Record.read(workplace.record_path(run))
        status, why = record.status, record.error
        if status == FINISHED:
            try:
                trained.append(_trained(workplace, run, record, lists))
                continue
            except (UserError, OSError, SafetensorError, ValueError, LookupError, TypeError):
                status, why = WAITING, "files are gone or damaged: remove its folder, run again"
        log = workplace.log(run)
        seen = log.relative_to(workplace.folder).as_posix() if log.is_file() else ""
        missing.append(Missing(run, status, why, seen))
    return trained, missing


def _trained(workplace: Workplace, run: Run, record: Record, lists: Sequence[str]) -> Trained:
    folder = workplace.experiment(run.system.name, run.seed)
    weights = folder / WEIGHTS / "embedding_model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(weights)
    stems, norm = list(lists), workplace.plan.score_norm
    with_norm = norm and (record.scored or "").split(" ")[1:] == [norm]
    if with_norm and (folder / "embeddings" / f"{COHORT}.npz").is_file():
        found = [name + NORMALIZED for name in lists]
        stems += [stem for stem in found if (folder / "results" / f"{stem}.json").is_file()]
    results = {
        stem: json.loads((folder / "results" / f"{stem}.json").read_text(encoding="utf-8"))
        for stem in stems
    }
    training = _training(folder, weights) if run.system.model is None else None
    return Trained(run, folder, record, results, training)


def _not_normalized(each: Trained) -> Missing:
    return Missing(each.run, "not normalised", "run it again", "")


def _training(folder: Path, weights: Path) -> Training:
    epochs = read_train_log(folder / "train_log.jsonl", "the training")
    with safe_open(weights, "np") as file:
        about = file.metadata()
    chosen = json.loads(about["epochs"])
    by_number = {line["epoch"]: line for line in epochs}
    figure = selecting_figure(epochs)
    if figure is None:
        raise ValueError(f"{folder} has no epoch with a figure of validation")
    return Training(
        ", ".join(map(str, chosen)),
        figure,
        float(np.mean([by_number[epoch]["valid"][figure.key] for epoch in chosen])),
        epochs[-1]["train"].get("share"),
        sum(line["train"]["seconds"] + line["valid"]["seconds"] for line in epochs),
    )


def _scores(
    trained: Sequence[Trained], trials: TrialList, set_name: str, norm: str | None
) -> dict[str, dict[int, np.ndarray]]:
    """The scores (N,) of every run on a list, by system and seed; normalised with a norm."""
    scores: dict[str, dict[int, np.ndarray]] = {}
    for each in trained:
        embeddings = load_embeddings(each.folder / "embeddings" / f"{set_name}.npz")
        own = scores.setdefault(each.run.system.name, {})
        scored = cosine_scores(trials, embeddings)
        if norm:
            members = load_embeddings(each.folder / "embeddings" / f"{COHORT}.npz")
            scored = normalized_scores(trials, scored, embeddings, Cohort.of(members, norm))
        own[each.run.seed] = scored
    return scores


def _rows(
    names: Sequence[str],
    trained: Sequence[Trained],
    missing: Sequence[Missing],
    cost: Mapping[str, Any],
    list_name: str,
    comparison: Comparison | None,
    reference: str,
) -> list[Row]:
    status = {each.run.system.name: each.status for each in reversed(missing)}  # of its first seed
    sizes = {system["name"]: system for system in cost.get("systems", [])}
    rows = []
    for name in names:
        own = [each for each in trained if each.run.system.name == name]
        if not own:
            rows.append(Row(name, "", "", list_name, {"status": status[name], "seeds": 0}))
            continue
        assert comparison is not None
        shares = [each.share for each in own if each.share is not None]
        values: dict[str, Any] = {
            "status": status.get(name, FINISHED),
            "seeds": len(own),
            **_size(sizes.get(name)),
            **_spread("eer", comparison.eers[name].values()),
            **dict(zip(("eer_low", "eer_high"), comparison.interval(name) or (), strict=False)),
            "share": statistics.fmean(shares) if shares else None,
            **_of_trainings([each.training for each in own if each.training is not None]),
        }
        for prior in PRIORS:
            costs = [each.results[list_name]["min_dcf"][str(prior)]["value"] for each in own]
            values |= _spread(f"min_dcf_{prior}", costs)
        fits = [fit for each in own if (fit := each.results[list_name].get("calibrated"))]
        if len(fits) == len(own):
            for key, *figures in zip(CALIBRATED, *map(calibrated_figures, fits), strict=True):
                scale = 100 if key in RATES else 1
                values |= _spread(key, [scale * figure["value"] for figure in figures])
        difference = comparison.difference(name, reference) if name != reference else None
        if difference is not None:
            keys = ("difference", "difference_low", "difference_high", "difference_seeds")
            values |= dict(zip(keys, difference, strict=True))
        system = own[0].run.system
        rows.append(Row(name, system.what, system.teacher or "", list_name, values))
    return rows


def _of_trainings(trainings: Sequence[Training]) -> dict[str, Any]:
    if not trainings:
        return {}
    return {
        "epochs": "; ".join(each.epochs for each in trainings),
        f"valid_{trainings[0].selected_by.key}": statistics.fmean(each.valid for each in trainings),
        "training_seconds": statistics.fmean(each.seconds for each in trainings),
    }


def _size(system: Mapping[str, Any] | None) -> dict[str, Any]:
    if system is None:
        return {}
    whole = system["from_waveform"]
    return {
        "parameters": system["parameters"],
        "macs": system["macs_per_utterance"],
        "utterances_per_second": whole["utterances_per_second"],
        "relative_speed": whole["relative"],
    }


def _spread(key: str, values: Iterable[float]) -> dict[str, Any]:
    values = list(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {key: statistics.fmean(values), f"{key}_sd": spread}


def _cost(workplace: Workplace, trained: Sequence[Trained], may_measure: bool) -> dict[str, Any]:
    """The cost of the first seed of every system, on the CPU; by length in the table's order.

    It is kept in ``speed.json`` and measured again when systems, weights or lengths are others.
    """
    path = workplace.folder / "speed.json"
    first: dict[str, Trained] = {}
    for each in sorted(trained, key=lambda each: each.run.seed):
        first.setdefault(each.run.system.name, each)
    baseline = workplace.plan.baseline
    names = sorted(first, key=lambda name: name != baseline)  # compared with the first
    weights = {name: first[name].record.weights for name in names}
    cost = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    lengths = workplace.plan.lengths
    same_lengths = not lengths or cost.get("by_length", {}).get("lengths") == lengths
    if first and may_measure and (cost.get("weights") != weights or not same_lengths):
        measured = _measured({name: first[name].folder for name in names}, lengths)
        cost = {"weights": weights, **measured}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(cost, indent=1) + "\n", encoding="utf-8")
    if cost.get("by_length"):
        order = list(workplace.plan.systems)
        systems = [each for each in cost["by_length"]["systems"] if each["name"] in order]
        systems.sort(key=lambda each: order.index(each["name"]))
        cost = {**cost, "by_length": {**cost["by_length"], "systems": systems}}
    return cost


def _measured(folders: Mapping[str, Path], lengths: Sequence[float]) -> dict[str, Any]:
    """Measure the networks of experiment folders, given by their systems, side by side.

    Systems whose encoders are the same part of a YAML differ in their training alone: one of them
    is measured for all.
    """
    encoders, failed = {}, {}
    same: dict[str, list[str]] = {}
    for name, folder in folders.items():
        try:
            # Anchors are numbered by what else the file holds.
            own = re.sub(r"([&*]id)\d+", r"\1", encoder_yaml(folder))
            if own not in same:
                encoders[name] = load_encoder(folder)
            same.setdefault(own, []).append(name)
        except (UserError, ValueError, TypeError, AttributeError, ImportError) as error:
            failed[name] = str(error).split("\n")[0]
    Console(stderr=True).print(f"Measuring the speed of {len(encoders)} networks side by side")
    figures = benchmark_encoders(encoders) if encoders else {"systems": []}
    sharing = {group[0]: group for group in same.values()}
    figures["systems"] = _for_all(figures["systems"], sharing)
    if lengths and encoders:
        by_length = benchmark_lengths(encoders, lengths)
        figures["by_length"] = {**by_length, "systems": _for_all(by_length["systems"], sharing)}
    machine = describe_machine({"OMP_NUM_THREADS": str(figures.get("threads"))}, "cpu")
    return {"failed": failed, "machine": machine, **figures}


def _for_all(systems: list[dict[str, Any]], sharing: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The figures of a system for all that share its measurement."""
    return [{**system, "name": name} for system in systems for name in sharing[system["name"]]]
