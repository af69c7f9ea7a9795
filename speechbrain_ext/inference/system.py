"""A folder whose embeddings are scored."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.decisions import LEAST_NEAREST
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.embed_folder import TOGETHER
from speechbrain_ext.inference.provenance import system_name
from speechbrain_ext.systems.experiment import kept_sha256
from speechbrain_ext.verification.embeddings import COHORT, Embeddings, load_embeddings
from speechbrain_ext.verification.quality import unit_cohort
from speechbrain_ext.verification.score_norm import SNORM, Cohort, view_of


class System:
    """A folder whose embeddings are scored.

    It is an experiment ``exp/<corpus>/<system>/seed_<n>``, which has a file of embeddings for each
    set, or a folder that embed.py filled, which has one for all.
    """

    def __init__(self, folder: Path, manifests: Path) -> None:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: there is no such experiment folder; train the system first.",
                code="missing-folder",
            )
        self.folder, self.manifests = folder, manifests
        self._sets: dict[str, Embeddings] = {}
        together = folder / TOGETHER
        self._together = load_embeddings(together) if together.is_file() else None
        if self._together is None:
            self.name = folder.resolve().parent.name
        else:
            model = self._together.provenance.get("model", folder)
            self.name = system_name(Path(str(model)))

    def embeddings(self, set_name: str) -> Embeddings:
        """The embeddings of a set, read once."""
        if self._together is not None:
            return self._together
        if set_name not in self._sets:
            path = self.folder / "embeddings" / f"{set_name}.npz"
            if not path.is_file():
                command = ["python", "extract.py", str(self.folder)]
                command += ["--manifests", str(self.manifests), "--sets", set_name]
                raise UserError(
                    f"{path} is missing: extract.py (stage 4) makes it; "
                    f"run `{shlex.join(command)}` first.",
                    code="earlier-stage",
                )
            embeddings, kept = load_embeddings(path), kept_sha256(self.folder)
            if kept is not None and kept != embeddings.weights_sha256:
                raise UserError(
                    f"{path} was made with other weights than {self.folder} has by now: run "
                    "extract.py (stage 4) again, which makes it anew.",
                    code="other-weights",
                )
            self._sets[set_name] = embeddings
        return self._sets[set_name]

    def cohort(self, path: Path | None, norm: str, nearest: int | None) -> Cohort | None:
        """Those who normalise this system's scores: of a file, or its own training speakers.

        None where these are too few, which is said.
        """
        if path is None and self._together is not None:
            raise UserError(
                f"--score_norm {norm} needs --cohort, a file of embeddings: {self.folder} was "
                "filled by embed.py and knows no training speakers.",
                code="missing-option",
            )
        if path is not None:
            members = load_embeddings(path)
        else:
            path, members = self._training_speakers()
            if len(members) < LEAST_NEAREST:
                print(
                    f"Scores are not normalised: {len(members)} training speakers are no cohort, "
                    f"which needs {LEAST_NEAREST}."
                )
                return None
        weights, view = kept_sha256(self.folder) or members.weights_sha256, "full"
        if self._together is not None:
            weights, view = self._together.weights_sha256, view_of(self._together)
        with about(str(path)):
            cohort = Cohort.of(members, norm, nearest)
            cohort.check(weights, view)
            return cohort

    def unit_cohort(self) -> np.ndarray:
        """The training speakers (M, D) as a calibration measures the likeness to them."""
        if self._together is not None:
            raise UserError(
                f"--calibration cohort needs training speakers, and {self.folder}, which embed.py "
                "filled, knows none: leave cohort out.",
                code="bad-option",
            )
        path, members = self._training_speakers()
        with about(str(path)):
            return unit_cohort(Cohort.of(members, SNORM).embeddings)

    def _training_speakers(self) -> tuple[Path, Embeddings]:
        """Their file, and the embedding of each."""
        path = self.folder / "embeddings" / f"{COHORT}.npz"
        command = ["python", "extract.py", str(self.folder)]
        command += ["--manifests", str(self.manifests), "--cohort"]
        if not path.is_file():
            raise UserError(
                f"{path} is missing: run `{shlex.join(command)}` first.", code="earlier-stage"
            )
        members = load_embeddings(path)
        if members.weights_sha256 != (kept_sha256(self.folder) or members.weights_sha256):
            raise UserError(
                f"{path} was made with other weights than {self.folder} has by now: run "
                f"`{shlex.join(command)}`, which makes it anew.",
                code="other-weights",
            )
        return path, members

    def check_has_all(self, corpus: Corpus) -> None:
        """Refuse to score every list of a corpus with a folder of embed.py that lacks some."""
        if self._together is None:
            return
        ids = set(self._together.ids)
        lists = {name: corpus.trials(entry)[0] for name, entry in corpus.lists.items()}
        lacking = [name for name, trials in lists.items() if not ids.issuperset(trials.utterances)]
        if lacking:
            rest = [name for name in lists if name not in lacking]
            remedy = (
                f"give --trials {' '.join(rest)}"
                if rest
                else "embed the folder that their names are below"
            )
            raise UserError(
                f"{self.folder} lacks embeddings of utterances in the trial lists "
                f"{', '.join(lacking)} of {corpus.manifests}: {remedy}",
                code="missing-embedding",
            )


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Say in an error what it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}", code=error.code) from None
