"""Where calibrations and thresholds are kept: in an experiment, and in an exported folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_ext.decisions import Decisions
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path

#: The file of an experiment that holds what was fitted.
DECISIONS = "decisions.json"
#: Beside it, as in an exported folder, the cohort whose likeness a calibration may weigh.
COHORT_ROWS = "cohort.npy"
#: What an exported folder says of itself.
FACTS = "model.json"


class Fitted(NamedTuple):
    """What an experiment or an exported model decides by.

    Arguments
    ---------
    decisions : Decisions
        The calibration and the operating points.
    cohort : np.ndarray, optional
        (M, D) float16, rows of length 1, where the calibration weighs the likeness to them.
    """

    decisions: Decisions
    cohort: np.ndarray | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """The score and the qualities that the calibration weighs; none without one."""
        calibration = self.decisions.calibration
        return () if calibration is None else tuple(calibration.weights)


def keep_decisions(folder: str | os.PathLike[str], fitted: Fitted | None, weights: str) -> None:
    """Write what was fitted into an experiment folder, with the digest of its network's weights.

    With None what was there goes.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> keep_decisions(folder, Fitted(Decisions({}, None, ())), "0f3a")
    >>> kept_decisions(folder, "0f3a").decisions, kept_decisions(folder, "77aa")
    (Decisions(fitted_on={}, calibration=None, operating_points=()), None)
    """
    folder = Path(folder)
    if fitted is None or fitted.cohort is None:
        (folder / COHORT_ROWS).unlink(missing_ok=True)
    else:
        write_cohort(folder, fitted.cohort)
    if fitted is None:
        (folder / DECISIONS).unlink(missing_ok=True)
        return
    content = {"weights_sha256": weights, **fitted.decisions.tree()}
    with atomic_path(folder / DECISIONS) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def kept_decisions(folder: str | os.PathLike[str], weights: str) -> Fitted | None:
    """Read what :func:`keep_decisions` wrote; None where it was not, or was of other weights.

    Raises
    ------
    UserError
        When a file cannot be read.
    """
    path = Path(folder) / DECISIONS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["weights_sha256"] != weights:
            return None
        return with_cohort(folder, Decisions.read(content))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{path} cannot be used ({error!r}): run score.py again, which makes it.",
            code="damaged-file",
        ) from None


def write_cohort(folder: Path, cohort: np.ndarray) -> None:
    """Write the rows of a cohort into a folder."""
    with atomic_path(folder / COHORT_ROWS) as temporary, open(temporary, "wb") as file:
        np.save(file, cohort, allow_pickle=False)


def with_cohort(folder: str | os.PathLike[str], decisions: Decisions) -> Fitted:
    """Decisions with the cohort beside them, where they need it.

    Raises
    ------
    UserError
        When it is missing or is none.
    """
    fitted = Fitted(decisions)
    if "cohort" not in fitted.measures:
        return fitted
    path = Path(folder) / COHORT_ROWS
    try:
        cohort = np.load(path, allow_pickle=False)
        if cohort.ndim != 2 or not len(cohort) or not np.isfinite(cohort).all():
            raise ValueError(f"an array of shape {cohort.shape}")
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise UserError(
            f"{path} is no cohort ({error}): make the folder again, by score.py or export.py",
            code="damaged-file",
        ) from None
    return fitted._replace(cohort=cohort)


def exported_decisions(folder: str | os.PathLike[str]) -> Fitted | None:
    """What an exported folder decides by; None where it is none, or holds nothing of the kind.

    Raises
    ------
    UserError
        When its files cannot be read.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> facts = {"decisions": Decisions({}, None, ()).tree()}
    >>> _ = (folder / FACTS).write_text(json.dumps(facts))
    >>> exported_decisions(folder).measures
    ()
    """
    path = Path(folder) / FACTS
    try:
        tree = json.loads(path.read_text(encoding="utf-8")).get("decisions")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be used ({error}): export the model again", code="damaged-file"
        ) from None
    return None if tree is None else with_cohort(folder, Decisions.read(tree, path))
