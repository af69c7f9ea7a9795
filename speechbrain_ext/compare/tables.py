"""The rows of the comparison: numbers for the CSV, text for RESULTS.md."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speechbrain_ext.compare.claims import CONFIRMED, CONTRADICTED, Claim, Evidence, verdict
from speechbrain_ext.compare.collect import Trained
from speechbrain_ext.compare.records import FINISHED
from speechbrain_ext.verification.comparison import Comparison

PRIORS = ("0.01", "0.05")
NONE = "–"


@dataclass(frozen=True)
class Row:
    """A system on a trial list, or a system with no finished run, whose numbers are all missing."""

    system: str
    yaml: str
    teacher: str
    list: str
    values: dict[str, Any]

    def number(self, key: str, form: str, scale: float = 1) -> str:
        """A value as text; a dash where it is missing."""
        value = self.values.get(key)
        return NONE if value is None else format(scale * value, form)


def rows_of(
    names: Mapping[str, str],
    trained: Sequence[Trained],
    figures: Mapping[str, Any],
    list_name: str,
    comparison: Comparison | None,
    reference: str,
) -> list[Row]:
    """One row a system on one list.

    Arguments
    ---------
    names : mapping
        The systems, in the order of the table, with the status of the first missing run, if any.
    trained : sequence of Trained
        The finished runs.
    figures : mapping
        Those of :func:`speechbrain_ext.compare.speed.measured`.
    list_name : str
        The trial list.
    comparison : Comparison, optional
        All runs on this list; None when nothing is finished.
    reference : str
        The system that differences are taken to.
    """
    speeds = {system["name"]: system for system in figures.get("systems", [])}
    rows = []
    for name, status in names.items():
        own = [each for each in trained if each.run.system.name == name]
        if not own:
            rows.append(Row(name, "", "", list_name, {"status": status, "seeds": 0}))
            continue
        assert comparison is not None
        results = [each.results[list_name] for each in own]
        shares = [each.share for each in own if each.share is not None]
        values: dict[str, Any] = {
            "status": status or FINISHED,
            "seeds": len(own),
            **_size(speeds.get(name)),
            **_spread("eer", comparison.eers[name].values()),
            **dict(zip(("eer_low", "eer_high"), comparison.interval(name) or (), strict=False)),
            "share": statistics.fmean(shares) if shares else None,
            "epochs": "; ".join(each.epochs for each in own),
            "valid_eer": statistics.fmean(each.valid_eer for each in own),
            "training_seconds": statistics.fmean(each.seconds for each in own),
        }
        for prior in PRIORS:
            costs = [result["min_dcf"][prior]["value"] for result in results]
            values |= _spread(f"min_dcf_{prior}", costs)
        difference = comparison.difference(name, reference) if name != reference else None
        if difference is not None:
            keys = ("difference", "difference_low", "difference_high", "difference_seeds")
            values |= dict(zip(keys, difference, strict=True))
        system = own[0].run.system
        rows.append(Row(name, system.yaml, system.teacher or "", list_name, values))
    return rows


def to_csv(rows: Sequence[Row]) -> str:
    """All rows as CSV, EERs and differences in %, one column a value."""
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


def accuracy_table(rows: Sequence[Row], relative_to: str) -> str:
    """The main table of a list."""
    headings = ["System", "Seeds", "Parameters", "GMACs", "Utt/s", f"× {relative_to}", "EER %"]
    headings += ["95 % (speakers)", *(f"minDCF {prior}" for prior in PRIORS), "Share of KD"]
    lines = []
    for row in rows:
        line = [row.system, row.number("seeds", "d"), row.number("parameters", ",")]
        line += [row.number("macs", ".3f", 1e-9), row.number("utterances_per_second", ".1f")]
        eer = _mean_and_spread(row, "eer", ".2f") if row.values["seeds"] else row.values["status"]
        line += [row.number("relative_speed", ".2f"), eer]
        line += [_between(row, "eer_low", "eer_high", ".2f")]
        line += [_mean_and_spread(row, f"min_dcf_{prior}", ".3f") for prior in PRIORS]
        lines.append([*line, row.number("share", ".1%")])
    return markdown(headings, lines)


def difference_table(rows: Sequence[Row], reference: str) -> str:
    """Every system's paired difference to the reference."""
    words = {CONFIRMED: "better", CONTRADICTED: "worse"}
    lines = []
    for row in rows:
        if "difference" not in row.values:
            continue
        word = verdict(row.values["difference_low"], row.values["difference_high"], 0.0)
        line = [row.system, row.number("difference_seeds", "d"), row.number("difference", "+.2f")]
        between = _between(row, "difference_low", "difference_high", "+.2f")
        lines.append([*line, between, words.get(word, word)])
    return markdown(["System", "Seeds", f"EER − {reference}'s", "95 %", "Verdict"], lines)


def claims_table(claims: Sequence[Claim], evidence: Evidence) -> str:
    """What became of the claims."""
    headings = ["Claim", "The documents", "Measured", "Here", "95 % or range", "Verdict"]
    lines = []
    for claim in claims:
        found = claim.find(evidence)
        value = between = NONE
        if found.value is not None:
            value = f"{found.value:{found.form}}"
        if found.low is not None and found.high is not None:
            between = f"{found.low:{found.form}} to {found.high:{found.form}}"
        what = found.what + (f" ({found.seeds} seeds)" if found.seeds and found.seeds > 1 else "")
        sentence = f"{claim.claim} *({claim.source})*"
        lines.append([sentence, claim.documents, what, value, between, f"*{found.verdict}*"])
    return markdown(headings, lines)


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    rule = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in (headings, rule, *lines)
    )


def _size(system: Mapping[str, Any] | None) -> dict[str, Any]:
    if system is None:
        return {}
    whole = system["from_waveform"]
    return {
        "parameters": system["parameters"],
        "macs": system["macs_per_utterance"],
        "utterances_per_second": whole["utterances_per_second"],
        "relative_speed": whole["relative"],
    }


def _spread(key: str, values: Iterable[float]) -> dict[str, Any]:
    values = list(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {key: statistics.fmean(values), f"{key}_sd": spread}


def _mean_and_spread(row: Row, key: str, form: str) -> str:
    mean, spread = row.number(key, form), row.number(f"{key}_sd", form)
    return mean if spread == NONE else f"{mean} ± {spread}"


def _between(row: Row, low: str, high: str, form: str) -> str:
    if row.values.get(low) is None:
        return NONE
    return f"{row.number(low, form)} to {row.number(high, form)}"
