"""A corpus as stage 1 left it: its names, its trial lists, and who speaks where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.verification.enrolment import read_enrolment
from speechbrain_ext.verification.trials import TrialList, read_trials


@dataclass(frozen=True)
class Corpus:
    """What stage 1 wrote about a corpus: its names, its trial lists, and who speaks where."""

    manifests: Path
    name: str
    title: str
    synthetic: bool
    lists: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, manifests: Path) -> Corpus:
        """Read ``manifest.json``."""
        path = manifests / "manifest.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            lists = {entry["name"]: entry for entry in content["trials"]}
            corpus = cls(
                manifests, content["corpus"], content["title"], content["synthetic"], lists
            )
        except FileNotFoundError:
            raise UserError(
                f"{path} is missing: run stage 1 first (python local/prepare_manifests.py).",
                code="earlier-stage",
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} cannot be used ({error!r}): run stage 1 again, which makes it.",
                code="damaged-file",
            ) from None
        if not lists:
            raise UserError(
                f"{path} names no trial list: give stage 1 a list with --trials.", code="no-trials"
            )
        return corpus

    @property
    def described(self) -> str:
        """The title, which says so when the speech is synthetic."""
        says_so = not self.synthetic or "synthetic" in self.title.lower()
        return self.title if says_so else f"{self.title} (synthetic)"

    @property
    def sets(self) -> list[str]:
        """The sets whose utterances the trial lists name: those that need embeddings."""
        return list(dict.fromkeys(entry["set"] for entry in self.lists.values()))

    def trials(self, entry: Mapping[str, Any]) -> tuple[TrialList, np.ndarray]:
        """Read a trial list.

        Arguments
        ---------
        entry : mapping
            One of ``lists``.

        Returns
        -------
        trials : TrialList
            N trials between U names.
        speakers : np.ndarray
            (U,) a number for the speaker of each name, a model's that of its utterances.

        Raises
        ------
        UserError
            When the list cannot be read, does not belong to its set, or has one speaker alone.
        """
        path = self.manifests / entry["file"]
        enrolment = entry.get("enrolment")
        models = read_enrolment(self.manifests / enrolment) if enrolment else None
        trials = read_trials(path, enrolment=models)
        manifest = read_manifest(self.manifests / f"{entry['set']}.csv")
        utterances = list(trials.utterances)
        places = manifest.ids.find(utterances)
        unknown = [utterances[number] for number in np.flatnonzero(places < 0)]
        if unknown:
            raise UserError(
                f"{path}: {len(unknown)} utterances are not in {entry['set']}.csv: "
                f"{first_few(unknown)}; "
                "run stages 1 and 4 again.",
                code="unknown-utterance",
            )
        owners = (manifest.speakers[number] for number in manifest.speaker_index[places])
        speaker_of = dict(zip(utterances, owners, strict=True))
        names, numbers = np.unique(trials.speakers(speaker_of.__getitem__), return_inverse=True)
        if len(names) < 2:
            raise UserError(
                f"{path}: all its utterances are of {names[0]}; give a list with others.",
                code="one-sided-trials",
            )
        return trials, numbers

    def seconds(self, set_name: str) -> dict[str, float]:
        """Seconds of each utterance of a set."""
        manifest = read_manifest(self.manifests / f"{set_name}.csv")
        return dict(zip(manifest.ids, manifest.durations.tolist(), strict=True))

    @property
    def held_out(self) -> dict[str, Any] | None:
        """The trial list of the training speakers who are held out, if there is one."""
        return next((entry for entry in self.lists.values() if entry["set"] == "valid"), None)

    def chosen(self, names: Sequence[str] | None) -> list[dict[str, Any]]:
        """The trial lists of these names, or all of them."""
        unknown = [name for name in names or () if name not in self.lists]
        if unknown:
            raise UserError(
                f"--trials {unknown[0]}: {self.manifests / 'manifest.json'} has no such list; it "
                f"has {', '.join(self.lists)}.",
                code="unknown-name",
            )
        return [self.lists[name] for name in names or self.lists]
