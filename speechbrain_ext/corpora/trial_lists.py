"""Test lists: their utterances, and the proof that nobody in them was trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from speechbrain_ext.corpora.manifest_settings import ManifestSettings
from speechbrain_ext.corpora.mirror.make import mirrored_source
from speechbrain_ext.corpora.scan import conversion
from speechbrain_ext.corpora.tree import LAYOUT, SpeakerTree, name_of
from speechbrain_ext.corpora.utterances import Utterance, scan_utterances
from speechbrain_ext.corpora.voxceleb_lists import (
    drawn_from_training_part,
    is_voxceleb1_speaker,
    published_title,
)
from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.verification.enrolment import read_enrolment, refuse_unused_models
from speechbrain_ext.verification.lists import FURTHER, check_names, root_paths
from speechbrain_ext.verification.trials import TrialList, read_trials


@dataclass(frozen=True)
class CorpusList:
    """A trial list whose names are the IDs of utterances.

    Arguments
    ---------
    source : str
        The file it was read from.
    title : str
        Published name of the list, or the file's name without its extension.
    trials : TrialList
        The trials.
    """

    source: str
    title: str
    trials: TrialList

    @property
    def name(self) -> str:
        """Name of the file without its extension."""
        return Path(self.source).stem

    @property
    def speakers(self) -> frozenset[str]:
        """The speakers of its utterances."""
        return frozenset(self.trials.speakers(_speaker_of))


def _speaker_of(name: str) -> str:
    return name.split("/", 1)[0]


def check_corpus_names(sources: Sequence[str]) -> None:
    """Refuse lists that stages 5 and 6 could not file results under the names of.

    Raises
    ------
    UserError
        When two files have the same stem, or one has a name that the recipe's own files have.

    Example
    -------
    >>> check_corpus_names(["a/test.txt", "b/dev.txt"])
    """
    check_names(sources)
    for source in sources:
        stem = Path(source).stem
        # The trials between held-out speakers, the speeds, and further scores of a list.
        if stem in ("valid", "speed", "engines") or stem.endswith(FURTHER):
            raise UserError(
                f"{source}: results of the recipe's own are filed under the name {stem!r}; rename "
                "the list.",
                code="bad-name",
            )


def read_corpus_lists(
    sources: Sequence[str], root: str | None = None, enrol: str | None = None
) -> list[CorpusList]:
    """Read the trial lists.

    Arguments
    ---------
    sources : sequence of str
        The lists.
    root : str, optional
        Folder that the names are below. Where it is a mirror that stage 0 made, absolute names may
        be below the folder that it mirrors.
    enrol : str, optional
        The file with the utterances of models.

    Returns
    -------
    list of CorpusList

    Raises
    ------
    UserError
        When a list cannot be read, lacks targets or non-targets, or has a model that ``enrol`` has
        not; or when no list has a model of ``enrol``.
    """
    folders = [] if root is None else filter(None, [root, mirrored_source(root)])
    roots = root_paths(*folders)
    enrolment = read_enrolment(enrol, roots) if enrol is not None else None
    lists = []
    for source in sources:
        trials = read_trials(source, roots, enrolment)
        speakers = {_speaker_of(name) for name in trials.utterances}
        title = published_title(len(trials), speakers) or Path(source).stem
        lists.append(CorpusList(source, title, trials))
    if enrolment is not None:
        refuse_unused_models(enrolment, [item.trials.models for item in lists])
    return lists


def complete_names(lists: Sequence[CorpusList], tree: SpeakerTree) -> list[CorpusList]:
    """Make whole paths of names that are the end of one, as Kaldi's lists have them.

    Arguments
    ---------
    lists : sequence of CorpusList
        The lists.
    tree : SpeakerTree
        The files that they name.

    Returns
    -------
    list of CorpusList
        With every name that is the end of one utterance's path alone as that path.

    Example
    -------
    >>> tree = SpeakerTree("/x", ["anna/anna-1.wav", "bert/s/1.wav", "carl/s/1.wav"], "", 0)
    >>> trials = TrialList.from_names(["anna-1"], ["s/1"], [False])
    >>> complete_names([CorpusList("", "", trials)], tree)[0].trials.names.tolist()
    ['anna/anna-1', 's/1']
    """
    whole = tree.by_name()
    ends: dict[str, str] = {}
    for name in whole:
        end = name
        while "/" in end:
            end = end.partition("/")[2]
            ends[end] = "" if end in ends else name  # that of two is neither's
    return [
        replace(
            item,
            trials=item.trials.map_names(
                lambda name: name if name in whole else ends.get(name) or name
            ),
        )
        for item in lists
    ]


def check_overlap(lists: Sequence[CorpusList], training: Set[str], allowed: bool) -> int:
    """Make sure that nobody is in training and in a test list.

    Arguments
    ---------
    lists : sequence of CorpusList
        The test lists.
    training : set of str
        Speakers of training and validation.
    allowed : bool
        Whether the user insists.

    Returns
    -------
    int
        Number of speakers in both; 0 unless ``allowed``.

    Raises
    ------
    UserError
        Naming up to five of the speakers, or a model whose utterances are of several. VoxCeleb1-E
        and -H are refused with any speaker of VoxCeleb1 in training, even when ``allowed``.
    """
    voxceleb1 = sorted(name for name in training if is_voxceleb1_speaker(name))
    for item in lists:
        if voxceleb1 and drawn_from_training_part(item.title):
            raise UserError(
                f"{item.source} is {item.title}, whose trials are drawn from VoxCeleb1's training "
                f"part, and {len(voxceleb1)} speakers of VoxCeleb1 are training speakers "
                f"({first_few(voxceleb1)}): train on VoxCeleb2 alone, or drop this list.",
                code="speaker-overlap",
            )
    everyone: set[str] = set()
    for item in lists:
        shared = sorted(item.speakers & training)
        everyone.update(shared)
        if shared and not allowed:
            raise UserError(
                f"{item.source}: {len(shared)} of its {len(item.speakers)} speakers are training "
                f"speakers too ({first_few(shared)}), so its error rates would mean nothing; leave "
                "their speech out, or name them in --exclude_speakers (--allow_overlap insists).",
                code="speaker-overlap",
            )
    return len(everyone)


def find_utterances(
    lists: Sequence[CorpusList],
    tree: SpeakerTree,
    settings: ManifestSettings,
    jobs: int,
    corpus_dir: Path,
) -> list[Utterance]:
    """Find and check every utterance that a list names.

    Arguments
    ---------
    lists : sequence of CorpusList
        The lists.
    tree : SpeakerTree
        The files below --trials_root.
    settings : ManifestSettings
        What a usable file is.
    jobs : int
        Number of processes.
    corpus_dir : Path
        Of the corpus.

    Returns
    -------
    list of Utterance
        In the order of their IDs' parts.

    Raises
    ------
    UserError
        When a list names an utterance without a usable file: the first five and the count.
    """
    files = tree.by_name()
    named: set[str] = set()
    for item in lists:
        names = item.trials.utterances
        missing = [name for name in names if name not in files]
        if missing:
            raise UserError(
                f"{item.source}: {len(missing)} of its {len(names)} utterances have no file "
                f"below {tree.root} ({first_few(missing)}); give the --trials_root that the names "
                f"are relative to, laid out as {LAYOUT}.",
                code="missing-audio",
            )
        named.update(names)
    wanted = {name: files[name] for name in named}
    utterances, skipped = scan_utterances(tree.root, wanted, settings, jobs)
    usable = {utterance.id for utterance in utterances}
    unusable = sorted(
        file for file in skipped if name_of(os.path.relpath(file.path, tree.root)) not in usable
    )
    if unusable:
        told = [f"{file.path} is {file.cause}: {file.detail}" for file in unusable]
        ways = (conversion(f.cause, tree.root, corpus_dir, "--trials_root") for f in unusable)
        remedy = next(filter(None, ways), "mend the files")
        raise UserError(
            f"{len(wanted) - len(usable)} of {len(wanted)} utterances of the trial lists cannot be "
            f"used ({first_few(told, '; ')}); {remedy}, or take them out of the lists.",
            code="unusable-audio",
        )
    return utterances
