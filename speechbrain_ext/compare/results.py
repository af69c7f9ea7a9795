"""RESULTS.md, results.csv and the plots of an ablation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.compare.claims import Claim, Evidence
from speechbrain_ext.compare.collect import (
    Trained,
    Trials,
    collect,
    read_list,
    scores_of,
    why_missing,
)
from speechbrain_ext.compare.commands import Place
from speechbrain_ext.compare.page import LENGTHS, Part, page
from speechbrain_ext.compare.pareto import Point, pareto_figure
from speechbrain_ext.compare.plan import Run
from speechbrain_ext.compare.speed import measured, speeds
from speechbrain_ext.compare.tables import Row, rows_of, to_csv
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.files import atomic_path
from speechbrain_ext.measure.by_length import length_figure, lengths_csv
from speechbrain_ext.verification.comparison import FUSED, Comparison
from speechbrain_ext.verification.plots import save_figure

# What a system costs: the column, the name, its unit, whether more is better, the axis.
COSTS = (
    ("utterances_per_second", "throughput", 1.0, True, "Utterances of 2 s a second, on the CPU"),
    ("parameters", "parameters", 1e6, False, "Million parameters"),
)


def write_results(
    place: Place, runs: Sequence[Run], claims: Sequence[Claim], command: str, may_measure: bool
) -> Path:
    """Write everything that can be said of the finished runs.

    Arguments
    ---------
    place : Place
        The ablation.
    runs : sequence of Run
        All that belong to it, finished or not.
    claims : sequence of Claim
        To be held against the figures.
    command : str
        The command line, for the page.
    may_measure : bool
        Whether speeds may be measured now.

    Returns
    -------
    Path
        ``RESULTS.md``.
    """
    corpus = Corpus.read(place.manifests)
    trained, missing = collect(place, runs, corpus)
    figures = measured(place, trained, may_measure)
    shares: dict[str, list[float]] = {}
    for each in trained:
        if each.share is not None:
            shares.setdefault(each.run.system.name, []).append(each.share)
    first = {run.system.name: why_missing(place, run)[0] for run in reversed(missing)}
    wanted = {run.system.name for run in runs}
    names = {name: first.get(name, "") for name in place.ablation.systems if name in wanted}
    rows: list[Row] = []
    parts: list[Part] = []
    for name in corpus.lists:
        trials = read_list(corpus, name)
        comparison = _compare(trained, trials, claims) if trained else None
        own = rows_of(names, trained, figures, name, comparison, place.ablation.reference)
        rows += own
        plots = _plots(place, own, trials, figures, corpus) if trials.set == "test" else []
        evidence = Evidence(comparison, shares, speeds(figures))
        parts.append(Part(trials, own, evidence, plots))
    by_length = _by_length(figures, list(place.ablation.systems))
    if by_length:
        figures = {**figures, "by_length": by_length}
        save_figure(length_figure(by_length), place.folder / LENGTHS)
        with atomic_path(place.folder / f"{LENGTHS}.csv") as temporary:
            temporary.write_text(lengths_csv(by_length), encoding="utf-8")
    text = page(place, corpus, trained, missing, parts, claims, figures, command)
    for file, content in (("results.csv", to_csv(rows)), ("RESULTS.md", text)):
        with atomic_path(place.folder / file) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return place.folder / "RESULTS.md"


def _by_length(figures: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """What utterances cost by length, in the order of the table; empty where it is not known."""
    by_length = figures.get("by_length")
    if not by_length:
        return {}
    systems = [system for system in by_length["systems"] if system["name"] in order]
    return {**by_length, "systems": sorted(systems, key=lambda s: order.index(s["name"]))}


def _compare(trained: Sequence[Trained], trials: Trials, claims: Sequence[Claim]) -> Comparison:
    scores = scores_of(trained, trials)
    named = [name for claim in claims if claim.test is not None for name in claim.test.systems]
    fused = [
        name
        for name in dict.fromkeys(named)
        if FUSED in name and all(part in scores for part in name.split(FUSED))
    ]
    sides = trials.enrol_speakers, trials.test_speakers
    return Comparison(scores, trials.list.labels, *sides, fused=fused)


def _plots(
    place: Place, rows: Sequence[Row], trials: Trials, figures: dict[str, Any], corpus: Corpus
) -> list[Path]:
    where = f"{trials.title} of {corpus.title}{' (synthetic)' if corpus.synthetic else ''}"
    stems = []
    for key, name, unit, more_is_better, label in COSTS:
        points = []
        for row in rows:
            if row.values.get(key) is not None:
                bounds = row.values.get("eer_low"), row.values.get("eer_high")
                points.append(Point(row.system, row.values[key] / unit, row.values["eer"], *bounds))
        if not points:
            continue
        if key == "utterances_per_second":
            label += f", {figures['threads']} threads"
        title = f"EER against {name}"
        figure = pareto_figure(points, more_is_better, label, title, where)
        stem = place.folder / f"eer_{name}_{trials.name}"
        save_figure(figure, stem)
        stems.append(stem)
    return stems
