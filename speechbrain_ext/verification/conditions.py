"""How a model decides under conditions: the figures of a list, their files, and their table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechbrain_ext.decisions import FALSE_ALARMS, Decisions
from speechbrain_ext.errors import UserError, brought_by
from speechbrain_ext.files import atomic_path
from speechbrain_ext.verification.bootstrap import eer_interval
from speechbrain_ext.verification.metrics import ErrorRates
from speechbrain_ext.verification.plots import condition_name
from speechbrain_ext.verification.tables import NO_INTERVAL, markdown_table
from speechbrain_ext.verification.trials import TrialList

with brought_by("train"):
    from rich.box import SIMPLE
    from rich.table import Table

#: Below the folder of an evaluation: a file for each list, and the card of all of them.
FOLDER, CARD = "conditions", "CONDITIONS.md"
#: The folder of an experiment whose card its report and its export have.
EVALUATION = "evaluation"
#: The rate of false alarms whose threshold is tried.
FALSE_ALARM = FALSE_ALARMS[0]
#: Which side of a trial is under the condition.
SIDES = {"both": "both sides", "test": "test side"}

HEADINGS = ("EER %", "95 % interval", "false alarms %", "misses %")


class CardThreshold(NamedTuple):
    """The cosine from which on trials are accepted.

    Arguments
    ---------
    value : float
        The cosine.
    origin : str
        Where it comes from, in words.
    stored : bool
        Whether the model had it before this list was scored.
    """

    value: float
    origin: str
    stored: bool

    @classmethod
    def of(cls, decisions: Decisions) -> CardThreshold:
        """That of a model which has one.

        Example
        -------
        >>> from speechbrain_ext.decisions import OperatingPoint
        >>> point = OperatingPoint("false_alarm_0.01", 0.01, 0.31, 120, True)
        >>> CardThreshold.of(Decisions({"title": "held-out speakers"}, None, (point,)))
        CardThreshold(value=0.31, origin='held-out speakers', stored=True)
        """
        title = str(decisions.fitted_on["title"])
        return cls(decisions.at(FALSE_ALARM).threshold, title, True)


def own_threshold(scores: np.ndarray, trials: TrialList) -> CardThreshold:
    """Of a model that has none: that of 1 % false alarms on the list as recorded.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> own_threshold(np.array([0.9, 0.1]), trials).value
    0.9
    """
    rates = ErrorRates.from_scores(scores, trials.labels)
    place = int(np.argmax(rates.false_alarm <= FALSE_ALARM))
    origin = "this very list as recorded, since the model has no stored one"
    return CardThreshold(float(rates.thresholds[place]), origin, False)


def measure_side(
    scores: np.ndarray, trials: TrialList, speakers: np.ndarray | None, threshold: float
) -> dict[str, Any]:
    """The figures of a list whose scores come from one condition, ready for JSON.

    Arguments
    ---------
    scores : np.ndarray
        (N,) cosines.
    trials : TrialList
        The N trials.
    speakers : np.ndarray, optional
        A number for the speaker of each name of the trials, for the interval.
    threshold : float
        Where decisions are made.

    Returns
    -------
    dict
        ``eer`` and ``eer_interval_95`` in per cent, the latter None where there is none;
        ``false_alarm`` and ``miss`` at the threshold, in 0..1.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> measure_side(np.array([0.9, 0.7]), trials, None, 0.5)
    {'eer': 0.0, 'eer_interval_95': None, 'false_alarm': 1.0, 'miss': 0.0}
    """
    rates, interval = ErrorRates.from_scores(scores, trials.labels), None
    if speakers is not None:
        bounds = eer_interval(
            scores, trials.labels, speakers[trials.enrol_index], speakers[trials.test_index]
        )
        interval = [100 * bound for bound in bounds] if bounds else None
    accepted = np.asarray(scores, dtype=np.float64) >= threshold
    return {
        "eer": 100 * rates.equal_error_rate()[0],
        "eer_interval_95": interval,
        "false_alarm": float(accepted[~trials.labels].mean()),
        "miss": float(1.0 - accepted[trials.labels].mean()),
    }


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write the figures of a list below the folder of an evaluation, whole or not at all.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> card = {"trials": "test", "title": "test", "rows": []}
    >>> write_card(folder, card)
    >>> [card["trials"] for card in read_cards(folder)]
    ['test']
    """
    with atomic_path(folder / FOLDER / f"{card['trials']}.json") as temporary:
        temporary.write_text(json.dumps(card, indent=1, allow_nan=False), encoding="utf-8")


def read_cards(folder: Path) -> list[dict[str, Any]]:
    """What :func:`write_card` wrote of each list, by name.

    Raises
    ------
    UserError
        When one cannot be read.
    """
    cards = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            card_rows(card)
            cards.append(card)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} does not hold what evaluate.py writes ({error!r}): remove it and run "
                "evaluate.py --conditions again.",
                code="damaged-file",
            ) from None
    return cards


def cards_of(experiment: Path, weights: str | None) -> list[dict[str, Any]]:
    """The cards in an experiment's folder ``evaluation/`` that are of its weights.

    Example
    -------
    >>> cards_of(getfixture("tmp_path"), "0f3a")
    []
    """
    cards = read_cards(experiment / EVALUATION)
    return [card for card in cards if card["weights_sha256"] == weights]


def card_headings() -> list[str]:
    """The columns of :func:`card_rows`."""
    return ["condition", *(f"{side}: {each}" for side in SIDES.values() for each in HEADINGS)]


def card_rows(card: Mapping[str, Any]) -> list[list[str]]:
    """The table of a list: a row a condition, as text, the first of the list as recorded."""
    rows = []
    for row in card["rows"]:
        cells = [condition_name(row)]
        for side in SIDES:
            cells += _cells(row[side]) if row.get(side) else ["–"] * len(HEADINGS)
        rows.append(cells)
    return rows


def _cells(figures: Mapping[str, Any]) -> list[str]:
    interval = figures["eer_interval_95"]
    return [
        f"{figures['eer']:.2f}",
        "–" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        f"{100 * figures['false_alarm']:.2f}",
        f"{100 * figures['miss']:.2f}",
    ]


def conditions_table(card: Mapping[str, Any]) -> Table:
    """The figures of a list as a table for the terminal, without intervals."""
    table = Table("condition", title=f"{card['title']}: {card['system']}", box=SIMPLE)
    shown = [place for place, each in enumerate(HEADINGS) if "interval" not in each]
    for side in SIDES.values():
        for place in shown:
            table.add_column(f"{side}\n{HEADINGS[place]}", justify="right")
    for name, *cells in card_rows(card):
        several = [cells[start : start + len(HEADINGS)] for start in (0, len(HEADINGS))]
        table.add_row(name, *(side[place] for side in several for place in shown))
    return table


def card_notes(card: Mapping[str, Any]) -> list[str]:
    """What the table of a list needs to be read, in sentences."""
    threshold = card["threshold"]
    notes = [
        f"{card['targets']:,} target and {card['nontargets']:,} non-target trials of "
        f"{card['utterances']:,} recordings. Decisions are made at the cosine "
        f"{threshold['value']:.4f}: 1 % false alarms on {threshold['origin']}."
    ]
    if not threshold["stored"]:
        notes.append(
            "So the rates say how decisions move with the conditions, and not what the model "
            "would do on a list that it has not seen."
        )
    whole = [
        f"{row['spared']:,} at {row['group'].lower()} {row['name']}"
        for row in card["rows"]
        if row.get("spared")
    ]
    if whole:
        notes.append(f"Recordings that stayed as they are: {', '.join(whole)}.")
    if any(row["both"]["eer_interval_95"] is None for row in card["rows"]):
        notes.append(NO_INTERVAL)
    return notes


def write_conditions_page(folder: Path, cards: Sequence[Mapping[str, Any]]) -> None:
    """Write ``CONDITIONS.md``: the tables of all lists of an evaluation."""
    lines = [
        f"# {cards[0]['system']} under conditions",
        "",
        f"Weights `{cards[0]['weights_sha256'][:16]}`, view `{cards[0]['view']}`. Recordings are "
        "changed by simulation, each by chance of its own, the same in every run: both sides of a "
        "trial, or the test side alone.",
    ]
    for card in cards:
        lines += ["", f"## {card['title']}", "", " ".join(card_notes(card)), ""]
        lines.append(markdown_table(card_headings(), card_rows(card)))
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
