"""The settings of stage 1, as hparams/manifests.yaml gives them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from hyperpyyaml import load_hyperpyyaml

from speechbrain_ext.errors import UserError


@dataclasses.dataclass(frozen=True)
class ManifestSettings:
    """What decides which files are used and which speakers are held out.

    Arguments
    ---------
    valid_speakers : int
        Training speakers held out for model selection, 2 or more.
    valid_seed : int
        Seed of that draw.
    valid_utterances_per_speaker : int
        Most utterances of a held-out speaker that enter the trials, 2 or more.
    min_seconds : float
        Shorter files are skipped.
    valid_files : int
        Files held out for model selection where no speech has labels, 2 or more.
    voices : int
        Copies of each training file in other voices, without labels, for ``train_voices.csv``.
    """

    valid_speakers: int
    valid_seed: int
    valid_utterances_per_speaker: int
    min_seconds: float
    valid_files: int
    voices: int

    def __post_init__(self) -> None:
        for name, lowest in (
            ("valid_speakers", 2),
            ("valid_utterances_per_speaker", 2),
            ("min_seconds", 0),
            ("valid_files", 2),
            ("voices", 0),
        ):
            if getattr(self, name) < lowest:
                raise UserError(
                    f"{name} is {getattr(self, name)}; it must be at least {lowest}.",
                    code="bad-setting",
                )


KEYS = {
    field.name: int if field.type == "int" else float
    for field in dataclasses.fields(ManifestSettings)
}
"""Each setting and its type."""


def load_manifest_settings(
    path: str | os.PathLike[str], overrides: Mapping[str, object]
) -> ManifestSettings:
    """Read the settings from a HyperPyYAML file.

    Arguments
    ---------
    path : str or path
        The file, e.g. ``hparams/manifests.yaml``.
    overrides : mapping
        Values that stand in for those of the file; ``None`` keeps the file's.

    Returns
    -------
    ManifestSettings

    Raises
    ------
    UserError
        When the file cannot be read, or has an unknown, a missing or an impossible value.

    Example
    -------
    >>> path = getfixture("tmp_path") / "manifests.yaml"
    >>> text = "valid_speakers: 20\\nvalid_seed: 1\\nvalid_utterances_per_speaker: 10\\n"
    >>> text += "min_seconds: 0.3\\nvalid_files: 100\\nvoices: 0\\n"
    >>> _ = path.write_text(text)
    >>> load_manifest_settings(path, {"valid_speakers": 5}).valid_speakers
    5
    """
    try:
        with open(path, encoding="utf-8") as stream:
            values = load_hyperpyyaml(stream)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a YAML file.", code="unreadable-file"
        ) from None
    except Exception as error:  # ruamel and hyperpyyaml raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is not valid HyperPyYAML ({reason}).", code="bad-yaml") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no keys; expected {', '.join(KEYS)}.", code="missing-key")
    values.update({key: value for key, value in overrides.items() if value is not None})
    for key in values:
        if key not in KEYS:
            raise UserError(
                f"{path}: unknown key {key!r}; the keys are {', '.join(KEYS)}.", code="unknown-key"
            )
    for key, kind in KEYS.items():
        if key not in values:
            raise UserError(f"{path}: the key {key!r} is missing; add it.", code="missing-key")
        allowed = (int,) if kind is int else (int, float)
        if isinstance(values[key], bool) or not isinstance(values[key], allowed):
            what = "a whole number" if kind is int else "a number"
            raise UserError(
                f"{path}: {key} is {values[key]!r}; it must be {what}.", code="bad-setting"
            )
    typed: dict[str, Any] = {key: kind(values[key]) for key, kind in KEYS.items()}
    return ManifestSettings(**typed)
