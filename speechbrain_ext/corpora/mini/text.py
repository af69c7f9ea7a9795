"""Sentences to say: grammatical, varied, meaningless."""

from __future__ import annotations

import numpy as np

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
