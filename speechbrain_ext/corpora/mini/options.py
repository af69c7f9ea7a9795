"""What one can choose about the corpus, and the names that follow from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from speechbrain_ext.errors import UserError

# Raised whenever the same options begin to give other samples.
RECIPE_VERSION = 1
SPLITS = ("dev", "test")
_FIRST_NUMBER = {"dev": 10001, "test": 20001}


@dataclass(frozen=True)
class MiniOptions:
    """Size and seed of the corpus."""

    seed: int = 0
    train_speakers: int = 140
    test_speakers: int = 40
    sessions: int = 4
    utterances: int = 4
    min_seconds: float = 2.0
    max_seconds: float = 4.5

    def __post_init__(self) -> None:
        for name, least, why in (
            ("seed", 0, "seeds are not negative"),
            ("train_speakers", 2, "one speaker cannot be told from another"),
            ("test_speakers", 2, "non-target trials need two"),
            ("sessions", 2, "target trials compare two sessions of a speaker"),
            ("utterances", 1, "a session without any is no session"),
            ("min_seconds", 0.5, "shorter ones are no speech"),
        ):
            if getattr(self, name) < least:
                raise UserError(
                    f"--{name} is {getattr(self, name)} but must be at least {least}: {why}.",
                    code="bad-option",
                )
        if self.train_speakers > 9999 or self.test_speakers > 9999:
            raise UserError(
                "--train_speakers and --test_speakers may be at most 9999 each.", code="bad-option"
            )
        if self.max_seconds < self.min_seconds:
            raise UserError(
                f"--max_seconds is {self.max_seconds}, less than --min_seconds, "
                f"{self.min_seconds}.",
                code="bad-option",
            )

    def description(self) -> dict[str, object]:
        """What corpus.json says of the corpus."""
        title = "Mini corpus (synthetic speech)"
        return {
            "name": "mini",
            "title": title,
            "synthetic": True,
            "version": RECIPE_VERSION,
            **asdict(self),
        }


@dataclass(frozen=True)
class SpeakerTask:
    """A speaker to be rendered; men and women take turns."""

    split: str  # "dev" or "test"
    index: int  # 0 ... number of the split's speakers - 1

    @property
    def name(self) -> str:
        """Folder of the speaker.

        Example
        -------
        >>> SpeakerTask("test", 2).name
        'id20003'
        """
        return f"id{_FIRST_NUMBER[self.split] + self.index}"

    @property
    def sex(self) -> str:
        """Either "f" or "m"."""
        return "fm"[self.index % 2]


def speaker_tasks(options: MiniOptions) -> list[SpeakerTask]:
    """List every speaker of the corpus, training speakers first."""
    counts = zip(SPLITS, (options.train_speakers, options.test_speakers), strict=True)
    return [SpeakerTask(split, index) for split, count in counts for index in range(count)]


def utterance_path(speaker: str, session: int, utterance: int) -> str:
    """Path of an utterance below its split's folder; both numbers count from 0.

    Example
    -------
    >>> utterance_path("id10001", 0, 2)
    'id10001/s01/00003.flac'
    """
    return f"{speaker}/s{session + 1:02d}/{utterance + 1:05d}.flac"
