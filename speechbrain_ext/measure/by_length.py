"""What an utterance costs by its length: tables, a CSV and a plot of the figures measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class Quantity(NamedTuple):
    """A column of the figures: its key, its name in tables, and the factor to the unit shown."""

    key: str
    name: str
    factor: float


TIME = Quantity("seconds", "Milliseconds an utterance", 1e3)
OPERATIONS = Quantity("macs", "GMACs an utterance", 1e-9)
MEMORY = Quantity("peak_bytes", "MiB of memory an utterance", 2.0**-20)
_LINES = ("-", "--", "-.", ":")


class LengthTable(NamedTuple):
    """Headings, the first of which names the quantity, and a line of cells a system."""

    headings: list[str]
    lines: list[list[str]]


def length_tables(figures: Mapping[str, Any]) -> list[LengthTable]:
    """Time, operations and, where it was measured, memory, each by length.

    Arguments
    ---------
    figures : mapping
        Those of :func:`speechbrain_ext.measure.speed.benchmark_lengths`.

    Returns
    -------
    list of LengthTable
        Where there are two lengths or more, the last column says how many times the last one costs
        as much as the one before: a cost in proportion to the length grows as the lengths do.

    Example
    -------
    >>> system = {"name": "v2", "seconds": [0.01, 0.07], "macs": [1e9, 6e9]}
    >>> for table in length_tables({"lengths": [10, 60], "systems": [system]}):
    ...     print(table.headings, *table.lines)
    ['Milliseconds an utterance', '10 s', '60 s', '60 s ÷ 10 s (in proportion: 6)'] ['v2', '10', '70', '7']
    ['GMACs an utterance', '10 s', '60 s', '60 s ÷ 10 s (in proportion: 6)'] ['v2', '1', '6', '6']
    """  # noqa: E501
    lengths, systems = figures["lengths"], figures["systems"]
    ends = [f"{length:g} s" for length in lengths]
    if len(lengths) > 1:
        ends.append(f"{ends[-1]} ÷ {ends[-2]} (in proportion: {lengths[-1] / lengths[-2]:.3g})")
    tables = []
    for key, name, factor in (TIME, OPERATIONS, MEMORY):
        known = [system for system in systems if _has(system, key)]
        lines = []
        for system in known:
            values = [factor * value for value in system[key]]
            if len(lengths) > 1:
                values.append(values[-1] / values[-2] if values[-2] else float("nan"))
            lines.append([system["name"], *map(_number, values)])
        if known:
            tables.append(LengthTable([name, *ends], lines))
    return tables


def lengths_csv(figures: Mapping[str, Any]) -> str:
    """One line a system and length: operations, seconds (median, fastest, slowest), memory."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["macs", "seconds", "seconds_fastest", "seconds_slowest", "peak_bytes"]
    writer.writerow(["system", "seconds_of_speech", *columns])
    for system in figures["systems"]:
        for index, length in enumerate(figures["lengths"]):
            seconds = [system["seconds"][index], *system["spread"][index]]
            peak = system["peak_bytes"][index] if "peak_bytes" in system else ""
            macs = system["macs"][index] if _has(system, "macs") else ""
            cells = [macs, *(f"{value:.6g}" for value in seconds), peak]
            writer.writerow([system["name"], f"{length:g}", *cells])
    return text.getvalue()


def length_figure(figures: Mapping[str, Any]) -> Figure:
    """Draw what a second of speech costs against the length, both axes logarithmic.

    A cost in proportion to the length is a level line, and one that grows faster bends upwards.

    Returns
    -------
    Figure
        For :func:`speechbrain_ext.verification.plots.save_figure`.
    """
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    panels = figure.subplots(1, 2)
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    lengths, systems = figures["lengths"], figures["systems"]
    for axes, quantity in zip(panels, (TIME, OPERATIONS), strict=True):
        drawn = []
        for index, system in enumerate(systems):
            if not _has(system, quantity.key):
                continue
            pairs = zip(system[quantity.key], lengths, strict=True)
            values = [quantity.factor * value / length for value, length in pairs]
            drawn.append(values)
            style = {"color": colours[index % 10], "linestyle": _LINES[index // 10 % 4]}
            axes.plot(lengths, values, marker=".", label=system["name"], **style)
        axes.set(xscale="log", yscale="log", xlabel="Seconds of speech in the utterance")
        axes.set_ylabel(quantity.name.replace("an utterance", "a second of speech"))
        axes.set_xticks(lengths, [f"{length:g}" for length in lengths])
        axes.set_xticks([], minor=True)
        if drawn:
            _plain_ticks(axes, [value for values in drawn for value in values])
        axes.grid(True, color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    threads = f", {figures['threads']} threads" if figures["device"] == "cpu" else ""
    figure.suptitle(
        f"Cost by length, one utterance at a time: {figures['device']}{threads}, FP32",
        fontsize="medium",
        fontweight="bold",
    )
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize="small", frameon=False)
    return figure


def _has(system: Mapping[str, Any], key: str) -> bool:
    """Whether a figure of a system is known: memory is on a GPU, operations are of no file."""
    return None not in system.get(key, [None])


def _plain_ticks(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values) / 1.3, max(values) * 1.3
    steps = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 1.5, 2, 3, 5, 7)]
    ticks = [step for step in steps if low <= step <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylim(low, high)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
