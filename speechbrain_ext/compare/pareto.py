"""EER against what a system costs, with the frontier of those that nothing beats at both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speechbrain_ext.compare.collect import Evidence, ListEvidence

# What a system costs: the column, the name, its unit, whether more is better, the axis.
COSTS = (
    ("utterances_per_second", "throughput", 1.0, True, "Utterances of 2 s a second, on the CPU"),
    ("parameters", "parameters", 1e6, False, "Million parameters"),
)
_FRONT, _OTHER, _GREY = "#d55e00", "#0072b2", "#666666"


@dataclass(frozen=True)
class Point:
    """A system: what it costs or gives, its EER (%) and the interval of that if it has one."""

    name: str
    x: float
    eer: float
    low: float | None = None
    high: float | None = None


def pareto_figures(evidence: Evidence, on: ListEvidence) -> dict[str, Figure]:
    """The plots of a trial list, one a cost that is known, by the name of their file."""
    corpus = evidence.corpus
    where = f"{on.title} of {corpus.described}"
    figures = {}
    for key, name, unit, more_is_better, label in COSTS:
        points = []
        for row in on.rows:
            if row.values.get(key) is not None:
                bounds = row.values.get("eer_low"), row.values.get("eer_high")
                points.append(Point(row.system, row.values[key] / unit, row.values["eer"], *bounds))
        if not points:
            continue
        if key == "utterances_per_second":
            label += f", {evidence.cost['threads']} threads"
        title = f"EER against {name}"
        figure = pareto_figure(points, more_is_better, label, title, where)
        figures[f"eer_{name}_{on.name}"] = figure
    return figures


def frontier(points: Sequence[Point], more_is_better: bool) -> list[Point]:
    """The points that no other equals or beats in both, beating it in one; by rising ``x``.

    Arguments
    ---------
    points : sequence of Point
        The systems.
    more_is_better : bool
        Whether a great ``x`` is good (throughput) or bad (parameters). A low EER is always good.

    Example
    -------
    >>> points = [Point("a", 1, 9, 8, 10), Point("b", 2, 9, 8, 10), Point("c", 3, 5, 4, 6)]
    >>> [point.name for point in frontier(points, more_is_better=False)]
    ['a', 'c']
    """
    sign = -1 if more_is_better else 1

    def beaten(point: Point) -> bool:
        own = (sign * point.x, point.eer)
        others = [(sign * other.x, other.eer) for other in points]
        return any(a <= own[0] and b <= own[1] and (a, b) != own for a, b in others)

    return sorted((point for point in points if not beaten(point)), key=lambda point: point.x)


def pareto_figure(
    points: Sequence[Point],
    more_is_better: bool,
    x_label: str,
    title: str,
    subtitle: str,
    y_label: str = "EER (%), mean over seeds; bars: 95 % interval for other speakers",
) -> Figure:
    """Draw the systems and the frontier, with their names in a column.

    Arguments
    ---------
    points : sequence of Point
        The systems, at least one.
    more_is_better : bool
        As for :func:`frontier`.
    x_label, title, subtitle : str
        What is on the axis, what was measured, and on what.
    y_label : str
        What is drawn in the EER's place, where something else is; low is good.

    Returns
    -------
    Figure
        For :func:`speechbrain_ext.verification.plots.save_figure`.
    """
    front = frontier(points, more_is_better)
    figure = Figure(figsize=(10.0, 8.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for point in points:
        best = point in front
        colour = _FRONT if best else _OTHER
        bar = [bound for bound in (point.low, point.high) if bound is not None]
        if best:  # those of the others would hide the names
            axes.plot([point.x] * len(bar), bar, color=colour, alpha=0.4, lw=1.5)
        axes.plot(point.x, point.eer, "o", color=colour, ms=7 if best else 5, zorder=3)
    _draw_frontier(axes, front, more_is_better)
    axes.margins(x=0.08, y=0.05)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _plain_ticks(axes, [point.x for point in points])
    axes.set_title(title, loc="left", fontweight="bold", pad=20)
    axes.annotate(
        subtitle, (0, 1), (0, 6), "axes fraction", "offset points", color=_GREY, fontsize="small"
    )
    axes.grid(True, color="#e4e4e4", linewidth=0.6, which="both")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    place_labels(
        axes,
        [(point.x, point.eer) for point in points],
        [point.name for point in points],
        [_FRONT if point in front else _GREY for point in points],
    )
    return figure


def _draw_frontier(axes: Axes, front: Sequence[Point], more_is_better: bool) -> None:
    """Steps: between two of its points one can have the worse EER, not the better."""
    axes.step(
        [point.x for point in front],
        [point.eer for point in front],
        where="pre" if more_is_better else "post",
        color=_FRONT,
        linewidth=1.2,
        linestyle="--",
        label="frontier",
    )
    axes.legend(loc="lower left", frameon=False)


def _plain_ticks(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    steps = [factor * 10.0**power for power in range(-2, 10) for factor in (1, 2, 5)]
    ticks = np.array([step for step in steps if 0.5 * low <= step <= 2 * high])
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(low / 1.25, high * 1.25)


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    colours: Sequence[str],
    size: float = 8.0,
) -> list[float]:
    """Write the names of points to the right of the axes, in the order of their height.

    Names beside the points themselves would cover one another where systems are much alike.

    Arguments
    ---------
    axes : Axes
        Its limits and scales are final; the vertical scale is linear.
    points : sequence of (float, float)
        Where the points are, in the axes' units.
    names, colours : sequence of str
        What is written, and in which colour.
    size : float
        Of the letters, in points.

    Returns
    -------
    list of float
        The height of every name, as a share of the axes'.
    """
    low, high = axes.get_ylim()
    wanted = [(y - low) / (high - low) for _, y in points]
    heights = spread(wanted, least=1 / max(len(points), 44))
    for point, height, name, colour in zip(points, heights, names, colours, strict=True):
        axes.annotate(
            name,
            point,
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=size,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.35,
                "linewidth": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 0,
                "shrinkB": 2,
            },
        )
    return heights


def spread(wanted: Sequence[float], least: float) -> list[float]:
    """Heights in [0, 1] in the order of those wanted, near them, at least so far apart.

    Example
    -------
    >>> [round(height, 2) for height in spread([0.5, 0.5, 0.1, 1.0], least=0.2)]
    [0.5, 0.7, 0.1, 1.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    heights = list(wanted)
    for before, index in zip(order, order[1:], strict=False):
        heights[index] = max(heights[index], heights[before] + least)
    ceiling = 1.0
    for index in reversed(order):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - least
    return heights
