"""Invented speakers, and the voice files that make eSpeak NG speak like them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_FORMANTS = 9
_TONE_HZ = (600, 1200, 2000, 3200)
_TONE_AMPLITUDE = np.array([170.0, 135.0, 110.0, 110.0])

# Language files that eSpeak NG ships, and how often each is drawn.
_ACCENTS = {
    "en-US": 0.4,
    "en": 0.2,
    "en-GB-x-rp": 0.1,
    "en-GB-scotland": 0.1,
    "en-GB-x-gbclan": 0.1,
    "en-US-nyc": 0.1,
}


@dataclass(frozen=True)
class InventedSpeaker:
    """What stays with a speaker from session to session.

    Factors are relative to eSpeak NG's default voice, a man's.
    """

    sex: str  # "f" or "m"
    accent: str  # an eSpeak NG language file
    pitch_hz: float
    pitch_span: float  # range of the melody, as a part of pitch_hz
    tract: float  # factor on all formant frequencies: a short vocal tract has a large one
    warp: float  # factor on the whole spectrum, by resampling
    formant_frequency: npt.NDArray[np.float64]  # factors, (9,)
    formant_height: npt.NDArray[np.float64]  # factors, (9,)
    formant_width: npt.NDArray[np.float64]  # factors, (9,)
    tone: npt.NDArray[np.float64]  # factors on the amplitudes at _TONE_HZ, (4,)
    breath: tuple[int, ...]  # noise in each of 8 formants; empty for none
    roughness: int
    flutter: int
    voicing: float
    consonants: float
    intonation: int
    rate: float  # words a minute


def _factor(
    rng: np.random.Generator, spread: float, shape: int | None = None
) -> npt.NDArray[np.float64]:
    """Draw log-normal factors around 1; ``spread`` is the standard deviation of their logarithm."""
    return np.exp(rng.normal(0.0, spread, shape))


def draw_speaker(rng: np.random.Generator, sex: str) -> InventedSpeaker:
    """Invent a speaker of the given sex ("f" or "m").

    The spreads make speakers overlap so much that neither pitch nor the average spectrum tells them
    apart.

    Example
    -------
    >>> speaker = draw_speaker(np.random.default_rng(0), "f")
    >>> 140 <= speaker.pitch_hz <= 290
    True
    """
    centre, low, high, tract = (200, 140, 290, 1.15) if sex == "f" else (115, 75, 180, 1.0)
    breathy = rng.random() < 0.5
    return InventedSpeaker(
        sex=sex,
        accent=str(rng.choice(list(_ACCENTS), p=list(_ACCENTS.values()))),
        pitch_hz=float(np.clip(centre * _factor(rng, 0.15), low, high)),
        pitch_span=float(rng.uniform(0.2, 0.5)),
        tract=tract * float(_factor(rng, 0.07)),
        warp=float(_factor(rng, 0.03)),
        formant_frequency=_factor(rng, 0.05, _FORMANTS),
        formant_height=_factor(rng, 0.20, _FORMANTS),
        formant_width=_factor(rng, 0.20, _FORMANTS),
        tone=_factor(rng, 0.20, len(_TONE_HZ)),
        breath=tuple(int(amount) for amount in rng.integers(0, 5, 8)) if breathy else (),
        roughness=int(rng.integers(0, 4)),
        flutter=int(rng.integers(1, 7)),
        voicing=float(rng.uniform(80, 115)),
        consonants=float(rng.uniform(60, 130)),
        intonation=int(rng.integers(1, 5)),
        rate=165.0 * float(_factor(rng, 0.10)),
    )


def _accent_lines(language_file: Path) -> list[str]:
    """What a shipped language file says about pronunciation, without its name and credits."""
    unwanted = ("name", "maintainer", "status", "tunes")
    lines = language_file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and line.split()[0] not in unwanted]


def voice_file_text(speaker: InventedSpeaker, rng: np.random.Generator, data: Path) -> str:
    """Write the voice file of a speaker on one day.

    Arguments
    ---------
    speaker : InventedSpeaker
        Who speaks.
    rng : numpy.random.Generator
        The session's chance: nobody sounds quite the same on two days.
    data : Path
        eSpeak NG's data folder.

    Returns
    -------
    str
        A voice file as eSpeak NG documents it.
    """
    pitch = speaker.pitch_hz * float(_factor(rng, 0.10))
    tract = speaker.tract * float(_factor(rng, 0.015))
    frequency = 100 * tract * speaker.formant_frequency * _factor(rng, 0.015, _FORMANTS)
    height = 100 * speaker.formant_height * _factor(rng, 0.10, _FORMANTS)
    width = 100 * speaker.formant_width
    tone = _TONE_AMPLITUDE * speaker.tone * _factor(rng, 0.10, len(_TONE_HZ))
    low, high = pitch * (1 - 0.55 * speaker.pitch_span), pitch * (1 + 0.45 * speaker.pitch_span)

    lines = ["name synthetic", *_accent_lines(data / "lang" / "gmw" / speaker.accent)]
    lines.append("gender " + {"f": "female", "m": "male"}[speaker.sex])
    lines.append(f"pitch {low:.0f} {high:.0f}")
    for index in range(_FORMANTS):
        # Beyond these limits eSpeak NG whistles or clips.
        f = np.clip(frequency[index], 60, 180)
        h = np.clip(height[index], 20, 250)
        w = np.clip(width[index], 40, 220)
        lines.append(f"formant {index} {f:.0f} {h:.0f} {w:.0f}")
    if speaker.breath:
        lines.append("breath " + " ".join(str(amount) for amount in speaker.breath))
    lines += [
        f"roughness {speaker.roughness}",
        f"flutter {speaker.flutter}",
        f"voicing {speaker.voicing:.0f}",
        f"consonants {speaker.consonants:.0f} {speaker.consonants:.0f}",
        f"intonation {speaker.intonation}",
        "tone "
        + " ".join(
            f"{hertz} {min(amplitude, 255):.0f}"
            for hertz, amplitude in zip(_TONE_HZ, tone, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


_ARTICLES = "the", "a", "one", "her", "his", "each", "no", "that old", "this new", "the other"
_QUALITIES = (
    "bright", "cold", "curious", "dusty", "early", "faithful", "foreign", "green", "hungry", "idle",
    "jolly", "kind", "large", "muddy", "nervous", "orange", "purple", "quick", "round", "sleepy",
    "thick", "unusual", "velvet", "warm", "weary", "yearly", "zealous", "sharp", "chilly", "shy",
)  # fmt: skip
_THINGS = (
    "apple", "barn", "carriage", "donkey", "envelope", "fiddle", "goose", "hammer", "iceberg",
    "journal", "kettle", "lantern", "meadow", "neighbour", "orchard", "parcel", "quarrel",
    "rooftop", "saddle", "tower", "uncle", "valley", "waiter", "yacht", "zebra", "choir",
    "shepherd", "thimble", "vision", "badge", "oyster", "cushion", "thumb", "cow", "boy", "chair",
)  # fmt: skip
_DEEDS = (
    "admired", "built", "caught", "drew", "examined", "followed", "greeted", "hid", "invented",
    "judged", "kept", "lifted", "mended", "needed", "offered", "praised", "questioned", "raised",
    "stole", "touched", "used", "valued", "washed", "yelled at", "threw", "chose", "showed",
    "enjoyed",
)  # fmt: skip
_OPENINGS = (
    "This morning", "By the way", "Strangely enough", "As usual", "Now and then", "To our surprise",
    "On Friday", "Long ago", "Believe me", "For once", "All the same", "In the end",
)  # fmt: skip
_ENDINGS = (
    "behind the railway station", "just after sunset", "with a loud laugh",
    "for twenty-five dollars", "in the spring of that year", "while it was raining",
    "until the music stopped", "at a quarter past eight", "without saying a word",
    "though nobody had asked", "on the way to the seaside", "under a pile of leaves",
    "as if by magic", "between two thick walls", "because the road was closed",
    "which was quite a shame",
)  # fmt: skip


def _one_of(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[rng.integers(len(words))]


def _thing(rng: np.random.Generator) -> str:
    words = [_one_of(_ARTICLES, rng), _one_of(_THINGS, rng)]
    if rng.random() < 0.5:
        words.insert(1, _one_of(_QUALITIES, rng))
    return " ".join(words)


def sentence(rng: np.random.Generator) -> str:
    """Make up a sentence.

    Arguments
    ---------
    rng : numpy.random.Generator
        Where chance comes from.

    Returns
    -------
    str
        English words with an end mark, about one to four seconds long when spoken.

    Example
    -------
    >>> sentence(np.random.default_rng(0)) == sentence(np.random.default_rng(0))
    True
    """
    parts = [_thing(rng), _one_of(_DEEDS, rng), _thing(rng)]
    if rng.random() < 0.7:
        parts.append(_one_of(_ENDINGS, rng))
    spoken = " ".join(parts)
    if rng.random() < 0.4:
        spoken = f"{_one_of(_OPENINGS, rng)}, {spoken}"
    return spoken + ("?" if rng.random() < 0.2 else ".")
