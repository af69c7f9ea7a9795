"""Drawings of verification results: DET curves, score histograms, reliability of calibrated scores.

Figures are made without pyplot, so drawing needs no display and leaves no global state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.errors import brought_by
from speechbrain_ext.files import atomic_path
from speechbrain_ext.verification.score_norm import COSINE

with brought_by("train"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from scipy.stats import norm

# Okabe and Ito's colours, told apart by most colour-blind readers; line styles help the others.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_LINES = ("-", "--", "-.", ":")
_TARGET, _NONTARGET, _GREY = "#0072b2", "#d55e00", "#666666"
_TICKS = np.array(
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99]
)


@dataclass(frozen=True, eq=False)
class DetCurve:
    """One line of a DET plot.

    Arguments
    ---------
    name : str
        The system, for the legend.
    false_alarm, miss : sequence of float
        (P,) each, shares in 0..1, as :meth:`ErrorRates.curve` gives them.
    eer : float
        Equal error rate in 0..1, marked on the diagonal.
    """

    name: str
    false_alarm: Sequence[float] | np.ndarray
    miss: Sequence[float] | np.ndarray
    eer: float


def det_plot(curves: Sequence[DetCurve], title: str, subtitle: str = "") -> Figure:
    """Draw detection error trade-off curves; on probit axes, normal scores give straight lines.

    Arguments
    ---------
    curves : sequence of DetCurve
        The systems, at least one.
    title, subtitle : str
        What was tested; the subtitle is the place for the corpus and for "synthetic".

    Returns
    -------
    Figure
        For :func:`save_figure`.

    Raises
    ------
    ValueError
        When there is no curve.

    Example
    -------
    >>> curve = DetCurve("v2", [0.5, 0.1, 0.01], [0.01, 0.1, 0.5], eer=0.1)
    >>> det_plot([curve], "mini test").axes[0].get_xlabel()
    'False alarms (%)'
    """
    if not curves:
        raise ValueError("a DET plot needs at least one curve")
    figure = Figure(figsize=(6.0, 6.2), layout="constrained")
    axes = figure.add_subplot()
    low, high = _limits(curves)
    axes.plot(norm.ppf([low, high]), norm.ppf([low, high]), color="#bbbbbb", linewidth=0.8)
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(
            _probit(curve.false_alarm),
            _probit(curve.miss),
            color=colour,
            linestyle=_LINES[number % len(_LINES)],
            linewidth=1.8,
            label=f"{curve.name}: EER {100 * curve.eer:.2f} %",
        )
        if low <= curve.eer <= high:
            point = norm.ppf(curve.eer)
            axes.plot(point, point, "o", color=colour, markersize=5, markeredgecolor="white")
    ticks = _TICKS[(_TICKS >= 100 * low - 1e-9) & (_TICKS <= 100 * high + 1e-9)]
    places, names = norm.ppf(ticks / 100), [f"{tick:g}" for tick in ticks]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.tick_params(labelsize=8)
    axes.set_xlim(*norm.ppf([low, high]))
    axes.set_ylim(*norm.ppf([low, high]))
    axes.set_aspect("equal")
    axes.set_xlabel("False alarms (%)")
    axes.set_ylabel("Misses (%)")
    axes.legend(loc="upper right", fontsize="small")
    _dress(axes, title, subtitle)
    return figure


def histogram_plot(
    edges: Sequence[float] | np.ndarray,
    target: Sequence[int] | np.ndarray,
    nontarget: Sequence[int] | np.ndarray,
    title: str,
    subtitle: str = "",
    threshold: float | None = None,
    scale: str = COSINE,
) -> Figure:
    """Draw how the scores of targets and of non-targets are spread, each as a share of its kind.

    Arguments
    ---------
    edges : sequence of float
        (B + 1,) borders of the bins.
    target, nontarget : sequence of int
        (B,) each, number of trials in each bin.
    title, subtitle : str
        As for :func:`det_plot`.
    threshold : float, optional
        Score at the equal error rate, drawn as a line.
    scale : str
        What the scores are.

    Returns
    -------
    Figure
        For :func:`save_figure`.

    Example
    -------
    >>> histogram_plot([0.0, 0.5, 1.0], [1, 9], [80, 20], "mini test").axes[0].get_xlabel()
    'Score: cosine'
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    borders = np.asarray(edges, dtype=np.float64)
    for counts, colour, name in (
        (nontarget, _NONTARGET, "different speakers"),
        (target, _TARGET, "same speaker"),
    ):
        numbers = np.asarray(counts)
        total = int(numbers.sum())
        axes.stairs(
            100.0 * numbers / max(total, 1),
            borders,
            fill=True,
            facecolor=(colour, 0.35),
            edgecolor=colour,
            linewidth=1.2,
            label=f"{name} ({total:,} trials)",
        )
    if threshold is not None:
        axes.axvline(
            threshold,
            color="black",
            linestyle="--",
            linewidth=1.0,
            label=f"threshold at the EER: {threshold:.3f}",
        )
    axes.set_xlabel(f"Score: {scale}")
    axes.set_ylabel("Share of the trials of a kind (%)")
    # Room above the bars, so that the legend hides none.
    axes.set_ylim(0.0, axes.get_ylim()[1] * 1.3)
    axes.legend(loc="upper right", fontsize="small", ncols=1)
    _dress(axes, title, subtitle)
    return figure


def reliability_plot(
    table: Mapping[str, Sequence[float]], title: str, subtitle: str = ""
) -> Figure:
    """Draw what log-likelihood ratios say beside what was found.

    Arguments
    ---------
    table : mapping
        ``said`` and ``found``, of :func:`~speechbrain_ext.verification.likelihood_ratios.\
reliability`.
    title, subtitle : str
        As for :func:`det_plot`.

    Returns
    -------
    Figure
        For :func:`save_figure`.

    Example
    -------
    >>> table = {"said": [-2.0, 2.0], "found": [-1.5, 1.5]}
    >>> reliability_plot(table, "mini test").axes[0].get_ylabel()
    'Log-likelihood ratio found'
    """
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.add_subplot()
    said, found = (np.asarray(table[name], dtype=np.float64) for name in ("said", "found"))
    ends = np.array([-8.0, 8.0])
    if len(said):
        ends = np.array([min(said.min(), found.min()), max(said.max(), found.max())])
    axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1.0, label="as they say")
    axes.plot(said, found, "o-", color=_TARGET, linewidth=1.8, markersize=5, label="found")
    axes.set_xlabel("Log-likelihood ratio said")
    axes.set_ylabel("Log-likelihood ratio found")
    axes.legend(loc="upper left", fontsize="small")
    _dress(axes, title, subtitle)
    return figure


def conditions_plot(
    rows: Sequence[Mapping[str, Any]], sides: Mapping[str, str], title: str, subtitle: str = ""
) -> Figure:
    """Draw the equal error rate under each condition, with its interval, by which side is changed.

    Arguments
    ---------
    rows : sequence of mappings
        ``group`` and ``name`` of a condition, and for each side ``eer`` and ``eer_interval_95`` in
        per cent; the first is of the recordings as they are, on ``both`` sides.
    sides : mapping of str to str
        The keys of the sides, and what each is called.
    title, subtitle : str
        As for :func:`det_plot`.

    Returns
    -------
    Figure
        For :func:`save_figure`.

    Example
    -------
    >>> figures = {"eer": 5.0, "eer_interval_95": [4.0, 6.0]}
    >>> rows = [{"group": "", "name": "as recorded", "both": figures}]
    >>> rows.append({"group": "Duration", "name": "1 s", "both": figures, "test": figures})
    >>> plot = conditions_plot(rows, {"both": "both sides", "test": "test side"}, "mini test")
    >>> plot.axes[0].get_xlabel()
    'Equal error rate (%)'
    """
    # A line for each condition, and half a one between groups.
    groups = [row["group"] for row in rows]
    gaps = np.cumsum([0.0, *(0.5 * (a != b) for a, b in pairwise(groups))])
    places = np.arange(len(rows)) + gaps
    figure = Figure(figsize=(6.4, 1.4 + 0.2 * (places[-1] + 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(rows[0]["both"]["eer"], color=_GREY, linestyle="--", linewidth=1.0)
    for number, (side, name) in enumerate(sides.items()):
        colour, shift = _COLOURS[number], 0.3 * (number - (len(sides) - 1) / 2)
        shown = [(place, row[side]) for place, row in zip(places, rows, strict=True) if side in row]
        for place, found in shown:
            if found["eer_interval_95"] is not None:
                ends = found["eer_interval_95"]
                axes.plot(ends, [place + shift] * 2, color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(
            [found["eer"] for _, found in shown],
            [place + shift for place, _ in shown],
            "os"[number % 2],
            color=colour,
            markersize=4,
            label=f"{name} changed",
        )
    axes.set_yticks(places, [condition_name(row) for row in rows], fontsize=8)
    axes.set_ylim(places[-1] + 0.8, -0.8)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("Equal error rate (%)")
    axes.legend(loc="lower right", fontsize="small")
    _dress(axes, title, subtitle)
    return figure


def condition_name(row: Mapping[str, Any]) -> str:
    """The group and the name of a condition in one.

    Example
    -------
    >>> condition_name({"group": "Duration", "name": "1 s"})
    'Duration, 1 s'
    """
    return f"{row['group']}, {row['name']}" if row["group"] else str(row["name"])


def save_figure(figure: Figure, stem: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write ``stem.png`` (150 dots per inch) and ``stem.svg``, free of dates.

    Returns
    -------
    tuple of Path
        The two files.

    Example
    -------
    >>> figure = det_plot([DetCurve("v2", [0.5, 0.1], [0.1, 0.5], eer=0.2)], "mini test")
    >>> [path.name for path in save_figure(figure, getfixture("tmp_path") / "test_det")]
    ['test_det.png', 'test_det.svg']
    """
    # The stem may hold dots ("vox1.o"), so the ending is added and not exchanged.
    png, svg = Path(f"{os.fspath(stem)}.png"), Path(f"{os.fspath(stem)}.svg")
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=150)
    with matplotlib.rc_context({"svg.hashsalt": "speechbrain_ext"}), atomic_path(svg) as temporary:
        figure.savefig(temporary, metadata={"Date": None})
    return png, svg


def _probit(rates: Sequence[float] | np.ndarray) -> np.ndarray:
    # An error of 0 or 1 lies at infinity; keep it far outside the frame instead.
    return norm.ppf(np.clip(np.asarray(rates, dtype=np.float64), 1e-9, 1.0 - 1e-9))


def _limits(curves: Sequence[DetCurve]) -> tuple[float, float]:
    """Corners of the square frame, in 0..1: ticks just around what the curves show."""
    # Beyond 50 % nothing is worth looking at, unless a system is that bad.
    worst = max(curve.eer for curve in curves)
    high = next((tick for tick in _TICKS[_TICKS >= 50] if tick >= 120 * worst), _TICKS[-1])
    points = np.concatenate([np.column_stack((c.false_alarm, c.miss)) for c in curves])
    shown = 100 * points[(points <= high / 100).all(axis=1)]
    least = min((rate for rate in shown.ravel() if rate > 0), default=0.1)
    low = max((tick for tick in _TICKS[_TICKS <= 10] if tick <= least), default=_TICKS[0])
    return float(low) / 100, float(high) / 100


def _dress(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", pad=20 if subtitle else 8)
    if subtitle:
        axes.annotate(
            subtitle,
            xy=(0.0, 1.0),
            xytext=(0.0, 6.0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=_GREY,
            fontsize="small",
        )
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
