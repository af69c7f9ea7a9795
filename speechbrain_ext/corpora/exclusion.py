"""Speakers to leave out of training, as a user lists them."""

from __future__ import annotations

import os
import re
from collections.abc import Set

from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.lists import composed, read_lines


def read_excluded(
    path: str | os.PathLike[str], speakers: Set[str]
) -> tuple[frozenset[str], list[str]]:
    """Read a list of speakers, the first column of any table.

    An entry is the name of a speaker or a path with that name among its parts; the case of letters
    counts only where two speakers differ in nothing else.

    Arguments
    ---------
    path : str or path
        UTF-8 text, a speaker a line, the columns divided by white space, commas or semicolons.
    speakers : set of str
        Who there is.

    Returns
    -------
    excluded : frozenset of str
        The speakers that are named.
    unknown : list of str
        The entries that name none of them.

    Raises
    ------
    UserError
        When the file cannot be read, no entry names a speaker, or one may name several.

    Example
    -------
    >>> path = getfixture("tmp_path") / "names.csv"
    >>> _ = path.write_text("Speaker,Sex\\nID1,f\\n/data/dev/id2/\\n")
    >>> excluded, unknown = read_excluded(path, {"id1", "id2", "id3"})
    >>> sorted(excluded), unknown
    (['id1', 'id2'], ['Speaker'])
    """
    by_case: dict[str, list[str]] = {}
    for speaker in speakers:
        by_case.setdefault(speaker.casefold(), []).append(speaker)
    excluded: set[str] = set()
    unknown: list[str] = []
    for number, line in read_lines(path, "the list of speakers"):
        if composed(line) in speakers:  # which may hold a comma
            excluded.add(composed(line))
            continue
        first, *others = [field.strip(" \t\"'") for field in re.split(r"[,;\t]", line)]
        words = first.split()
        found = _named(first, speakers, by_case)
        if not found and words:
            # A path may hold a blank; the name of a speaker may not.
            found = _named(words[0], speakers, by_case)
            others += words[1:]
        extra = {name for name in map(composed, others) if name in speakers} - found
        if len(found | extra) > 1:
            raise UserError(
                f"{path}:{number}: {line[:200]!r} may name {' or '.join(sorted(found | extra))}; "
                "write one speaker a line."
            )
        excluded |= found
        if not found:
            unknown.append(first)
    if not excluded:
        said = (
            f"of its {len(unknown)} entries, such as {unknown[0]!r}, none" if unknown else "nothing"
        )
        raise UserError(
            f"{path}: {said} names a speaker below --train, such as {min(speakers)!r}; write their "
            "names, one a line, or leave out --exclude_speakers."
        )
    return frozenset(excluded), unknown


def _named(entry: str, speakers: Set[str], by_case: dict[str, list[str]]) -> set[str]:
    """The speakers that an entry may name."""
    parts = composed(entry).replace("\\", "/").split("/")
    exact = {part for part in parts if part in speakers}
    return exact or {name for part in parts for name in by_case.get(part.casefold(), ())}
