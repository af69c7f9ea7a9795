"""VoxCeleb's published trial lists, known by what they hold rather than by their file's name.

Facts from https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html: trials and speakers of each
list. The speakers of VoxCeleb1 are id10001 to id11251, of which id10270 to id10309 are its test
part; those of VoxCeleb2 are id00012 to id09272.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_VOXCELEB1_SPEAKER = re.compile(r"id1(0[0-9]{3}|1[01][0-9]{2}|12[0-4][0-9]|125[01])\Z")
VOXCELEB1_TEST = frozenset(f"id{number}" for number in range(10270, 10310))
"""The speakers of VoxCeleb1's test part."""

_LISTS = {  # (trials, speakers): title
    (37_611, 40): "VoxCeleb1-O (cleaned)",
    (37_720, 40): "VoxCeleb1-O",
    (579_818, 1251): "VoxCeleb1-E (cleaned)",
    (581_480, 1251): "VoxCeleb1-E",
    (550_894, 1190): "VoxCeleb1-H (cleaned)",
    (552_536, 1190): "VoxCeleb1-H",
}


def is_voxceleb1_speaker(name: str) -> bool:
    """Tell whether a name is one of VoxCeleb1's.

    Example
    -------
    >>> [is_voxceleb1_speaker(name) for name in ("id10001", "id11251", "id11252", "id00012")]
    [True, True, False, False]
    """
    return _VOXCELEB1_SPEAKER.match(name) is not None and name != "id10000"


def published_title(trials: int, speakers: Iterable[str]) -> str:
    """Give the title of a published list.

    Arguments
    ---------
    trials : int
        Number of trials.
    speakers : iterable of str
        The speakers of the list, each once.

    Returns
    -------
    str
        For instance ``VoxCeleb1-O (cleaned)``; empty for any other list.

    Example
    -------
    >>> published_title(37_611, [f"id{number}" for number in range(10270, 10310)])
    'VoxCeleb1-O (cleaned)'
    >>> published_title(37_611, ["anna", "bert"])
    ''
    """
    names = set(speakers)
    title = _LISTS.get((trials, len(names)), "")
    if title.startswith("VoxCeleb1-O"):
        return title if names == VOXCELEB1_TEST else ""
    return title if all(is_voxceleb1_speaker(name) for name in names) else ""


def drawn_from_training_part(title: str) -> bool:
    """Tell whether a published list names speakers of VoxCeleb1's training part.

    Example
    -------
    >>> drawn_from_training_part("VoxCeleb1-H (cleaned)"), drawn_from_training_part("VoxCeleb1-O")
    (True, False)
    """
    return title.startswith(("VoxCeleb1-E", "VoxCeleb1-H"))
