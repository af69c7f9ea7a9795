"""The text of RESULTS.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechbrain_ext.compare.claims import Claim, Evidence
from speechbrain_ext.compare.collect import Trained, Trials, why_missing
from speechbrain_ext.compare.commands import Place
from speechbrain_ext.compare.plan import Run
from speechbrain_ext.compare.tables import (
    NONE,
    Row,
    accuracy_table,
    claims_table,
    difference_table,
    markdown,
)
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.measure.by_length import length_tables
from speechbrain_ext.verification.bootstrap import NO_INTERVAL

LENGTHS = "cost_by_length"  # names the plot and the CSV


@dataclass(frozen=True, eq=False)
class Part:
    """What belongs to one trial list."""

    trials: Trials
    rows: list[Row]
    evidence: Evidence
    plots: list[Path]


def page(
    place: Place,
    corpus: Corpus,
    trained: Sequence[Trained],
    missing: Sequence[Run],
    parts: Sequence[Part],
    claims: Sequence[Claim],
    figures: dict[str, Any],
    command: str,
) -> str:
    """All of RESULTS.md; the arguments are those of ``write_results``."""
    ablation = place.ablation
    tests = [part for part in parts if part.trials.set == "test"]
    sections = [
        f"# {ablation.title}",
        f"Written by `{command}`; what is changed here by hand is lost at its next run.",
        "\n".join(f"- {remark}" for remark in ablation.remarks),
        _corpus(corpus, parts),
        "## What was run",
        _machines(trained),
        _speed_note(figures),
        "The same for every system: "
        + ", ".join(f"`{key} {_plain(value)}`" for key, value in ablation.common.items())
        + ".",
        _missing(place, missing),
        "\n".join(f"- Left out: {name}, {why}." for name, why in ablation.left_out.items()),
    ]
    for part in tests:
        sections += [
            f"## Systems: {part.trials.title}",
            accuracy_table(part.rows, ablation.baseline),
            *(_picture(stem) for stem in part.plots),
            f"### Against {ablation.reference}",
            difference_table(part.rows, ablation.reference),
        ]
    sections += _by_length(figures.get("by_length"))
    if claims:
        sections.append("## Claims")
    for part in tests:
        own = [claim for claim in claims if claim.test is not None and claim.test.on_trials]
        if own:
            sections += [f"On {part.trials.title}:", claims_table(own, part.evidence)]
    untested = [claim for claim in claims if claim.test is not None and claim.test.on_trials]
    if untested and not tests:
        sections.append(
            f"The corpus has no test list, so the claims about error rates, {len(untested)} of "
            f"{len(claims)}, are not tested."
        )
    rest = [claim for claim in claims if claim.test is None or not claim.test.on_trials]
    if rest and parts:
        sections += ["Of loss and speed, and what was not tested:"]
        sections.append(claims_table(rest, parts[0].evidence))
    sections += ["## How it was measured", _method(parts)]
    for part in parts:
        if part.trials.set != "test":
            sections += [
                f"## Held-out training speakers: {part.trials.title}",
                "Epochs were chosen on these trials: their EERs are too low, and decide nothing.",
                accuracy_table(
                    [row for row in part.rows if row.values["seeds"]], ablation.baseline
                ),
            ]
    if parts:
        sections += ["## Trainings", _trainings(place, parts[0].rows)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _corpus(corpus: Corpus, parts: Sequence[Part]) -> str:
    kind = "synthetic speech" if corpus.synthetic else "recorded speech"
    lists = [
        f"{part.trials.title} ({part.trials.list.targets:,} targets, "
        f"{part.trials.list.nontargets:,} non-targets, "
        f"{len(set(part.trials.enrol_speakers) | set(part.trials.test_speakers))} speakers)"
        for part in parts
    ]
    return f"Corpus: {corpus.title}, {kind}. Trials: {'; '.join(lists)}."


def _machines(trained: Sequence[Trained]) -> str:
    found: dict[tuple[str, ...], list[Trained]] = {}
    for each in trained:
        found.setdefault(tuple(each.record.machine.values()), []).append(each)
    lines = []
    for machine, own in found.items():
        begun = min(each.record.begun for each in own)
        ended = max(each.record.ended for each in own)
        lines.append([*machine, str(len(own)), begun[:16], ended[:16]])
    headings = ["Trained on", "Threads a run", "Cores", "PyTorch", "Runs", "From", "To"]
    return markdown(headings, lines) if lines else "No run is finished."


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
    tables = [markdown(table.headings, table.lines) for table in length_tables(figures)]
    return ["## Cost by length", note, *tables, _picture(Path(LENGTHS))]


def _missing(place: Place, missing: Sequence[Run]) -> str:
    if not missing:
        return "Every run is finished."
    lines = []
    for run in missing:
        status, reason = why_missing(place, run)
        log = place.log(run)
        seen = log.relative_to(place.folder).as_posix() if log.is_file() else NONE
        lines.append([f"{run.system.name}", str(run.seed), status, reason or NONE, seen])
    table = markdown(["System", "Seed", "Status", "Why", "Log"], lines)
    return f"Not finished, {len(missing)} runs:\n\n{table}"


def _picture(stem: Path) -> str:
    return f"![{stem.name}]({stem.name}.png)"


def _method(parts: Sequence[Part]) -> str:
    lines = [
        "- Every system was trained on the same speakers with the settings above, but for what the"
        " last table lists as changed; a student's teacher has the student's seed. Epochs were"
        " chosen on trials of training speakers held out of training; the test lists were read at"
        " scoring only.",
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
    for part in parts:
        comparison = part.evidence.comparison
        if comparison is None or part.trials.set != "test":
            continue
        noise = comparison.noise
        if not comparison.decides:
            lines.append(f"- {part.trials.title}: {NO_INTERVAL} So no claim is decided.")
        elif noise is None:
            lines.append(
                f"- {part.trials.title}: no system has two seeds, so intervals are for other"
                " speakers only, and a training repeated could decide otherwise."
            )
        else:
            lines.append(
                f"- {part.trials.title}: σ = {noise.deviation:.2f} points, from {noise.systems} "
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


def _trainings(place: Place, rows: Sequence[Row]) -> str:
    headings = ["System", "YAML", "Teacher", "Changed", "Epochs chosen", "Valid EER %", "Seconds"]
    lines = []
    for row in rows:
        system = place.ablation.systems[row.system]
        changed = ", ".join(f"`{k} {_plain(v)}`" for k, v in system.overrides.items())
        line = [system.name, system.yaml, system.teacher or NONE, changed or NONE]
        line += [str(row.values.get("epochs", NONE)), row.number("valid_eer", ".2f")]
        lines.append([*line, row.number("training_seconds", ".0f")])
    return markdown(headings, lines)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
