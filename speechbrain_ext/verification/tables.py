"""What evaluate.py shows and writes for people to read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.decisions import FALSE_ALARMS
from speechbrain_ext.errors import UserError, brought_by
from speechbrain_ext.files import atomic_path
from speechbrain_ext.verification import draws
from speechbrain_ext.verification.metrics import PRIORS
from speechbrain_ext.verification.plots import DetCurve, det_plot, save_figure
from speechbrain_ext.verification.score_norm import COSINE

with brought_by("train"):
    from rich.box import SIMPLE
    from rich.table import Table

AT_ONE = f"false_alarm_{FALSE_ALARMS[0]:g}"
HEADINGS = ("EER %", "95 % interval", *(f"minDCF {prior}" for prior in PRIORS))
CALIBRATED_HEADINGS = (
    *(f"actDCF {prior}" for prior in PRIORS),
    "Cllr",
    "min Cllr",
    "false alarms % at 1 %",
    "misses % there",
)
NO_INTERVAL = (
    "No interval where the names do not tell the speakers: it needs names whose first part is "
    f"shared by every target pair and by no non-target pair. {draws.NO_INTERVAL}"
)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results in ``results/``, by name.

    Raises
    ------
    UserError
        When one cannot be read.
    """
    results = []
    for path in sorted((folder / "results").glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            cells_of(result)
            results.append({"list": "", "det": None, "scores": COSINE, **result})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is no result of evaluate.py ({error!r}): remove it and run again.",
                code="damaged-file",
            ) from None
    return results


def terminal_table(results: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The figures of the lists as a table for the terminal."""
    table = Table("trials", title=title, box=SIMPLE)
    for heading in HEADINGS:
        table.add_column(heading.replace("minDCF ", "minDCF\n"), justify="right", no_wrap=True)
    for result in results:
        table.add_row(result["title"], *cells_of(result))
    return table


def write_results_page(
    folder: Path, results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], system: str
) -> None:
    """Write ``RESULTS.md`` and the DET plot of all lists that it shows.

    Arguments
    ---------
    folder : Path
        Where they go.
    results : sequence of mappings
        From :func:`read_results`.
    facts : mapping
        What the embeddings were made with.
    system : str
        Name of the model.
    """
    curves = [
        DetCurve(
            result["title"], result["det"]["false_alarm"], result["det"]["miss"],
            result["eer"] / 100,
        )
        for result in results
    ]  # fmt: skip
    save_figure(det_plot(curves, system), folder / "plots" / "det_of_all_lists")
    lists = [result for result in results if result["scores"] == COSINE]
    columns = ("trials", "targets", "non-targets", "utterances", *HEADINGS, "threshold")
    lines = [
        f"# {system} on {len(lists)} trial list{'s' if len(lists) > 1 else ''}",
        "",
        f"Model `{facts['model']}`, weights `{facts['weights_sha256'][:16]}`, view "
        f"`{facts['view']}`. Scores are cosines where no norm is named; the threshold is that of "
        "the equal error rate.",
        "",
    ]
    rows = []
    for result in results:
        counts = [f"{result[key]:,}" for key in ("targets", "nontargets", "utterances")]
        cells = [result["title"], *counts, *cells_of(result), f"{result['eer_threshold']:.4f}"]
        rows.append(cells)
    lines.append(markdown_table(columns, rows))
    if any(result["eer_interval_95"] is None for result in results):
        lines += ["", NO_INTERVAL]
    calibrated = [result for result in results if result.get("calibrated")]
    if calibrated:
        rows = [[each["title"], *calibrated_cells(each["calibrated"])] for each in calibrated]
        lines += ["", calibration_note(calibrated), ""]
        lines.append(markdown_table(("trials", *CALIBRATED_HEADINGS), rows))
    normalized = [result for result in results if result["scores"] != COSINE]
    if normalized:
        lines += ["", "How scores are normalised, and the cohort:", ""]
        lines += [f"- {r['title']}: {r['scores']}, `{r['cohort']}`" for r in normalized]
    lines += ["", "![DET curves](plots/det_of_all_lists.svg)", ""]
    lines += ["The lists, and where they and their audio were:", ""]
    lines += [f"- {result['title']}: `{result['list']}`, `{result['root']}`" for result in lists]
    with atomic_path(folder / "RESULTS.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_earlier(folder: Path, lists: Sequence[os.PathLike[str]]) -> None:
    """Refuse a list whose name another list's results have.

    Raises
    ------
    UserError
        When ``results/`` holds the results of another list of that name.
    """
    before = {Path(result["list"]).stem: result["list"] for result in read_results(folder)}
    for path in lists:
        earlier = before.get(Path(path).stem)
        if earlier is not None and earlier != os.path.abspath(path):
            raise UserError(
                f"{folder} holds the results of {earlier}, and those of {path} would be filed "
                "under the same name: rename the list, or choose another --out.",
                code="repeated-name",
            )


def cells_of(result: Mapping[str, Any]) -> list[str]:
    """Error rate, its interval or a dash, and costs of a result, as text."""
    interval = result["eer_interval_95"]
    return [
        f"{result['eer']:.2f}",
        "-" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        *(f"{result['min_dcf'][str(prior)]['value']:.3f}" for prior in PRIORS),
    ]


def calibrated_cells(calibrated: Mapping[str, Any], intervals: bool = True) -> list[str]:
    """What calibrated scores cost, and the rates at the threshold of 1 % false alarms, as text.

    Arguments
    ---------
    calibrated : mapping
        From :func:`~speechbrain_ext.verification.calibrated.measure_calibrated`.
    intervals : bool
        Whether the costs have theirs; the rates have them always.
    """
    *costs, false_alarm, miss = calibrated_figures(calibrated)
    cells = [with_interval(cost, 1.0, 3, intervals) for cost in costs]
    return cells + [with_interval(rate, 100.0, 2) for rate in (false_alarm, miss)]


def calibrated_figures(calibrated: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The ``value`` and the ``interval_95`` below each of ``CALIBRATED_HEADINGS``."""
    found = next(
        point["found"] for point in calibrated["operating_points"] if point["name"] == AT_ONE
    )
    costs = [calibrated["act_dcf"][str(prior)] for prior in PRIORS]
    least = {"value": calibrated["min_cllr"], "interval_95": None}
    return [*costs, calibrated["cllr"], least, found["false_alarm"], found["miss"]]


def with_interval(figure: Mapping[str, Any], scale: float, digits: int, shown: bool = True) -> str:
    """A figure ``value`` as text, and behind it its ``interval_95`` where it has one.

    Example
    -------
    >>> with_interval({"value": 0.031, "interval_95": [0.02, 0.045]}, 100.0, 1)
    '3.1 [2.0, 4.5]'
    """
    numbers = [
        f"{scale * each:.{digits}f}" for each in (figure["value"], *(figure["interval_95"] or ()))
    ]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if shown and numbers[1:] else numbers[0]


def calibrated_table(results: Sequence[Mapping[str, Any]], naming: Mapping[str, str]) -> Table:
    """The figures of calibrated scores as a table for the terminal.

    Arguments
    ---------
    results : sequence of mappings
        Those that are not calibrated are left out.
    naming : mapping of str to str
        The headings of the first columns, and the keys of the results that they show.
    """
    table = Table(*naming, title="Calibrated", box=SIMPLE)
    for heading in CALIBRATED_HEADINGS:
        table.add_column(heading.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for result in results:
        if result.get("calibrated"):
            cells = calibrated_cells(result["calibrated"], intervals=False)
            table.add_row(*(result[key] for key in naming.values()), *cells)
    return table


def calibration_note(results: Sequence[Mapping[str, Any]]) -> str:
    """What calibrated scores were fitted on, in a sentence or two; empty where there are none."""
    fits = [result["calibrated"] for result in results if result.get("calibrated")]
    if not fits:
        return ""
    fitted = fits[0]["fitted_on"]
    point = next(each for each in fits[0]["operating_points"] if each["name"] == AT_ONE)
    text = (
        f"Calibration and thresholds are fitted on {fitted['title']}: {fitted['targets']:,} target "
        f"and {fitted['nontargets']:,} non-target trials of {fitted['speakers']:,} speakers. "
        f"{point['trials']:,} false alarms stand behind the threshold of 1 %"
        + ("." if point["supported"] else ", which so few do not support.")
    )
    trials = ("title", "targets", "nontargets", "speakers")
    if len({tuple(fit["fitted_on"][key] for key in trials) for fit in fits}) > 1:
        text += " That of other scores here is of other trials: score all again to compare them."
    if any(fit["cross_validated"] for fit in fits):
        text += (
            " The log-likelihood ratios of these very trials are cross-validated: each is of a fit "
            "without its speakers. The rates at thresholds are not."
        )
    return text


def markdown_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True
) -> str:
    """Draw a Markdown table.

    Arguments
    ---------
    headings : sequence of str
        One a column.
    rows : sequence of sequences of str
        The cells.
    numbers : bool
        Whether all columns but the first stand to the right.

    Returns
    -------
    str
        Lines without an end of line after the last.

    Example
    -------
    >>> print(markdown_table(["System", "EER %"], [["v2", "8.02"]]))
    | System | EER % |
    | --- | ---: |
    | v2 | 8.02 |
    """
    rule = ["---"] + ["---:" if numbers else "---"] * (len(headings) - 1)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in (headings, rule, *rows)
    )
