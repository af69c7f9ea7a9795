"""EER against what a system costs, with the frontier of those that nothing beats at both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speechbrain_ext.compare.labels import place_labels

_FRONT, _OTHER, _GREY = "#d55e00", "#0072b2", "#666666"


@dataclass(frozen=True)
class Point:
    """A system: what it costs or gives, its EER (%) and the interval of that if it has one."""

    name: str
    x: float
    eer: float
    low: float | None = None
    high: float | None = None


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
    points: Sequence[Point], more_is_better: bool, x_label: str, title: str, subtitle: str
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
    axes.set_ylabel("EER (%), mean over seeds; bars: 95 % interval for other speakers")
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
