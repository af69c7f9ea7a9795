"""The table of results: the same in the terminal, in Markdown, in HTML and, as numbers, in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from speechbrain_ext.report.records import Experiment, MeasuredSpeed, Score, TrainedSystem
from speechbrain_ext.terminal import print_table, width_of
from speechbrain_ext.verification.draws import NO_INTERVAL
from speechbrain_ext.verification.metrics import PRIORS
from speechbrain_ext.verification.tables import markdown_table

NOT_MEASURED = "not measured"
NONE = "–"
SIZE_COLUMNS = ("Parameters", "MACs per utterance", "Utterances/s", "Relative speed")
SCORE_COLUMNS = ("EER % [95\u00a0%]", *(f"minDCF ({prior})" for prior in PRIORS))


@dataclass(frozen=True)
class ResultsTable:
    """Cells as text.

    ``groups`` are the trial lists' titles, ``columns`` all headings (``sizes`` size columns, then
    the score columns once a group), ``rows`` one list of cells a system, ``roles`` their kinds in
    this order.
    """

    title: str
    groups: list[str]
    sizes: int
    columns: list[str]
    rows: list[list[str]]
    roles: list[str]
    notes: list[str]

    def headings(self, separator: str) -> list[str]:
        """Give one heading a column, preceded by its trial list where there are several."""
        first = 1 + self.sizes
        names = [""] * first + [g for g in self.groups for _ in SCORE_COLUMNS]
        several = len(self.groups) > 1
        return [
            f"{g}{separator}{c}" if g and several else c
            for g, c in zip(names, self.columns, strict=True)
        ]


def build_table(experiment: Experiment) -> ResultsTable:
    """Lay out all systems on all trial lists of an experiment."""
    titles = [experiment.student.scores[name].title for name in experiment.lists]
    systems = systems_of(experiment)
    # Alone, the student is compared with nothing.
    sizes = SIZE_COLUMNS if len(systems) > 1 else SIZE_COLUMNS[:-1]
    rows = []
    for role, name, speed in systems:
        scores = [experiment.rows(trials).get(role) for trials in experiment.lists]
        cells = [cell for score in scores for cell in _score_cells(score)]
        rows.append([name, *_size_cells(role, speed, experiment)[: len(sizes)], *cells])
    return ResultsTable(
        title=f"Trials: {', '.join(titles)}. Corpus: {experiment.corpus.described}",
        groups=titles,
        sizes=len(sizes),
        columns=["System", *sizes, *(c for _ in titles for c in SCORE_COLUMNS)],
        rows=rows,
        roles=[role.partition(",")[0] for role, _, _ in systems],
        notes=_notes(experiment),
    )


def eer_cell(score: Score) -> str:
    """Write an EER and its interval, where it has one."""
    interval = " [{:.2f}, {:.2f}]".format(*score.interval) if score.interval else ""
    return f"{score.eer:.2f}{interval}"


def to_markdown(table: ResultsTable) -> str:
    """Write the table as Markdown, without its title and notes."""
    return markdown_table(table.headings(": "), table.rows)


def show_table(table: ResultsTable) -> None:
    """Print the table; where it is too wide, systems become columns, so that no cell is broken."""
    lines = [[_fold(h) for h in table.headings("\n")], *table.rows]
    view = _view(table.title, lines)
    console = Console()
    if width_of(view) > console.width:
        lines = [table.headings(": "), *table.rows]
        columns = [list(column) for column in zip(*lines, strict=True)]
        columns[0] = [_fold(name) for name in columns[0]]
        view = _view(table.title, columns)
    print_table(view)
    for note in table.notes:
        console.print(escape(note), style="dim", highlight=False)


def to_numbers(experiment: Experiment) -> dict[str, Any]:
    """Give the same results as numbers: EER in percent, speeds in utterances per second."""
    systems = []
    for role, name, speed in systems_of(experiment):
        entry: dict[str, Any] = {"role": role, "name": name}
        if speed is not None:
            entry["parameters"] = speed.parameters
            entry["macs_per_utterance"] = speed.macs
            entry["utterances_per_second"] = speed.utterances_per_second
            entry["relative_speed"] = speed.relative
        entry["trials"] = {
            trials: {
                "eer": score.eer,
                "eer_interval_95": list(score.interval) if score.interval else None,
                "min_dcf": score.min_dcf,
                "calibrated": calibrated_numbers(score),
            }
            for trials in experiment.lists
            for score in [experiment.rows(trials).get(role)]
            if score is not None
        }
        systems.append(entry)
    corpus = experiment.corpus
    return {
        "corpus": corpus.name,
        "title": corpus.title,
        "synthetic": corpus.synthetic,
        "trials": {
            name: {"title": score.title, "targets": score.targets, "nontargets": score.nontargets}
            for name in experiment.lists
            for score in [experiment.student.scores[name]]
        },
        "systems": systems,
    }


def calibrated_numbers(score: Score) -> dict[str, Any] | None:
    """What was measured of calibrated scores, without the points of its figure."""
    if score.calibrated is None:
        return None
    return {key: value for key, value in score.calibrated.items() if key != "reliability"}


def giga(operations: float) -> str:
    """Write a count of operations in thousands of millions.

    Example
    -------
    >>> giga(1_071_000_000), giga(487_000_000)
    ('1.07 G', '0.487 G')
    """
    return f"{operations / 1e9:.3g} G"


def _view(title: str, lines: list[list[str]]) -> Table:
    view = Table(
        title=escape(title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, heading in enumerate(lines[0]):
        # Only the first column may be broken over lines.
        justify: Literal["left", "right"] = "right" if index else "left"
        view.add_column(escape(heading), justify=justify, no_wrap=index > 0, overflow="fold")
    for line in lines[1:]:
        view.add_row(*(escape(cell) for cell in line))
    return view


def systems_of(experiment: Experiment) -> list[tuple[str, str, MeasuredSpeed | None]]:
    """Role, name and speed of each row of the table."""
    rows: list[tuple[str, str, MeasuredSpeed | None]] = []
    for system in experiment.systems:
        rows.append((system.role, _named(system), system.speed(experiment.benchmark)))
        for norm in {score.norm for score in system.normalized.values()}:  # one at most
            rows.append((f"{system.role}, normalized", f"{system.role}, {norm}", None))
    if experiment.fusion:
        rows.append(("fusion", "fusion of both", None))
    if experiment.enrolled:
        rows.append(("enrolled", "the teacher enrols, the student verifies", None))
    speed = experiment.teacher_speed
    if experiment.source is not None and speed is not None:
        rows.insert(0, ("teacher", f"teacher ({experiment.source})", speed))
    return rows


def _named(system: TrainedSystem) -> str:
    return system.role if system.name == system.role else f"{system.role} ({system.name})"


def _fold(heading: str) -> str:
    return "\n".join(heading.rsplit(" ", 1))


def _size_cells(role: str, speed: MeasuredSpeed | None, experiment: Experiment) -> Sequence[str]:
    if role == "enrolled" or role.endswith(", normalized"):
        return (NONE,) * 4  # to verify it is the student; to normalise takes no network
    if role == "fusion":
        both = [s.speed(experiment.benchmark) for s in experiment.systems]
        known = [s for s in both if s is not None]
        if len(known) < 2:
            return (NONE,) * 4
        # Both networks run on every utterance: sizes and operations add up.
        return *_sizes(known), NONE, NONE
    if speed is None:
        return (NOT_MEASURED,) * 4
    return (
        *_sizes([speed]),
        f"{speed.utterances_per_second:.1f}",
        f"{speed.relative:.2f} ×",
    )


def _sizes(speeds: Sequence[MeasuredSpeed]) -> tuple[str, str]:
    """Parameters and operations of networks together; a dash where one of them is not known."""
    parameters = [speed.parameters for speed in speeds if speed.parameters is not None]
    macs = [speed.macs for speed in speeds if speed.macs is not None]
    if len(parameters) < len(speeds) or len(macs) < len(speeds):
        return NONE, NONE
    return f"{sum(parameters):,}", giga(sum(macs))


def _score_cells(score: Score | None) -> list[str]:
    if score is None:
        return [NONE] * len(SCORE_COLUMNS)
    costs = (f"{score.min_dcf[str(prior)]:.3f}" for prior in PRIORS)
    return [eer_cell(score), *costs]


def _difference(score: Score) -> list[str]:
    if score.difference is None:
        return []
    value, bounds = score.difference
    interval = " [{:+.2f}, {:+.2f}]".format(*bounds) if bounds else ""
    return [f"{value:+.2f}{interval} points on {score.title}"]


def _notes(experiment: Experiment) -> list[str]:
    notes = []
    differences = [text for score in experiment.fusion.values() for text in _difference(score)]
    if differences:
        notes.append(
            "The student's EER less the teacher's, with its 95 % interval over speakers: "
            f"{'; '.join(differences)}."
        )
    scales = {score.scale for system in experiment.systems for score in system.normalized.values()}
    notes += [f"{scale}." for scale in sorted(scales)]
    if experiment.corpus.synthetic:
        notes.append(
            f"The corpus {experiment.corpus.name} is synthetic speech: its figures show that the "
            "recipe works, not how well it does on human voices."
        )
    scores = [score for name in experiment.lists for score in experiment.scores(name).values()]
    if any(score.interval is None for score in scores):
        notes.append(NO_INTERVAL)
    if experiment.set == "valid":
        notes.append(
            "The corpus has no test list: these are the trials the best epoch was chosen on."
        )
    benchmark = experiment.benchmark
    if benchmark is None:
        notes.append("Size and speed were not measured (stage 5).")
    else:
        threads = f"{benchmark.threads} thread{'s' if benchmark.threads != 1 else ''}"
        speed = (
            f"Speed: of the networks alone, median of {benchmark.rounds} rounds on "
            f"{benchmark.device} with {threads}, batches of {benchmark.batch} × "
            f"{benchmark.seconds_of_speech:g} s."
        )
        if experiment.fusion:
            speed += (
                " Fusion runs both networks: sizes and operations add up; its speed was not"
                " measured."
            )
        notes.append(speed)
    if experiment.source is not None:
        notes.append(
            f"The teacher, {experiment.source}, is taken as it is and has no speaker embedding of "
            "its own: there is nothing of it to score or to fuse with."
        )
    return notes
