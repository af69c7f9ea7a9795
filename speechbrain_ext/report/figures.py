"""The figures of the report: curves of training, and what the scores and embeddings look like."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from speechbrain_ext.report.projection import Projection
from speechbrain_ext.report.records import Score, TrainedSystem
from speechbrain_ext.report.svg import COLOURS, SPEAKER_COLOURS, STYLE, new_figure, to_svg
from speechbrain_ext.systems.train_log import NOT_A_TERM, best_epoch, selecting_figure
from speechbrain_ext.verification.conditions import SIDES
from speechbrain_ext.verification.plots import condition_name

DASHES: dict[str, Any] = {"teacher": (0, (5, 2.2)), "student": "-", "fusion": (0, (1, 1.6))}
TERM_COLOURS = ("ink", "speaker-3", "speaker-5", "speaker-6", "speaker-7", "speaker-8", "speaker-9")
TERM_DASHES: tuple[Any, ...] = ("-", (0, (5, 2.2)), (0, (1, 1.6)), "-", "-", "-", "-")
TERM_KEYS = ("solid", "dashed", "dotted", "solid", "solid", "solid", "solid")
WANTED_SHARE = 20
HEIGHT = 260
DET_TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)


@dataclass(frozen=True)
class Key:
    """One entry of a figure's legend, which the page writes."""

    text: str
    colour: str
    dash: str


@dataclass(frozen=True)
class FigureBlock:
    """A figure with its title, legend and explanation."""

    title: str
    svg: Markup
    keys: list[Key]
    caption: str = ""


def loss_terms(log: list[dict[str, Any]]) -> list[str]:
    """Name the terms of the loss in a training log, the total first."""
    names: dict[str, None] = {}
    for entry in log:
        figures = [name for name in entry.get("train", {}) if not name.startswith("share_")]
        names.update(dict.fromkeys(name for name in figures if name not in NOT_A_TERM))
    terms = sorted(names, key=lambda n: n != "loss")
    series = [_series(log, "train", term) for term in terms]
    if len(terms) == 2 and np.allclose(series[0], series[1], equal_nan=True):
        return terms[1:]  # the only term is the total
    return terms


def draw_loss(system: TrainedSystem) -> FigureBlock:
    """Draw every term of a system's training loss, on a logarithmic axis where all are positive."""
    terms, n = loss_terms(system.log), len(TERM_COLOURS)
    values = {t: _series(system.log, "train", t) for t in terms}
    finite = np.concatenate([v[np.isfinite(v)] for v in values.values()] or [np.array([])])

    def draw(axes: Axes) -> None:
        for index, term in enumerate(terms):
            style = index % n
            _line(axes, system.log, values[term], TERM_COLOURS[style], TERM_DASHES[style])
        if len(finite) and finite.min() > 0:
            axes.set_yscale("log")
            decades = math.log10(finite.max() / finite.min())
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        _epochs(axes)

    keys = [
        Key("total" if t == "loss" else t, TERM_COLOURS[i % n], TERM_KEYS[i % n])
        for i, t in enumerate(terms)
    ]
    title = f"Loss of the {system.role}"
    return FigureBlock(title, _figure(f"loss-{system.role}", title, draw), keys)


def draw_curve(
    name: str, title: str, systems: list[TrainedSystem], part: str, key: str, scale: float = 100.0
) -> FigureBlock:
    """Draw one logged quantity of several systems over the epochs.

    Arguments
    ---------
    name : str
        Of the figure, for its ids.
    title : str
        What is drawn, with the unit.
    systems : list of TrainedSystem
        One line each; those without a log are left out.
    part, key : str
        Where in an epoch's entry the number is, e.g. ``"valid"``, ``"eer"``.
    scale : float
        What the number is multiplied by: 100 makes per cent of a fraction.

    Returns
    -------
    FigureBlock
        The best of the figure by which weights are chosen is marked; so is the share of
        distillation to reach.
    """
    drawn = [s for s in systems if s.log]

    def draw(axes: Axes) -> None:
        for system in drawn:
            values = _series(system.log, part, key) * scale
            _line(axes, system.log, values, system.role, DASHES[system.role])
            figure = selecting_figure(system.log)
            if figure and key == figure.key and (best := best_epoch(system.log)):
                (circle,) = axes.plot(best["epoch"], best["valid"][key] * scale, "o")
                circle.set(ms=9, mfc="none", mew=2, color=COLOURS[system.role])
        if key == "share":
            axes.axhline(
                WANTED_SHARE, color=COLOURS["warning"], linestyle=(0, (3, 3)), linewidth=1.75
            )
            axes.set_ylim(0, max(axes.get_ylim()[1], WANTED_SHARE * 1.25))
        else:
            axes.set_ylim(bottom=0)
        _epochs(axes)

    keys = [_role_key(s.role) for s in drawn]
    if key == "share":
        keys.append(Key(f"wanted: at least {WANTED_SHARE} %", "warning", "dashed"))
    return FigureBlock(title, _figure(name, title, draw), keys)


def draw_det(name: str, scores: dict[str, Score]) -> FigureBlock:
    """Draw several systems' detection error trade-off, both axes in normal deviates."""
    # No curve can be read below one error in all trials of a kind.
    low = min(1 / max(s.targets, s.nontargets, 1) for s in scores.values())
    low = min(max(low, 1e-4), 0.01)
    high = 0.6

    def draw(axes: Axes) -> None:
        for role, score in scores.items():
            alarm, miss = (
                np.clip(np.asarray(v, float), low / 2, 0.999)
                for v in (score.false_alarm, score.miss)
            )
            axes.plot(_deviate(alarm), _deviate(miss), color=COLOURS[role], linestyle=DASHES[role])
            point = _deviate(np.array([min(max(score.eer / 100, low), 0.999)]))
            axes.plot(point, point, "o", ms=8, color=COLOURS[role])
        limits = _deviate(np.array([low, high]))
        ticks = [t for t in DET_TICKS if low <= t <= high]
        axes.plot(limits, limits, color=COLOURS["muted"], linewidth=1)
        for axis, limit in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
            axis.set_major_locator(FixedLocator(_deviate(np.array(ticks)).tolist()))
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * NormalDist().cdf(v):.3g}"))
            limit(*limits)
        axes.set_aspect("equal")
        axes.set_xlabel("false alarms, %")
        axes.set_ylabel("misses, %")

    title = "Detection error trade-off"
    keys = [_role_key(role) for role in scores]
    return FigureBlock(title, _figure(name, title, draw, height=360), keys)


def draw_histogram(name: str, role: str, score: Score) -> FigureBlock:
    """Draw target and nontarget scores, each as a density, with the threshold of equal error."""

    def draw(axes: Axes) -> None:
        edges = np.asarray(score.edges, float)
        for counts, colour in ((score.nontarget, "muted"), (score.target, role)):
            total = max(float(np.sum(counts)), 1.0)
            density = np.asarray(counts, float) / (total * np.diff(edges))
            axes.stairs(density, edges, fill=True, color=COLOURS[colour], alpha=0.28, linewidth=0)
            axes.stairs(density, edges, color=COLOURS[colour], linewidth=2)
        axes.axvline(score.threshold, color=COLOURS["ink"], linestyle=(0, (3, 3)), linewidth=1.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("score")

    title = f"Scores of the {role}"
    keys = [Key("same speaker", role, "solid"), Key("different speakers", "muted", "solid")]
    keys.append(Key(f"threshold of equal error, {score.threshold:.3f}", "ink", "dashed"))
    return FigureBlock(title, _figure(name, title, draw), keys)


def draw_reliability(name: str, scores: dict[str, Score]) -> FigureBlock | None:
    """Draw what log-likelihood ratios say beside what was found, where scores are calibrated."""
    tables = {
        role: score.calibrated["reliability"]
        for role, score in scores.items()
        if score.calibrated and score.calibrated["reliability"]["said"]
    }
    if not tables:
        return None

    def draw(axes: Axes) -> None:
        points = [
            value for table in tables.values() for k in ("said", "found") for value in table[k]
        ]
        ends = [min(points), max(points)]
        axes.plot(ends, ends, color=COLOURS["muted"], linewidth=1)
        for role, table in tables.items():
            axes.plot(table["said"], table["found"], color=COLOURS[role], linestyle=DASHES[role])
        axes.set_xlabel("log-likelihood ratio said")
        axes.set_ylabel("found")

    keys = [_role_key(role) for role in tables]
    title = "Calibrated scores beside what was found"
    return FigureBlock(title, _figure(name, title, draw, height=320), keys)


def draw_conditions(name: str, card: dict[str, Any]) -> FigureBlock:
    """Draw the error rate of a list under each condition, by the sides that are changed."""
    rows, tones = card["rows"], dict(zip(SIDES, ("student", "ink"), strict=True))

    def draw(axes: Axes) -> None:
        axes.axvline(rows[0]["both"]["eer"], color=COLOURS["muted"], linewidth=1)
        for side, tone in tones.items():
            places = [place for place, row in enumerate(rows) if side in row]
            eers = [rows[place][side]["eer"] for place in places]
            axes.plot(eers, places, "o", ms=6, color=COLOURS[tone])
        axes.set_yticks(range(len(rows)), [condition_name(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("EER, %")

    title = "Equal error rate under conditions"
    keys = [Key(f"{SIDES[side]} changed", tone, "solid") for side, tone in tones.items()]
    height = 90 + 24 * len(rows)
    return FigureBlock(title, _figure(name, title, draw, height), keys)


def draw_projection(role: str, projection: Projection) -> FigureBlock:
    """Draw embeddings in two dimensions, coloured by speaker."""

    def draw(axes: Axes) -> None:
        for index in range(len(projection.speakers)):
            own = projection.points[projection.speaker == index]
            colour = COLOURS[f"speaker-{index % SPEAKER_COLOURS}"]
            face = "none" if index >= SPEAKER_COLOURS else colour
            axes.plot(
                own[:, 0], own[:, 1], "o", ms=6, mec=colour, mfc=face, mew=1.75, linestyle="none"
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.05)
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(COLOURS["rule"])

    title = f"Embeddings of the {role}"
    return FigureBlock(title, _figure(f"projection-{role}", title, draw, height=340), [])


def _figure(name: str, title: str, draw: Callable[[Axes], None], height: int = HEIGHT) -> Markup:
    with matplotlib.rc_context(STYLE):
        figure = new_figure(height)
        draw(figure.subplots())
        return to_svg(figure, name, title)


def _series(log: list[dict[str, Any]], part: str, key: str) -> np.ndarray:
    # An epoch without the number leaves a gap in its line.
    values = [entry.get(part, {}).get(key) for entry in log]
    return np.array([math.nan if v is None else float(v) for v in values])


def _line(
    axes: Axes, log: list[dict[str, Any]], values: np.ndarray, colour: str, dash: Any
) -> None:
    marker = "o" if len(log) == 1 else None
    epochs = [entry["epoch"] for entry in log]
    axes.plot(epochs, values, color=COLOURS[colour], linestyle=dash, marker=marker)


def _epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("epoch")


def _deviate(probability: np.ndarray) -> np.ndarray:
    normal = NormalDist()
    return np.array([normal.inv_cdf(p) for p in np.clip(probability, 1e-9, 1 - 1e-9)])


def _role_key(role: str) -> Key:
    return Key(role, role, {"teacher": "dashed", "student": "solid", "fusion": "dotted"}[role])
