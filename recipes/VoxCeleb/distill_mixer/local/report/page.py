"""The report as one HTML page and as Markdown."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jinja2

from local.report.figures import (
    WANTED_SHARE,
    FigureBlock,
    curve_figure,
    det_figure,
    histogram_figure,
    loss_figure,
    projection_figure,
)
from local.report.projection import Projection, choose_speakers, load_vectors, project
from local.report.records import Corpus, Experiment, System
from local.report.svg import SPEAKER_COLOURS
from local.report.table import ResultsTable, giga, to_markdown

PACKAGES = ("torch", "torchaudio", "speechbrain", "numpy", "scikit-learn", "matplotlib")
# What decides a result, and the keys under which recipes keep it.
SETTINGS: dict[str, tuple[str, ...]] = {
    "network": ("embedding_model",),
    "distillation loss": ("distillation",),
    "α (weight of distillation)": ("alpha",),
    "reconstruction weight": ("reconstruction_weight",),
    "AAM margin, scale": ("margin", "scale"),
    "epochs": ("number_of_epochs",),
    "crops a batch": ("batch_size",),
    "batches a step": ("grad_accumulation_factor",),
    "crop, s": ("crop_seconds",),
    "crops an utterance": ("crops_per_utterance",),
    "learning rate": ("lr",),
    "learning rate, factor an epoch": ("lr_decay",),
    "weight decay": ("weight_decay",),
    "seed": ("seed",),
}


@dataclass(frozen=True)
class TrialSection:
    """The figures of one trial list."""

    title: str
    det: FigureBlock
    histograms: list[FigureBlock]


@dataclass(frozen=True)
class ProjectionSection:
    """Both systems' embeddings, the speakers' names, and how the points were laid out."""

    figures: list[FigureBlock]
    speakers: list[str]
    method: str


def render(experiment: Experiment, table: ResultsTable) -> str:
    """Write the report of an experiment as one HTML page that loads nothing from elsewhere.

    Arguments
    ---------
    experiment : Experiment
        What the stages before wrote.
    table : ResultsTable
        Its results.

    Returns
    -------
    str
        The page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["giga"] = giga
    teacher, student = experiment.teacher, experiment.student
    return environment.get_template("page.html.j2").render(
        experiment=experiment,
        corpus=experiment.corpus,
        table=table,
        scores=experiment.scores(experiment.lists[0]),
        rows=[*training_rows(teacher, student), *compare_settings(teacher, student)],
        all_settings=[(s.role, s.settings) for s in (teacher, student)],
        versions=versions(),
        command=student.settings.get("command"),
        speed=student.speed(experiment.benchmark),
        training=training_figures(experiment),
        low_share=epochs_of_low_share(student),
        wanted_share=WANTED_SHARE,
        sections=trial_sections(experiment),
        projection=projection_section(experiment),
        speaker_colours=SPEAKER_COLOURS,
    )


def to_results_md(experiment: Experiment, table: ResultsTable) -> str:
    """Write the table, the settings and the corpus as Markdown."""
    teacher, student = experiment.teacher, experiment.student
    lines = [f"# {student.name} distilled from {teacher.name}", ""]
    lines += [table.title, "", to_markdown(table), ""]
    lines += [f"- {note}" for note in table.notes]
    lines += [
        "",
        f"EER: equal error rate in percent, with its 95 % interval. {_trial_counts(experiment)}",
        "",
    ]
    lines += ["| Setting | teacher | student |", "| --- | --- | --- |"]
    for name, values in [*training_rows(teacher, student), *compare_settings(teacher, student)]:
        lines.append(f"| {name} | " + " | ".join(v.replace("|", "\\|") for v in values) + " |")
    lines += ["", f"{experiment.corpus.described}: {corpus_sentence(experiment.corpus)}", ""]
    lines.append("Versions: " + ", ".join(f"{n} {v}" for n, v in versions()) + ".")
    return "\n".join(lines) + "\n"


def compare_settings(teacher: System, student: System) -> list[tuple[str, tuple[str, str]]]:
    """List the settings that matter, each with the teacher's and the student's value or a dash."""
    rows = []
    for label, keys in SETTINGS.items():
        found = [
            ", ".join(s.settings[k] for k in keys if k in s.settings) for s in (teacher, student)
        ]
        if label == "network":
            found = [value.partition("(")[0] for value in found]
        if any(found):
            rows.append((label, (found[0] or "–", found[1] or "–")))
    return rows


def training_facts(system: System) -> dict[str, str]:
    """Say how long a system trained and which epoch was the best on the validation trials."""
    if not system.log:
        return {"epochs trained": "imported", "best valid EER": "–", "time of training": "–"}
    rated = [
        (e["valid"]["eer"], e["epoch"])
        for e in system.log
        if e.get("valid", {}).get("eer") is not None
    ]
    eer, epoch = min(rated, default=(None, None))
    seconds = sum(e.get(p, {}).get("seconds") or 0 for e in system.log for p in ("train", "valid"))
    skipped = sum(e.get("train", {}).get("skipped") or 0 for e in system.log)
    facts = {
        "epochs trained": str(len(system.log)),
        "best valid EER": "–" if eer is None else f"{eer:.2f} % (epoch {epoch})",
        "time of training": duration(seconds),
    }
    if skipped:
        facts["utterances skipped"] = f"{skipped:,}"
    return facts


def training_rows(teacher: System, student: System) -> list[tuple[str, tuple[str, str]]]:
    """Put both systems' facts of training side by side."""
    facts = [training_facts(s) for s in (teacher, student)]
    names = list(dict.fromkeys(n for f in facts for n in f))
    return [(n, (facts[0].get(n, "–"), facts[1].get(n, "–"))) for n in names]


def epochs_of_low_share(student: System) -> tuple[int, int]:
    """Count the epochs whose share of distillation is too low, and all that have a share."""
    shares = [
        e["train"]["share"] for e in student.log if e.get("train", {}).get("share") is not None
    ]
    return sum(100 * s < WANTED_SHARE for s in shares), len(shares)


def corpus_sentence(corpus: Corpus) -> str:
    """Count speakers, utterances and hours of each set in one sentence."""
    parts = [
        f"{name} {s['speakers']:,} speakers, {s['utterances']:,} utterances, {s['hours']:.2f} h"
        for name, s in corpus.sets.items()
    ]
    return "; ".join(parts) + "."


def duration(seconds: float) -> str:
    """Write a length of time.

    Example
    -------
    >>> duration(42.3), duration(754), duration(9000)
    ('42 s', '12 min 34 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def versions() -> list[tuple[str, str]]:
    """Give the versions of Python and of the packages that make the numbers."""
    found = [("Python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return found


def training_figures(experiment: Experiment) -> list[FigureBlock]:
    """Draw how teacher and student were trained."""
    teacher, student = experiment.teacher, experiment.student
    both = [teacher, student]
    figures = [
        curve_figure("valid-eer", "EER on validation trials, %", both, "valid", "eer", scale=1.0),
        *(loss_figure(s) for s in both if s.log),
        curve_figure("accuracy", "Training accuracy, %", both, "train", "accuracy"),
    ]
    if epochs_of_low_share(student)[1]:
        figures.append(
            curve_figure(
                "share", "Share of distillation in the loss, %", [student], "train", "share"
            )
        )
    figures.append(
        curve_figure("data-wait", "Time spent waiting for data, %", both, "train", "data_wait")
    )
    return figures


def trial_sections(experiment: Experiment) -> list[TrialSection]:
    """Draw what the scores of each trial list look like."""
    sections = []
    for index, name in enumerate(experiment.lists):
        scores = experiment.scores(name)
        histograms = [histogram_figure(f"scores-{index}-{r}", r, s) for r, s in scores.items()]
        title = experiment.student.scores[name].title
        sections.append(TrialSection(title, det_figure(f"det-{index}", scores), histograms))
    return sections


def projection_section(experiment: Experiment) -> ProjectionSection:
    """Lay out the same speakers' embeddings by teacher and student."""
    lists = experiment.lists
    loaded = {
        s.role: load_vectors(s, experiment.set, lists)
        for s in (experiment.teacher, experiment.student)
    }
    speakers = choose_speakers(loaded["student"][0])
    points: dict[str, Projection] = {r: project(*v, speakers) for r, v in loaded.items()}
    figures = [projection_figure(role, p) for role, p in points.items()]
    return ProjectionSection(figures, speakers, points["student"].method)


def _trial_counts(experiment: Experiment) -> str:
    counts = [
        f"Trials {s.title}: {s.targets:,} target and {s.nontargets:,} nontarget trials."
        for s in (experiment.student.scores[name] for name in experiment.lists)
    ]
    return " ".join(counts)
