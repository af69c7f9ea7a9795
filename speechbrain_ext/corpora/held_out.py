"""Speakers left out of training: those that a user names, and those held out for validation."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Collection, Mapping, Sequence, Set

from speechbrain_ext.audio import read_utterance
from speechbrain_ext.corpora.manifest_settings import ManifestSettings
from speechbrain_ext.corpora.utterances import Half, UnlabelledFile, Utterance
from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.sound import AudioFault
from speechbrain_ext.verification.lists import composed, read_lines
from speechbrain_ext.verification.trials import TrialList, make_trials

LOWER = "lower --valid_speakers (run.sh: --manifest_args '--valid_speakers N')"
LOWER_FILES = "lower --valid_files (run.sh: --manifest_args '--valid_files N')"
# Files that training needs, besides those that are held out, of which there are as many at least.
_LEAST_FILES = 2


def hold_out(
    utterances: Sequence[Utterance],
    settings: ManifestSettings,
    groups: Mapping[str, str] | None = None,
) -> tuple[list[Utterance], list[Utterance], TrialList]:
    """Split off the validation speakers and form trials between them.

    Speakers with several sessions come first, since only they give targets across sessions;
    the others with two utterances or more fill up.

    Arguments
    ---------
    utterances : sequence of Utterance
        All usable utterances, sorted.
    settings : ManifestSettings
        Number of speakers, seed, utterances of each.
    groups : mapping of str to str, optional
        The group of each speaker: trials are then within groups.

    Returns
    -------
    train : list of Utterance
        All utterances of the other speakers.
    valid : list of Utterance
        The utterances that the trials name.
    trials : TrialList
        All pairs of those; targets only across sessions where a speaker has several.

    Raises
    ------
    UserError
        When there are too few speakers to hold out so many.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        by_speaker.setdefault(utterance.speaker, []).append(utterance)
    held_out = _draw_speakers(by_speaker, settings)
    train = [utterance for utterance in utterances if utterance.speaker not in held_out]
    valid = []
    for speaker in sorted(held_out):
        valid += _spread(by_speaker[speaker], settings)
    trials = make_trials(
        [utterance.id for utterance in valid],
        [utterance.speaker for utterance in valid],
        [utterance.session for utterance in valid],
        None if groups is None else [groups[utterance.speaker] for utterance in valid],
    )
    return train, valid, trials


def _draw_speakers(by_speaker: dict[str, list[Utterance]], settings: ManifestSettings) -> set[str]:
    number = settings.valid_speakers
    sessions = {
        speaker: len({utterance.session for utterance in own})
        for speaker, own in by_speaker.items()
        if len(own) > 1
    }
    if len(sessions) < number:
        raise UserError(
            f"valid_speakers is {number}, but only {len(sessions)} of the {len(by_speaker)} "
            "training speakers have two usable utterances or more, as trials need; "
            f"{LOWER}, or give more recordings.",
            code="few-speakers",
        )
    if len(by_speaker) - number < 2:
        raise UserError(
            f"valid_speakers is {number}, which would leave {len(by_speaker) - number} of the "
            f"{len(by_speaker)} training speakers to train on, and two at least are needed; "
            f"{LOWER}.",
            code="few-speakers",
        )
    generator = random.Random(settings.valid_seed)
    several = sorted(speaker for speaker, count in sessions.items() if count > 1)
    single = sorted(speaker for speaker, count in sessions.items() if count == 1)
    drawn = generator.sample(several, min(number, len(several)))
    return set(drawn + generator.sample(single, number - len(drawn)))


def _spread(own: list[Utterance], settings: ManifestSettings) -> list[Utterance]:
    """Draw utterances of one speaker, one of each session in turn."""
    generator = random.Random(f"{settings.valid_seed} {own[0].speaker}")
    sessions: dict[str, list[Utterance]] = {}
    for utterance in own:
        sessions.setdefault(utterance.session, []).append(utterance)
    queues = list(sessions.values())
    for queue in queues:
        generator.shuffle(queue)
    generator.shuffle(queues)
    taken: list[Utterance] = []
    while queues and len(taken) < settings.valid_utterances_per_speaker:
        queue = queues.pop(0)
        taken.append(queue.pop())
        if queue:
            queues.append(queue)
    return sorted(taken, key=lambda utterance: utterance.path.split("/"))


def hold_out_files(
    files: Sequence[UnlabelledFile], settings: ManifestSettings
) -> tuple[list[UnlabelledFile], list[Half], TrialList]:
    """Split off files for validation, and form trials between their halves.

    Arguments
    ---------
    files : sequence of UnlabelledFile
        All usable files, sorted.
    settings : ManifestSettings
        Number of files, seed.

    Returns
    -------
    train : list of UnlabelledFile
        The other files.
    valid : list of Half
        Both halves of each that is held out.
    trials : TrialList
        All pairs of those: targets are the two halves of one file.

    Raises
    ------
    UserError
        When there are too few files to hold out so many, or too few with speech in both halves.
    """
    number, count = settings.valid_files, len(files)
    if count < 2 * _LEAST_FILES:
        raise UserError(
            f"{count} unlabelled files can be used, and {2 * _LEAST_FILES} are needed at least, "
            f"{_LEAST_FILES} of them to train on; give more recordings.",
            code="few-files",
        )
    if count - number < _LEAST_FILES:
        raise UserError(
            f"valid_files is {number}, which would leave {max(count - number, 0)} of {count} "
            f"unlabelled files to train on, and {_LEAST_FILES} at least are needed; {LOWER_FILES}.",
            code="few-files",
        )
    halves: dict[UnlabelledFile, tuple[Half, Half]] = {}
    for file in random.Random(settings.valid_seed).sample(files, count):
        if len(halves) < number and _has_two_halves(file, settings.min_seconds):
            halves[file] = file.halves()
    if len(halves) < number:
        raise UserError(
            f"valid_files is {number}, but only {len(halves)} of {count} unlabelled files are of "
            f"twice min_seconds {settings.min_seconds:g} and have speech in both halves; "
            f"{LOWER_FILES}, or give more recordings.",
            code="few-files",
        )
    train = [file for file in files if file not in halves]
    valid = [half for file in files for half in halves.get(file, ())]
    trials = make_trials(
        [half.id for half in valid], [half.speaker for half in valid], [""] * len(valid)
    )
    return train, valid, trials


def _has_two_halves(file: UnlabelledFile, min_seconds: float) -> bool:
    """Whether both halves are long enough, and no silence."""
    halves = file.halves()
    if halves[0].frames < min_seconds * SAMPLE_RATE:
        return False
    path = os.path.join(file.root, file.path)
    try:
        for half in halves:
            read_utterance(path, half.start, half.start + half.frames)
    except AudioFault:
        return False
    return True


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
        All speakers.

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
                "write one speaker a line.",
                code="bad-line",
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
            "names, one a line, or leave out --exclude_speakers.",
            code="unknown-name",
        )
    return frozenset(excluded), unknown


def read_groups(path: str | os.PathLike[str], speakers: Collection[str]) -> dict[str, str]:
    """Read the group of each speaker: a corpus, a sex, as Kaldi's ``spk2gender`` has it.

    Arguments
    ---------
    path : str or path
        UTF-8 text, a line ``speaker group`` for each speaker; others may be in it.
    speakers : collection of str
        All speakers.

    Returns
    -------
    dict of str to str
        Speaker -> group.

    Raises
    ------
    UserError
        When the file cannot be read, or does not give each speaker one group.

    Example
    -------
    >>> path = getfixture("tmp_path") / "spk2gender"
    >>> _ = path.write_text("ann f\\nben m\\n")
    >>> read_groups(path, {"ann"})
    {'ann': 'f', 'ben': 'm'}
    """
    groups: dict[str, str] = {}
    for number, line in read_lines(path, "the groups of speakers"):
        speaker, *group = composed(line).rsplit(maxsplit=1)
        if not group or groups.setdefault(speaker, group[0]) != group[0]:
            raise UserError(
                f"{path}:{number}: {line[:200]!r} does not give a speaker one group; write "
                '"speaker group", a line for each.',
                code="bad-line",
            )
    missing = sorted(set(speakers) - set(groups))
    if missing:
        raise UserError(
            f"{path}: {len(missing)} speakers below --train have no group there: "
            f"{first_few(missing)}; add them, or leave out --speaker_groups.",
            code="unknown-name",
        )
    return groups


def _named(entry: str, speakers: Set[str], by_case: dict[str, list[str]]) -> set[str]:
    """The speakers that an entry may name."""
    parts = composed(entry).replace("\\", "/").split("/")
    exact = {part for part in parts if part in speakers}
    return exact or {name for part in parts for name in by_case.get(part.casefold(), ())}
