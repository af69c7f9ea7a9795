"""The table of the student's files for other engines: size, speed and error rate of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechbrain_ext.report.records import Experiment
from speechbrain_ext.report.table import eer_cell

#: What the precisions of an export are called among the engines of a benchmark.
PRECISIONS = {"fp32": "onnx", "int8": "int8"}
NAMES = {"eager": "PyTorch", "compile": "PyTorch, compiled", "onnx": "ONNX", "int8": "ONNX, INT8"}
NONE = "–"


def engine_table(experiment: Experiment) -> list[list[str]]:
    """Lay out every system in every engine; the first line has the headings.

    A file's error rate is followed by its difference to PyTorch's. No lines where stage 5 measured
    no engine.
    """
    engines = experiment.engines
    if engines is None:
        return []
    lists = {name: experiment.student.scores[name].title for name in experiment.lists}
    eers: dict[str, dict[str, str]] = {}
    for system in experiment.systems:
        found = {name: eer_cell(system.scores[name]) for name in lists}
        eers |= dict.fromkeys(system.names, found)
    first = {key: engines.rows[0][key] for key in ("threads", "batch", "seconds_of_speech")}
    shown = [row for row in engines.rows if first.items() <= row.items()]
    shown = [row for row in shown if row["input"] == "waveform"]
    fastest = {row["system"]: row for row in shown if row["engine"] == "eager"}
    several = len(lists) > 1
    headings = ["System", "Engine", "MB", "ms", "Real time", "Speed", "Peak MB"]
    headings += [f"EER % on {title}" if several else "EER %" for title in lists.values()]
    base = next(iter(fastest.values()))["median"]
    lines = [headings]
    for row in shown:
        found = {}
        if row["engine"] == "eager":
            found = dict(eers.get(row["system"], {}))
        elif row["system"] in experiment.student.names:
            found = _of_files(engines.files, row["engine"])
        peak, size = row["peak_mb"], row["bytes"]
        lines.append(
            [
                row["system"],
                NAMES[row["engine"]],
                NONE if size is None else f"{size / 1e6:.1f}",
                f"{1e3 * row['median']:.1f}",
                f"{row['real_time_factor']:.4f}",
                f"{base / row['median']:.1f} ×",
                NONE if peak is None else f"{peak:.0f}",
                *(found.get(name, NONE) for name in lists),
            ]
        )
    return lines


def _of_files(files: Sequence[Mapping[str, Any]], engine: str) -> dict[str, str]:
    """The EER of an exported file by trial list, and how far it is from PyTorch's."""
    for file in files:
        if PRECISIONS.get(file["precision"]) == engine:
            return {trials["trials"]: _words(trials) for trials in file["trials"]}
    return {}


def _words(trials: Mapping[str, Any]) -> str:
    interval = trials["interval_95"]
    between = "" if interval is None else " [{:.2f}, {:.2f}]".format(*interval)
    return f"{trials['eer']:.2f}{between} ({trials['difference']:+.2f})"
