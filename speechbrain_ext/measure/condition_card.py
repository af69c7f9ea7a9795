"""The card of one list: every condition's figures, those of an earlier run kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechbrain_ext.corpora.evaluation_lists import Audio, EvaluationList, Files
from speechbrain_ext.files import fingerprint
from speechbrain_ext.inference.evaluation import FileEmbedder
from speechbrain_ext.inference.store import EmbeddingStore
from speechbrain_ext.measure.conditions import Named, Others, Under
from speechbrain_ext.processes import first_decides
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.verification.conditions import (
    HEADINGS,
    SIDES,
    CardThreshold,
    measure_side,
    own_threshold,
    read_cards,
    write_card,
)
from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.plots import conditions_plot, save_figure
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import TrialList


@dataclass
class ConditionCard:
    """Collects the figures of a list, and writes them after each condition.

    Arguments
    ---------
    folder : Path
        Of the evaluation.
    header : mapping
        What the card says first: ``system``, ``trials``, ``title``, ``view``, ``weights_sha256``
        and ``utterances``.
    trials : TrialList
        The trials, whose names are those of ``clean``.
    speakers : np.ndarray, optional
        A number for the speaker of each name of the trials.
    audio : sequence of Audio
        The recording of each of ``clean``.
    clean : Embeddings
        Of the recordings as they are.
    threshold : CardThreshold, optional
        The model's own.
    """

    folder: Path
    header: Mapping[str, Any]
    trials: TrialList
    speakers: np.ndarray | None
    audio: Sequence[Audio]
    clean: Embeddings
    threshold: CardThreshold | None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        scores = cosine_scores(self.trials, self.clean)
        self.found = self.threshold or own_threshold(scores, self.trials)
        earlier = [card for card in read_cards(self.folder) if card["trials"] == self.name]
        self._earlier = {row["digest"]: row for card in earlier for row in card["rows"]}
        self._add("", "as recorded", "", {"both": scores}, 0)

    @property
    def name(self) -> str:
        """That of the list."""
        return str(self.header["trials"])

    def digest(self, key: str) -> str:
        """What figures under a condition follow from, with the condition's own key."""
        content = hashlib.sha256()
        for each in (self.trials.enrol_index, self.trials.test_index, self.trials.labels):
            content.update(each.tobytes())
        if self.speakers is not None:
            content.update(self.speakers.tobytes())
        return fingerprint(
            {
                "condition": key,
                "names": self.trials.names.tolist(),
                "models": {name: list(own) for name, own in self.trials.models.items()},
                "trials": content.hexdigest(),
                "audio": [[each.path, *each.stamp] for each in self.audio],
                "weights": self.clean.weights_sha256,
                "threshold": self.found.value,
                "figures": HEADINGS,
            }
        )

    def kept(self, named: Named, key: str) -> bool:
        """Take the figures of an earlier run, where they are of the same; whether they were."""
        row = self._earlier.get(self.digest(key))
        if row is None:
            return False
        self.rows.append({**row, "group": named.group, "name": named.name})
        self.write()
        return True

    def add(self, named: Named, key: str, vectors: np.ndarray) -> None:
        """Score the trials with embeddings (N, D) under a condition, and write the card.

        Raises
        ------
        UserError
            When one of them is zero or not finite.
        """
        changed = Embeddings(self.clean.ids, vectors, self.clean.weights_sha256)
        scores = {
            "both": cosine_scores(self.trials, changed),
            "test": cosine_scores(self.trials, changed, enrol=self.clean),
        }
        spared = sum(named.condition.spares(each.seconds) for each in self.audio)
        self._add(named.group, named.name, key, scores, spared)

    def _add(
        self, group: str, name: str, key: str, scores: Mapping[str, np.ndarray], spared: int
    ) -> None:
        row: dict[str, Any] = {"group": group, "name": name, "digest": self.digest(key)}
        row["spared"] = spared
        for side, each in scores.items():
            row[side] = measure_side(each, self.trials, self.speakers, self.found.value)
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """Write what there is so far."""
        facts = {
            **self.header,
            "targets": self.trials.targets,
            "nontargets": self.trials.nontargets,
            "threshold": self.found._asdict(),
            "rows": self.rows,
        }
        write_card(self.folder, facts)

    def draw(self) -> None:
        """Write ``plots/<list>_conditions``."""
        title = f"{self.header['title']}: {self.header['system']} under conditions"
        figure = conditions_plot(self.rows, SIDES, title, f"view: {self.header['view']}")
        save_figure(figure, self.folder / "plots" / f"{self.name}_conditions")


class ConditionRun(NamedTuple):
    """Tries a model under conditions, on lists that it has been evaluated on.

    Every process of a run takes its share of the recordings.

    Arguments
    ---------
    folder : Path
        Of the evaluation; each condition has a folder of embeddings below it.
    store : EmbeddingStore
        Has the embeddings of the recordings as they are.
    embedder : FileEmbedder
        Makes those of others.
    least_samples : int
        How many the model needs.
    facts : mapping
        ``system``, ``view`` and ``weights_sha256``.
    threshold : CardThreshold, optional
        The model's own.
    """

    folder: Path
    store: EmbeddingStore
    embedder: FileEmbedder
    least_samples: int
    facts: Mapping[str, Any]
    threshold: CardThreshold | None

    def measure(
        self,
        conditions: Sequence[Named],
        lists: Sequence[EvaluationList],
        used: Mapping[Files, Audio],
    ) -> list[str]:
        """Embed and score what an earlier run has not.

        Arguments
        ---------
        conditions : sequence of Named
            In the order of the card.
        lists : sequence of EvaluationList
            The lists; in the first process alone, as ``used``.
        used : mapping of Files to Audio
            The recording of each utterance.

        Returns
        -------
        list of str
            The names of the lists; none in other processes than the first.

        Raises
        ------
        UserError
            When a condition cannot be used for a list, or a recording under it.
        """
        cards: list[ConditionCard] = []

        def plan() -> list[tuple[list[Audio], list[tuple[Under, str]]]]:
            """What can be refused is, before anything is embedded."""
            plans = []
            for each in lists:
                audio, others = recordings_of(each, used)
                unders = [Under(named, others, self.least_samples) for named in conditions]
                plans.append((audio, [(under, under.key(audio)) for under in unders]))
            for each, (audio, _) in zip(lists, plans, strict=True):
                cards.append(self._card(each, used, audio))
            return plans

        for number, (audio, unders) in enumerate(first_decides(plan)):
            card = cards[number] if cards else None
            for under, key in progress_bar(unders, desc="conditions", disable=card is None):
                self._try(card, audio, under, key)
        for card in cards:
            card.draw()
        return [card.name for card in cards]

    def _try(self, card: ConditionCard | None, audio: list[Audio], under: Under, key: str) -> None:
        if first_decides(lambda: card is not None and card.kept(under.named, key)):
            return
        folder = self.folder / "embeddings" / "conditions" / key[:16]
        store = EmbeddingStore(folder, self.store.weights_sha256)
        self.embedder.embed(first_decides(lambda: store.missing(audio)), store, under)
        if card is not None:
            card.add(under.named, key, store.matrix([each.path for each in audio]))

    def _card(
        self, each: EvaluationList, used: Mapping[Files, Audio], audio: list[Audio]
    ) -> ConditionCard:
        files = [one.path for one in audio]
        row_of = {file: str(row) for row, file in enumerate(files)}
        trials = each.by_row({own: row_of[used[own].path] for some in each.files for own in some})
        weights = self.store.weights_sha256
        clean = Embeddings(list(row_of.values()), self.store.matrix(files), weights)
        header = {
            "trials": each.name,
            "title": each.title,
            **{key: self.facts[key] for key in ("system", "view", "weights_sha256")},
            "utterances": len(files),
        }
        more = (each.speakers, audio, clean, self.threshold)
        return ConditionCard(self.folder, header, trials, *more)


def recordings_of(
    each: EvaluationList, used: Mapping[Files, Audio]
) -> tuple[list[Audio], Others | None]:
    """The recordings of a list, and who may be heard beside their speakers.

    Arguments
    ---------
    each : EvaluationList
        The list.
    used : mapping of Files to Audio
        The recording of each utterance.

    Returns
    -------
    (list of Audio, Others or None)
        None where the names do not tell who speaks.
    """
    audio = {used[own].path: used[own] for some in each.files for own in some}
    if each.speakers is None:
        return list(audio.values()), None
    speakers = each.speakers.tolist()
    speaker_of = {
        used[own].path: speaker
        for speaker, some in zip(speakers, each.files, strict=True)
        for own in some
    }
    return list(audio.values()), Others.of(speaker_of)
