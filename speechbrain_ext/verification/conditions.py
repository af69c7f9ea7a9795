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
from speechbrain_ext.verification.bootstrap import eer_draws, mean_draws
from speechbrain_ext.verification.draws import few_speakers
from speechbrain_ext.verification.metrics import ErrorRates
from speechbrain_ext.verification.plots import condition_name
from speechbrain_ext.verification.tables import NO_INTERVAL, markdown_table, with_interval
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

HEADINGS = ("EER %", "false alarms %", "misses %")
_FIGURES = ("eer", "false_alarm", "miss")


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
    origin = "this very list as recorded, since none is stored for this model and view"
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
        ``eer`` in per cent, ``false_alarm`` and ``miss`` at the threshold in 0..1; and
        ``eer_interval_95`` and so on, None where there is none.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> found = measure_side(np.array([0.9, 0.7]), trials, None, 0.5)
    >>> found["eer"], found["false_alarm"], found["miss"], found["miss_interval_95"]
    (0.0, 1.0, 0.0, None)
    """
    rates, labels = ErrorRates.from_scores(scores, trials.labels), trials.labels
    accepted = np.asarray(scores, dtype=np.float64) >= threshold
    found: dict[str, Any] = {
        "eer": 100 * rates.equal_error_rate()[0],
        "false_alarm": float(accepted[~labels].mean()),
        "miss": float(1.0 - accepted[labels].mean()),
    }
    bounds: list[list[float] | None] = [None] * len(_FIGURES)
    if speakers is not None:
        sides = speakers[trials.enrol_index], speakers[trials.test_index]
        if not few_speakers(*sides):
            errors = mean_draws([accepted != labels], labels, *sides)[:, 0]
            draws = np.column_stack((100 * eer_draws([scores], labels, *sides), errors))
            bounds = np.quantile(draws, (0.025, 0.975), axis=0).T.tolist()
    keys = (f"{name}_interval_95" for name in _FIGURES)
    return found | dict(zip(keys, bounds, strict=True))


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
    cells = []
    for name, scale in zip(_FIGURES, (1.0, 100.0, 100.0), strict=True):
        # Cards of earlier versions have intervals of the equal error rate alone.
        figure = {"value": figures[name], "interval_95": figures.get(f"{name}_interval_95")}
        cells.append(with_interval(figure, scale, 2))
    return cells


def conditions_table(card: Mapping[str, Any]) -> Table:
    """The figures of a list as a table for the terminal, without intervals."""
    table = Table("condition", title=f"{card['title']}: {card['system']}", box=SIMPLE)
    for heading in card_headings()[1:]:
        table.add_column(heading.replace(": ", "\n"), justify="right")
    for name, *cells in card_rows(card):
        table.add_row(name, *(cell.partition(" [")[0] for cell in cells))
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
        "trial, or the test side alone. Behind a figure is its 95 % interval for other speakers.",
    ]
    for card in cards:
        lines += ["", f"## {card['title']}", "", " ".join(card_notes(card)), ""]
        lines.append(markdown_table(card_headings(), card_rows(card)))
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
