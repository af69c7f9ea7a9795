"""Training speakers held out for model selection."""

from __future__ import annotations

import random
from collections.abc import Sequence

from speechbrain_ext.corpora.settings import Settings
from speechbrain_ext.corpora.utterances import Utterance
from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.trials import TrialList, make_trials

LOWER = "lower --valid_speakers (run.sh: --manifest_args '--valid_speakers N')"


def hold_out(
    utterances: Sequence[Utterance], settings: Settings
) -> tuple[list[Utterance], list[Utterance], TrialList]:
    """Split off the validation speakers and form trials between them.

    Speakers with several sessions come first, since only they give targets across sessions;
    the others with two utterances or more fill up.

    Arguments
    ---------
    utterances : sequence of Utterance
        All usable utterances, sorted.
    settings : Settings
        Number of speakers, seed, utterances of each.

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
    )
    return train, valid, trials


def _draw_speakers(by_speaker: dict[str, list[Utterance]], settings: Settings) -> set[str]:
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
            f"{LOWER}, or give more recordings."
        )
    if len(by_speaker) - number < 2:
        raise UserError(
            f"valid_speakers is {number}, which would leave {len(by_speaker) - number} of the "
            f"{len(by_speaker)} training speakers to train on, and two at least are needed; "
            f"{LOWER}."
        )
    generator = random.Random(settings.valid_seed)
    several = sorted(speaker for speaker, count in sessions.items() if count > 1)
    single = sorted(speaker for speaker, count in sessions.items() if count == 1)
    drawn = generator.sample(several, min(number, len(several)))
    return set(drawn + generator.sample(single, number - len(drawn)))


def _spread(own: list[Utterance], settings: Settings) -> list[Utterance]:
    """Take utterances of one speaker, one of each session in turn, in an order by chance."""
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
