"""RESULTS.md and results.csv: the evidence of a comparison, and the verdicts, as text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from speechbrain_ext.compare.claims import CONFIRMED, CONTRADICTED, Verdict, decide
from speechbrain_ext.compare.collect import (
    CALIBRATED,
    RATES,
    Evidence,
    ListEvidence,
    Missing,
    Row,
    Trained,
)
from speechbrain_ext.compare.plan import Plan
from speechbrain_ext.measure.by_length import length_tables
from speechbrain_ext.systems.train_log import FIGURES
from speechbrain_ext.verification.draws import NO_INTERVAL
from speechbrain_ext.verification.metrics import PRIORS
from speechbrain_ext.verification.tables import CALIBRATED_HEADINGS, markdown_table

LENGTHS = "cost_by_length"  # names the plot and the CSV
NONE = "–"


def results_page(
    evidence: Evidence,
    verdicts: Sequence[Verdict],
    plots: Mapping[str, Collection[str]],
    command: str,
) -> str:
    """All of RESULTS.md.

    Arguments
    ---------
    evidence : Evidence
        What is known.
    verdicts : sequence of Verdict
        What became of the claims.
    plots : mapping
        For each test list, the names of the plots of it, without their endings.
    command : str
        The command line that it was written by.
    """
    plan = evidence.plan
    sections = [
        f"# {plan.title}",
        f"Written by `{command}`; what is changed here by hand is lost at its next run.",
        "\n".join(f"- {remark}" for remark in plan.remarks),
        _corpus(evidence),
        "## What was run",
        _machines(evidence.trained),
        _speed_note(evidence.cost),
        "The same for every system, where *Changed* does not say otherwise: "
        + ", ".join(f"`{key} {_plain(value)}`" for key, value in plan.common.items())
        + ".",
        _missing(evidence.missing),
        "\n".join(f"- Left out: {name}, {why}." for name, why in plan.left_out.items()),
    ]
    for on in evidence.tests:
        sections += [
            f"## Systems: {on.title}",
            _accuracy_table(on.rows, plan.baseline),
            *(_picture(stem) for stem in plots[on.name]),
            f"### Against {plan.reference}",
            _difference_table(on.rows, plan.reference),
            *_calibrated(on.rows, "### Calibrated"),
        ]
    for on in evidence.normalized:
        sections += [
            f"## Systems: {on.title}",
            "Scores normalised by a cohort, the mean embeddings of training speakers.",
            _accuracy_table(on.rows, plan.baseline),
            f"### Against {plan.reference}, normalised",
            _difference_table(on.rows, plan.reference),
            *_calibrated(on.rows, "### Calibrated, normalised"),
        ]
    sections += _by_length(evidence.cost.get("by_length"))
    sections += _claims(evidence, verdicts)
    sections += ["## How it was measured", _method(evidence.tests)]
    for on in evidence.lists:
        if on not in evidence.tests:
            finished = [row for row in on.rows if row.values["seeds"]]
            sections += [
                f"## What epochs were chosen on: {on.title}",
                "These EERs are too low, since epochs were chosen by them, and decide nothing.",
                _accuracy_table(finished, plan.baseline),
            ]
    if evidence.lists:
        sections += ["## Trainings", _trainings(plan, evidence.lists[0].rows)]
    return "\n\n".join(section for section in sections if section) + "\n"


def results_csv(evidence: Evidence) -> str:
    """The rows of all lists as CSV, error rates and differences in %, one column a value."""
    rows = [row for on in [*evidence.lists, *evidence.normalized] for row in on.rows]
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(row.values)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["system", "yaml", "teacher", "trials", *columns])
    for row in rows:
        values = [row.values.get(column) for column in columns]
        cells = [f"{value:.6g}" if isinstance(value, float) else value for value in values]
        writer.writerow([row.system, row.yaml, row.teacher, row.list, *cells])
    return text.getvalue()


def _corpus(evidence: Evidence) -> str:
    corpus = evidence.corpus
    kind = "synthetic speech" if corpus.synthetic else "recorded speech"
    lists = [
        f"{on.title} ({on.targets:,} targets, {on.nontargets:,} non-targets, "
        f"{on.speakers} speakers)"
        for on in evidence.lists
    ]
    return f"Corpus: {corpus.title}, {kind}. Trials: {'; '.join(lists)}."


def _machines(trained: Sequence[Trained]) -> str:
    found: dict[tuple[str, ...], list[Trained]] = {}
    for each in trained:
        if each.run.system.model is None:
            found.setdefault(tuple(each.record.machine.values()), []).append(each)
    lines = []
    for machine, own in found.items():
        begun = min(each.record.begun for each in own)
        ended = max(each.record.ended for each in own)
        lines.append([*machine, str(len(own)), begun[:16], ended[:16]])
    headings = ["Trained on", "Threads a run", "Cores", "PyTorch", "Runs", "From", "To"]
    return markdown_table(headings, lines) if lines else "No run is finished."


def _speed_note(figures: dict[str, Any]) -> str:
    if not figures.get("systems"):
        return "Speeds have not been measured yet."
    machine = figures["machine"]
    text = (
        f"Speeds: all networks in one run, in turns, on {machine['device']}, {figures['threads']} "
        f"threads, PyTorch {machine['torch']}, FP32, batches of {figures['batch']} utterances of "
        f"{figures['seconds_of_speech']:g} s, front end included, median of {figures['rounds']} "
        "rounds; systems that differ in their training alone share one measurement. Parameters and "
        "multiply-accumulates are those of the network, an utterance."
    )
    for name, reason in figures["failed"].items():
        text += f" {name} could not be measured: {reason}."
    return text


def _by_length(figures: dict[str, Any] | None) -> list[str]:
    if not figures:
        return []
    note = (
        f"One utterance at a time, from waveform to embedding, median of {figures['rounds']} rounds"
        " of all systems in turns. Operations are those of the network, attention's products among"
        " them. A cost in proportion to the length grows by the factor that the last heading names,"
        " one with a fixed part by less; in the plot it is a level line."
    )
    tables = [markdown_table(table.headings, table.lines) for table in length_tables(figures)]
    return ["## Cost by length", note, *tables, _picture(LENGTHS)]


def _missing(missing: Sequence[Missing]) -> str:
    if not missing:
        return "Every run is finished."
    lines = [
        [each.run.system.name, str(each.run.seed), each.status, each.why or NONE, each.log or NONE]
        for each in missing
    ]
    table = markdown_table(["System", "Seed", "Status", "Why", "Log"], lines)
    return f"Not finished, {len(missing)} runs:\n\n{table}"


def _picture(stem: str) -> str:
    return f"![{stem}]({stem}.png)"


def _claims(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[str]:
    if not verdicts:
        return []
    sections = ["## Claims"]
    for on in evidence.tests:
        own = [each for each in verdicts if each.on is on]
        if own:
            sections += [f"On {on.title}:", claims_table(own)]
    untested = [each for each in verdicts if each.on is None and each.claim.on_trials]
    if untested:
        sections.append(
            f"The corpus has no test list, so the claims about error rates, {len(untested)} of "
            f"{len(verdicts)}, are not tested."
        )
    rest = [each for each in verdicts if not each.claim.on_trials]
    if rest:
        sections += ["Of loss and speed, and what was not tested:", claims_table(rest)]
    return sections


def _method(tests: Sequence[ListEvidence]) -> str:
    lines = [
        "- Every system was trained on the same speakers with the settings above, but for what the"
        " last table lists as changed; a student's teacher has the student's seed. Epochs were"
        " chosen on trials of training speakers held out of training; the test lists were read at"
        " scoring only. Calibrations and thresholds of 1 % false alarms are fitted where epochs"
        " were chosen.",
        "- ± is the standard deviation over seeds. The interval beside an EER is that of the mean"
        " over seeds for other test speakers: 1000 draws of speakers with replacement, every seed"
        " scored on the same draws.",
        "- A difference is that of the means over the seeds both systems have, with both scored on"
        " the same draws of speakers. Few seeds cannot be drawn from, so to every draw an error of"
        " training is added: Student's t times σ·√(2/seeds), with σ the standard deviation between"
        " seeds pooled over all systems that have several. It is taken to be the same for all"
        " systems, and pairs of one seed to be no more alike than others, which errs on the side"
        " of caution. Nothing is corrected for the number of comparisons: of 40 without any"
        " difference, two would be called better or worse.",
    ]
    for on in tests:
        comparison = on.comparison
        if comparison is None:
            continue
        noise = comparison.noise
        if not comparison.decides:
            lines.append(f"- {on.title}: {NO_INTERVAL} So no claim is decided.")
        elif noise is None:
            lines.append(
                f"- {on.title}: no system has two seeds, so intervals are for other"
                " speakers only, and a training repeated could decide otherwise."
            )
        else:
            lines.append(
                f"- {on.title}: σ = {noise.deviation:.2f} points, from {noise.systems} "
                f"systems with {noise.degrees} degrees of freedom."
            )
    lines += [
        "- A claim is *confirmed* when the whole 95 % interval lies on its side of the threshold,"
        " *contradicted* when it lies on the other, and *not decided* otherwise. That one system is"
        " better is tested against 0: the documents' amounts were had on other data and may be"
        " compared with the interval. For a share of the loss the range is that over seeds, for a"
        " speed that of the slowest and fastest rounds.",
    ]
    return "\n".join(lines)


def _trainings(plan: Plan, rows: Sequence[Row]) -> str:
    figures = [each for each in FIGURES if any(f"valid_{each.key}" in row.values for row in rows)]
    headings = ["System", "YAML", "Teacher", "Changed", "Epochs chosen"]
    headings += [*(f"Valid {figure.words}{figure.unit}" for figure in figures), "Seconds"]
    lines = []
    for row in rows:
        system = plan.systems[row.system]
        changed = ", ".join(f"`{k} {_plain(v)}`" for k, v in system.overrides.items())
        line = [system.name, system.what, system.teacher or NONE, changed or NONE]
        line += [str(row.values.get("epochs", NONE))]
        line += [_number(row, f"valid_{figure.key}", figure.form) for figure in figures]
        lines.append([*line, _number(row, "training_seconds", ".0f")])
    return markdown_table(headings, lines)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _accuracy_table(rows: Sequence[Row], relative_to: str) -> str:
    """The main table of a list."""
    headings = ["System", "Seeds", "Parameters", "GMACs", "Utt/s", f"× {relative_to}", "EER %"]
    headings += ["95 % (speakers)", *(f"minDCF {prior}" for prior in PRIORS), "Share of KD"]
    lines = []
    for row in rows:
        line = [row.system, _number(row, "seeds", "d"), _number(row, "parameters", ",")]
        line += [_number(row, "macs", ".3f", 1e-9), _number(row, "utterances_per_second", ".1f")]
        eer = _mean_and_spread(row, "eer", ".2f") if row.values["seeds"] else row.values["status"]
        line += [_number(row, "relative_speed", ".2f"), eer]
        line += [_between(row, "eer_low", "eer_high", ".2f")]
        line += [_mean_and_spread(row, f"min_dcf_{prior}", ".3f") for prior in PRIORS]
        lines.append([*line, _number(row, "share", ".1%")])
    return markdown_table(headings, lines)


def _difference_table(rows: Sequence[Row], reference: str) -> str:
    """Every system's paired difference to the reference."""
    words = {CONFIRMED: "better", CONTRADICTED: "worse"}
    lines = []
    for row in rows:
        if "difference" not in row.values:
            continue
        word = decide(row.values["difference_low"], row.values["difference_high"], 0.0)
        line = [
            row.system,
            _number(row, "difference_seeds", "d"),
            _number(row, "difference", "+.2f"),
        ]
        between = _between(row, "difference_low", "difference_high", "+.2f")
        lines.append([*line, between, words.get(word, word)])
    return markdown_table(["System", "Seeds", f"EER − {reference}'s", "95 %", "Verdict"], lines)


def _calibrated(rows: Sequence[Row], title: str) -> list[str]:
    """What calibrated scores cost, and what a stored threshold gives, of systems that have them."""
    finished = [row for row in rows if row.values["seeds"]]
    calibrated = [row for row in finished if "cllr" in row.values]
    if not calibrated:
        return []
    forms = {key: ".2f" if key in RATES else ".3f" for key in CALIBRATED}
    lines = [
        [row.system, _number(row, "seeds", "d")]
        + [_mean_and_spread(row, key, form) for key, form in forms.items()]
        for row in calibrated
    ]
    without = [row.system for row in finished if row not in calibrated]
    table = markdown_table(["System", "Seeds", *CALIBRATED_HEADINGS], lines)
    note = f"Scored without a calibration: {', '.join(without)}." if without else ""
    return [title, table, note]


def claims_table(verdicts: Sequence[Verdict]) -> str:
    """What became of the claims."""
    headings = ["Claim", "The documents", "Measured", "Here", "95 % or range", "Verdict"]
    lines = []
    for claim, _, found in verdicts:
        value = between = NONE
        if found.value is not None:
            value = f"{found.value:{found.form}}"
        if found.low is not None and found.high is not None:
            between = f"{found.low:{found.form}} to {found.high:{found.form}}"
        what = found.what + (f" ({found.seeds} seeds)" if found.seeds and found.seeds > 1 else "")
        sentence = f"{claim.claim} *({claim.source})*"
        lines.append([sentence, claim.documents, what, value, between, f"*{found.verdict}*"])
    return markdown_table(headings, lines)


def _number(row: Row, key: str, form: str, scale: float = 1) -> str:
    """A value as text; a dash where it is missing."""
    value = row.values.get(key)
    return NONE if value is None else format(scale * value, form)


def _mean_and_spread(row: Row, key: str, form: str) -> str:
    mean, spread = _number(row, key, form), _number(row, f"{key}_sd", form)
    return mean if spread == NONE else f"{mean} ± {spread}"


def _between(row: Row, low: str, high: str, form: str) -> str:
    if row.values.get(low) is None:
        return NONE
    return f"{_number(row, low, form)} to {_number(row, high, form)}"
