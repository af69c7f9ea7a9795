"""The report as one HTML page and as Markdown."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jinja2

from speechbrain_ext.report.calibration import calibration_table, calibration_words
from speechbrain_ext.report.engines import engine_table
from speechbrain_ext.report.figures import (
    WANTED_SHARE,
    FigureBlock,
    draw_conditions,
    draw_curve,
    draw_det,
    draw_histogram,
    draw_loss,
    draw_projection,
    draw_reliability,
)
from speechbrain_ext.report.projection import Projection, choose_speakers, load_vectors, project
from speechbrain_ext.report.records import CorpusSummary, Experiment, TrainedSystem
from speechbrain_ext.report.svg import SPEAKER_COLOURS
from speechbrain_ext.report.table import ResultsTable, giga, to_markdown
from speechbrain_ext.systems.train_log import EER, RANK_CORRELATION, best_epoch, selecting_figure
from speechbrain_ext.verification.conditions import (
    CARD,
    EVALUATION,
    HEADINGS,
    SIDES,
    card_notes,
    card_rows,
)
from speechbrain_ext.verification.tables import markdown_table

PACKAGES = ("torch", "torchaudio", "speechbrain", "numpy", "scikit-learn", "matplotlib")
# What decides a result, and the keys under which recipes keep it.
SETTINGS: dict[str, tuple[str, ...]] = {
    "network": ("embedding_model",),
    "made by": ("source",),
    "licence": ("licence",),
    "SHA-256": ("checkpoint_sha256",),
    "learns from": ("teacher_source",),
    "layers of the teacher": ("teacher_layers",),
    "distillation loss": ("distillation", "terms"),
    "weights of terms": ("term_weights",),
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
    "epochs without gain until the rate is halved": ("patience",),
    "epochs without gain until the end": ("stop_after",),
    "weight decay": ("weight_decay",),
    "seed": ("seed",),
}


@dataclass(frozen=True)
class TrialSection:
    """The figures of one trial list."""

    title: str
    det: FigureBlock
    histograms: list[FigureBlock]
    reliability: FigureBlock | None


@dataclass(frozen=True)
class ConditionSection:
    """What the student does under conditions, on one trial list."""

    title: str
    notes: list[str]
    rows: list[list[str]]
    figure: FigureBlock


@dataclass(frozen=True)
class ProjectionSection:
    """Every system's embeddings, the speakers' names, and how the points were laid out."""

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
    systems, student = experiment.systems, experiment.student
    return environment.get_template("page.html.j2").render(
        experiment=experiment,
        corpus=experiment.corpus,
        table=table,
        scores=experiment.scores(experiment.lists[0]),
        roles=[s.role for s in systems],
        rows=[*training_rows(systems), *compare_settings(systems)],
        all_settings=[(s.role, s.settings) for s in systems],
        versions=versions(),
        command=student.settings.get("command"),
        speed=student.speed(experiment.benchmark),
        compared=experiment.teacher_speed is not None,
        engines=engine_table(experiment),
        calibration=calibration_table(experiment),
        calibration_words=calibration_words(experiment),
        selecting=selecting_figure(student.log) or EER,
        training=training_figures(experiment),
        low_share=epochs_of_low_share(student),
        wanted_share=WANTED_SHARE,
        sections=trial_sections(experiment),
        conditions=condition_sections(experiment),
        condition_sides=list(SIDES.values()),
        condition_headings=HEADINGS,
        projection=projection_section(experiment),
        speaker_colours=SPEAKER_COLOURS,
    )


def to_results_md(experiment: Experiment, table: ResultsTable) -> str:
    """Write the table, the settings and the corpus as Markdown."""
    systems = experiment.systems
    lines = [f"# {experiment.title}", ""]
    lines += [table.title, "", to_markdown(table), ""]
    lines += [f"- {note}" for note in table.notes]
    if calibrated := calibration_table(experiment):
        headings, *rows = calibrated
        lines += ["", calibration_words(experiment), "", markdown_table(headings, rows)]
    if experiment.engines is not None:
        lines += ["", f"In engines, {experiment.engines.place}:", ""]
        headings, *rows = engine_table(experiment)
        lines.append(markdown_table(headings, rows))
    if experiment.conditions:
        lines += ["", f"Under conditions: [{CARD}]({EVALUATION}/{CARD})."]
    lines += [
        "",
        f"EER: equal error rate in percent, with its 95 % interval. {_trial_counts(experiment)}",
        "",
    ]
    settings = [*training_rows(systems), *compare_settings(systems)]
    rows = [[name, *values] for name, values in settings]
    lines.append(markdown_table(["Setting", *(s.role for s in systems)], rows, numbers=False))
    lines += ["", f"{experiment.corpus.described}: {corpus_sentence(experiment.corpus)}", ""]
    lines.append("Versions: " + ", ".join(f"{n} {v}" for n, v in versions()) + ".")
    return "\n".join(lines) + "\n"


def compare_settings(systems: list[TrainedSystem]) -> list[tuple[str, list[str]]]:
    """List the settings that matter, each with every system's value or a dash."""
    rows = []
    for label, keys in SETTINGS.items():
        found = [", ".join(_values(s.settings, keys)) for s in systems]
        if label == "network":
            found = [value.partition("(")[0] for value in found]
        if any(found):
            rows.append((label, [value or "–" for value in found]))
    return rows


def _values(settings: dict[str, str], keys: tuple[str, ...]) -> list[str]:
    """What the settings say by these keys; not of keys that are there and count for nothing."""
    idle = {"lr_decay"} if "patience" in settings else set()
    if settings.get("distillation") in ("", "null"):
        idle |= {"alpha", "distillation"}
    if settings.get("classifier") in ("", "null"):
        idle |= {"margin", "scale"}
    return [settings[key] for key in keys if key in settings and key not in idle]


def training_facts(system: TrainedSystem) -> dict[str, str]:
    """Say how long a system trained and which epoch was the best on the validation trials."""
    if not system.log:
        return {"epochs trained": "imported", "time of training": "–"}
    best, figure = best_epoch(system.log), selecting_figure(system.log)
    seconds = sum(e.get(p, {}).get("seconds") or 0 for e in system.log for p in ("train", "valid"))
    counted = {"skipped": "utterances skipped", "nonfinite": "batches without a finite loss"}
    facts = {"epochs trained": str(len(system.log))}
    if best and figure:
        value = figure.written(best["valid"][figure.key])
        facts[f"best valid {figure.words}"] = f"{value} (epoch {best['epoch']})"
    facts["time of training"] = duration(seconds)
    for name, row in counted.items():
        if count := sum(e.get("train", {}).get(name) or 0 for e in system.log):
            facts[row] = f"{count:,}"
    return facts


def training_rows(systems: list[TrainedSystem]) -> list[tuple[str, list[str]]]:
    """Put the systems' facts of training side by side."""
    facts = [training_facts(s) for s in systems]
    # The student's come first: an imported teacher has few.
    names = list(dict.fromkeys(n for f in reversed(facts) for n in f))
    return [(n, [f.get(n, "–") for f in facts]) for n in names]


def epochs_of_low_share(student: TrainedSystem) -> tuple[int, int]:
    """Count the epochs whose share of distillation is too low, and all that have a share."""
    shares = [
        e["train"]["share"] for e in student.log if e.get("train", {}).get("share") is not None
    ]
    return sum(100 * s < WANTED_SHARE for s in shares), len(shares)


def corpus_sentence(corpus: CorpusSummary) -> str:
    """Count speakers, utterances and hours of each set in one sentence.

    Example
    -------
    >>> calls = {"utterances": 90, "speakers": 0, "hours": 1.5, "unlabelled": 90}
    >>> corpus_sentence(CorpusSummary("calls", "Calls", False, {"train": calls}, [], {}))
    'train 0 speakers with labels, 90 utterances (90 without), 1.50 h.'
    """
    parts = []
    for name, s in corpus.sets.items():
        speakers, utterances = f"{s['speakers']:,} speakers", f"{s['utterances']:,} utterances"
        if unlabelled := s.get("unlabelled"):
            speakers += " with labels"
            utterances += f" ({unlabelled:,} without)"
        parts.append(f"{name} {speakers}, {utterances}, {s['hours']:.2f} h")
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
    """Draw how the systems were trained."""
    systems, student = experiment.systems, [experiment.student]
    rank = "Rank correlation of the scores of validation trials with the teacher's"
    return [
        *_curve("valid-eer", "EER on validation trials, %", systems, "valid", EER.key, 1.0),
        *_curve("valid-rank", rank, systems, "valid", RANK_CORRELATION.key, 1.0),
        *(draw_loss(s) for s in systems if s.log),
        *_curve("accuracy", "Training accuracy, %", systems, "train", "accuracy"),
        *_curve("share", "Share of distillation in the loss, %", student, "train", "share"),
        *_curve("data-wait", "Time spent waiting for data, %", systems, "train", "data_wait"),
        *_curve("teacher-time", "Time spent in the teacher, %", student, "train", "teacher_time"),
    ]


def _curve(
    name: str, title: str, systems: list[TrainedSystem], part: str, key: str, scale: float = 100.0
) -> list[FigureBlock]:
    """A figure of :func:`draw_curve` of the systems that have such numbers, if there are any."""
    logged = [s for s in systems if any(e.get(part, {}).get(key) is not None for e in s.log)]
    return [draw_curve(name, title, logged, part, key, scale)] if logged else []


def trial_sections(experiment: Experiment) -> list[TrialSection]:
    """Draw what the scores of each trial list look like."""
    sections = []
    for index, name in enumerate(experiment.lists):
        scores = experiment.scores(name)
        histograms = [draw_histogram(f"scores-{index}-{r}", r, s) for r, s in scores.items()]
        title = experiment.student.scores[name].title
        det, reliable = draw_det(f"det-{index}", scores), f"reliability-{index}"
        sections.append(TrialSection(title, det, histograms, draw_reliability(reliable, scores)))
    return sections


def condition_sections(experiment: Experiment) -> list[ConditionSection]:
    """Lay out the cards of the student, where there are some."""
    return [
        ConditionSection(
            card["title"],
            card_notes(card),
            card_rows(card),
            draw_conditions(f"conditions-{number}", card),
        )
        for number, card in enumerate(experiment.conditions)
    ]


def projection_section(experiment: Experiment) -> ProjectionSection:
    """Lay out the same speakers' embeddings by every system."""
    lists = experiment.lists
    loaded = {s.role: load_vectors(s, experiment.set, lists) for s in experiment.systems}
    speakers = choose_speakers(loaded["student"][0])
    points: dict[str, Projection] = {r: project(*v, speakers) for r, v in loaded.items()}
    figures = [draw_projection(role, p) for role, p in points.items()]
    return ProjectionSection(figures, speakers, points["student"].method)


def _trial_counts(experiment: Experiment) -> str:
    counts = [
        f"Trials {s.title}: {s.targets:,} target and {s.nontargets:,} nontarget trials."
        for s in (experiment.student.scores[name] for name in experiment.lists)
    ]
    return " ".join(counts)
