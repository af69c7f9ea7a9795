"""RESULTS.md, results.csv and the plots of a comparison: collected, judged, rendered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechbrain_ext.compare.claims import Claim, judge
from speechbrain_ext.compare.collect import collect_evidence
from speechbrain_ext.compare.commands import Workplace
from speechbrain_ext.compare.page import LENGTHS, results_csv, results_page
from speechbrain_ext.compare.pareto import pareto_figures
from speechbrain_ext.compare.plan import Run
from speechbrain_ext.files import atomic_path
from speechbrain_ext.measure.by_length import length_figure, lengths_csv
from speechbrain_ext.verification.comparison import FUSED
from speechbrain_ext.verification.plots import save_figure


def write_results(
    workplace: Workplace,
    runs: Sequence[Run],
    claims: Sequence[Claim],
    command: str,
    may_measure: bool,
) -> Path:
    """Write everything that can be said of the finished runs.

    Arguments
    ---------
    workplace : Workplace
        Where the comparison lies.
    runs : sequence of Run
        All that belong to it, finished or not.
    claims : sequence of Claim
        To be held against the evidence.
    command : str
        The command line, for the page.
    may_measure : bool
        Whether speeds may be measured now.

    Returns
    -------
    Path
        ``RESULTS.md``.
    """
    fusions = [name for claim in claims for name in claim.systems if FUSED in name]
    evidence = collect_evidence(workplace, runs, fusions, may_measure)
    verdicts = judge(claims, evidence)
    plots = {on.name: pareto_figures(evidence, on) for on in evidence.tests}
    texts = {
        "results.csv": results_csv(evidence),
        "RESULTS.md": results_page(evidence, verdicts, plots, command),
    }
    figures = {stem: figure for own in plots.values() for stem, figure in own.items()}
    if evidence.cost.get("by_length"):
        texts[f"{LENGTHS}.csv"] = lengths_csv(evidence.cost["by_length"])
        figures[LENGTHS] = length_figure(evidence.cost["by_length"])
    for stem, figure in figures.items():
        save_figure(figure, workplace.folder / stem)
    for name, text in texts.items():
        with atomic_path(workplace.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return workplace.folder / "RESULTS.md"
