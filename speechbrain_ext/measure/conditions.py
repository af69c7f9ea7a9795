"""A list of recordings under conditions: read from a YAML, and what is embedded under each."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from speechbrain_ext.audio import SAMPLE_RATE, read_audio
from speechbrain_ext.channels.conditions import Condition, Voices
from speechbrain_ext.corpora.evaluation_lists import Audio
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import fingerprint
from speechbrain_ext.inference.extraction import tell_unusable
from speechbrain_ext.systems.yaml import check_tree, make_hparams, read_yaml

# Recordings that others are heard from: one of each of so many speakers, so much of each.
_VOICES, _VOICE_SECONDS = 40, 10


class Named(NamedTuple):
    """A condition as a YAML calls it."""

    group: str
    name: str
    condition: Condition


def read_conditions(path: str | os.PathLike[str]) -> list[Named]:
    """Read the conditions of a YAML, such as ``hparams/conditions/card.yaml``.

    Its classes are made, which can run any code: read only what you trust.

    Arguments
    ---------
    path : str or path
        A mapping of groups, each a mapping of names to conditions.

    Returns
    -------
    list of Named
        In their order.

    Raises
    ------
    UserError
        When the file cannot be read, or names a class that there is not, or one that is no
        condition.

    Example
    -------
    >>> path = getfixture("tmp_path") / "card.yaml"
    >>> text = "Duration: {1 s: !new:speechbrain_ext.channels.conditions.Excerpt {seconds: 1}}"
    >>> _ = path.write_text(text)
    >>> read_conditions(path)
    [Named(group='Duration', name='1 s', condition=Excerpt(seconds=1))]
    """
    check_tree(path, read_yaml(path, "give a file of hparams/conditions/"))
    found = []
    for group, conditions in make_hparams(path, Path(path).read_text(encoding="utf-8")).items():
        if not isinstance(conditions, Mapping) or not conditions:
            raise UserError(
                f"{path}: {group} names no conditions: write '<name>: !new:<class>' lines below it",
                code="bad-setting",
            )
        for name, condition in conditions.items():
            parts = [condition, *getattr(condition, "steps", ())]
            if not all(isinstance(each, Condition) for each in parts):
                raise UserError(
                    f"{path}: {group}, {name} is made of {type(condition).__name__}: name a class "
                    "of speechbrain_ext/channels/conditions.py, or one that is a Condition too",
                    code="bad-setting",
                )
            if not all(dataclasses.is_dataclass(each) for each in parts):
                raise UserError(
                    f"{path}: {group}, {name}: {type(condition).__name__} is no dataclass, by "
                    "whose fields one condition is told from another: make it one",
                    code="bad-setting",
                )
            found.append(Named(group, str(name), condition))
    return found


@dataclass(frozen=True)
class Others:
    """Recordings of a list that are heard beside another's, each of another speaker.

    Arguments
    ---------
    files : tuple of (str, int)
        Each file and the number of its speaker.
    speaker_of : dict of str to int
        The speakers of all files of the list.

    Example
    -------
    >>> others = Others.of({"/a.wav": 0, "/b.wav": 1, "/c.wav": 1})
    >>> sorted({speaker for _, speaker in others.files})
    [0, 1]
    """

    files: tuple[tuple[str, int], ...]
    speaker_of: Mapping[str, int]

    @classmethod
    def of(cls, speaker_of: Mapping[str, int]) -> Others:
        """Choose them, the same whenever a list has the same files."""
        order = np.random.default_rng(0).permutation(len(speaker_of))
        files = sorted(speaker_of)
        one_each = {speaker_of[files[place]]: files[place] for place in order}
        chosen = sorted((file, speaker) for speaker, file in one_each.items())
        places = np.random.default_rng(1).permutation(len(chosen))[:_VOICES]
        return cls(tuple(chosen[place] for place in sorted(places)), speaker_of)

    def voices(self, but: str, count: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Some recordings (samples,), none of them of the speaker of a file."""
        own = self.speaker_of[but]
        free = [file for file, speaker in self.files if speaker != own]
        chosen = rng.permutation(len(free))[:count]
        return [_voice(free[place]) for place in chosen]


@functools.lru_cache(maxsize=_VOICES)
def _voice(path: str) -> np.ndarray:
    with tell_unusable(path):
        return read_audio(path)[: _VOICE_SECONDS * SAMPLE_RATE].numpy()


@dataclass(frozen=True)
class Under:
    """What a condition makes of each recording of a list, the same whenever it is asked.

    Arguments
    ---------
    named : Named
        The condition.
    others : Others, optional
        Who may be heard beside the speaker.
    least_samples : int
        How many the model needs.

    Raises
    ------
    UserError
        When the condition needs others and there are none, or it cannot be used at all.
    """

    named: Named
    others: Others | None
    least_samples: int = 1

    def __post_init__(self) -> None:
        condition = self.named.condition
        if condition.needs_voices and (self.others is None or len(self.others.files) < 3):
            raise UserError(
                f"{self._name} lets other speakers of the list be heard, and the list has fewer "
                "than three or its names do not tell them: take it out of the conditions",
                code="few-speakers",
            )

    @property
    def _name(self) -> str:
        return f"the condition {self.named.group}, {self.named.name}"

    def __call__(self, path: str, wav: Tensor) -> Tensor:
        """Change the recording (samples,) of a file."""
        samples = wav.numpy()
        # By the sound itself: it may lie elsewhere, or be called otherwise, another time.
        digest = hashlib.sha256(repr(self.named.condition).encode() + samples.tobytes())
        rng = np.random.default_rng(np.frombuffer(digest.digest(), dtype=np.uint32))

        def voices(count: int, rng: np.random.Generator) -> list[np.ndarray]:
            assert self.others is not None  # of those that need it
            return self.others.voices(path, count, rng)

        changed = self._changed(samples, rng, voices, path)
        if len(changed) < self.least_samples:
            what = f"{len(changed)} samples of {path}, and the model needs {self.least_samples}"
            raise self._refusal(f"makes {what}")
        return torch.from_numpy(np.ascontiguousarray(changed, dtype=np.float32))

    def _changed(
        self, wav: np.ndarray, rng: np.random.Generator, voices: Voices, of: str
    ) -> np.ndarray:
        try:
            with np.errstate(all="ignore"):
                changed = np.asarray(self.named.condition(wav, rng, voices))
        except UserError:
            raise
        except Exception as error:  # a class of anybody's, with any values
            raise self._refusal(f"fails on {of} ({error!r})") from error
        if not np.isfinite(changed).all():
            raise self._refusal(f"makes sound that is not finite of {of}")
        return changed

    def _refusal(self, what: str) -> UserError:
        return UserError(
            f"{self._name} {what}: mend it, or take it out of the conditions", code="bad-setting"
        )

    def key(self, audio: Sequence[Audio]) -> str:
        """What tells its embeddings from those of any other condition, as a digest.

        The fields of the condition, what it makes of a second of noise, which its code and the
        libraries under it decide, and, where others are heard, who.

        Raises
        ------
        UserError
            When the condition fails on that.
        """
        noise = np.random.default_rng(0).normal(size=SAMPLE_RATE).astype(np.float32) / 10
        condition, heard = self.named.condition, []
        if self.others is not None and condition.needs_voices:
            stamps = {each.path: list(each.stamp) for each in audio}
            heard = [[file, speaker, stamps[file]] for file, speaker in self.others.files]
        made = self._changed(
            noise,
            np.random.default_rng(0),
            lambda count, rng: [noise[::-1]] * min(count, 3),
            "a second of noise",
        )
        # Processors round differently.
        whole = np.round(made.astype(np.float64) * 2**10).astype(np.int64)
        probe = hashlib.sha256(whole.tobytes()).hexdigest()
        return fingerprint({"condition": repr(condition), "probe": probe, "others": heard})
