"""The folder of manifests that stage 1 makes of a corpus: find, check, split, and write."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechbrain_ext import files
from speechbrain_ext.corpora.held_out import (
    hold_out,
    hold_out_files,
    read_excluded,
    read_groups,
)
from speechbrain_ext.corpora.manifest import WITH_VOICES, read_manifest
from speechbrain_ext.corpora.manifest_settings import ManifestSettings
from speechbrain_ext.corpora.mirror.make import mirrored_source
from speechbrain_ext.corpora.tree import SpeakerTree, list_speaker_tree, name_of
from speechbrain_ext.corpora.trial_lists import (
    check_corpus_names,
    check_overlap,
    complete_names,
    find_utterances,
    read_corpus_lists,
)
from speechbrain_ext.corpora.utterances import (
    Row,
    SkippedFile,
    UnlabelledFile,
    count_causes,
    scan_trees,
    scan_unlabelled,
    skipped_sentence,
    totals,
    write_manifest,
    write_skipped,
)
from speechbrain_ext.corpora.voices import remove_others, write_voices
from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.enrolment import write_enrolment
from speechbrain_ext.verification.trials import TrialList, write_trials

# To be raised when the same input gives other files, so that manifests of older code are remade.
FORMAT_VERSION = 4
SKIPPED = "skipped.tsv"
VOICES = "voices"
# What trials without labels are between, which are easier than others.
HALVES = "halves of held-out files, which share room and microphone"


@dataclass(frozen=True)
class ManifestSources:
    """Where the speech and the lists are.

    Arguments
    ---------
    train : sequence of str
        Folders of training speakers.
    trials : sequence of str
        Trial lists.
    trials_root : str or None
        Folder that the names in the lists are below.
    enrol : str or None
        File with the utterances of the models that the lists name.
    exclude_speakers : str or None
        File naming speakers to leave out of training, one a line.
    speaker_groups : str or None
        File with the group of each speaker, within which held-out speakers are compared.
    allow_overlap : bool
        Whether training speakers may be in a test list.
    unlabelled : str or None
        Folder of training speech whose speakers nobody knows.
    """

    train: Sequence[str] = ()
    trials: Sequence[str] = ()
    trials_root: str | None = None
    enrol: str | None = None
    exclude_speakers: str | None = None
    speaker_groups: str | None = None
    allow_overlap: bool = False
    unlabelled: str | None = None


def make_manifests(
    corpus_dir: Path, sources: ManifestSources, settings: ManifestSettings, jobs: int
) -> tuple[dict[str, Any], bool]:
    """Make ``<corpus_dir>/manifests`` unless it is there and nothing has changed.

    Arguments
    ---------
    corpus_dir : Path
        Folder of the corpus; made when missing.
    sources : ManifestSources
        Where the speech and the lists are.
    settings : ManifestSettings
        What is used and what is held out.
    jobs : int
        Number of processes.

    Returns
    -------
    manifest : dict
        What ``manifest.json`` holds.
    made : bool
        Whether the folder was made now.

    Raises
    ------
    UserError
        When the sources do not allow it; an earlier folder then stays as it was.
    """
    _check_sources(sources)
    corpus = _corpus(corpus_dir)
    trees = {
        os.path.abspath(root): list_speaker_tree(root)
        for root in dict.fromkeys([*sources.train, *filter(None, [sources.trials_root])])
    }
    unlabelled = None
    if sources.unlabelled is not None:
        unlabelled = list_speaker_tree(sources.unlabelled, labelled=False)
    made_from = {
        "format": FORMAT_VERSION,
        "corpus": corpus,
        "settings": dataclasses.asdict(settings),
        "train": [trees[os.path.abspath(root)].digest for root in sources.train],
        "unlabelled": unlabelled.digest if unlabelled else None,
        "trials": [(Path(path).stem, _digest(path)) for path in sources.trials],
        "trials_root": (
            trees[os.path.abspath(sources.trials_root)].digest if sources.trials_root else None
        ),
        "enrol": _digest(sources.enrol) if sources.enrol else None,
        "exclude": _digest(sources.exclude_speakers) if sources.exclude_speakers else None,
        "groups": _digest(sources.speaker_groups) if sources.speaker_groups else None,
        "allow_overlap": sources.allow_overlap,
    }
    wanted = files.fingerprint(made_from)
    folder = corpus_dir / "manifests"
    corpus_dir.mkdir(parents=True, exist_ok=True)
    with files.exclusive(corpus_dir):
        files.restore(folder)
        voices = _voices_of(corpus_dir)
        if files.is_current(folder, wanted) and (voices.is_dir() or not settings.voices):
            manifest = json.loads((folder / files.MANIFEST).read_text(encoding="utf-8"))
            return manifest, False
        with files.replaced_folder(folder) as new:
            manifest = {"fingerprint": wanted, **corpus}
            table = corpus_dir / SKIPPED
            manifest |= _write(new, table, trees, unlabelled, sources, settings, jobs)
            manifest["files"] = files.written_files(new)
            text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
            (new / files.MANIFEST).write_text(text, encoding="utf-8")
        # After the last moment at which the earlier folder, which may name them, can stay.
        remove_others(voices, read_manifest(folder / WITH_VOICES).wavs if settings.voices else ())
    return manifest, True


def _voices_of(corpus_dir: Path) -> Path:
    """Where a corpus has its speech in other voices: whole, as the paths of a manifest are."""
    return Path(os.path.abspath(corpus_dir)) / VOICES


def _write(
    folder: Path,
    refused: Path,
    trees: dict[str, SpeakerTree],
    unlabelled: SpeakerTree | None,
    sources: ManifestSources,
    settings: ManifestSettings,
    jobs: int,
) -> dict[str, Any]:
    """Write every file but ``manifest.json`` and give what it says of them.

    The table of skipped files is left at ``refused`` where what is not skipped does not suffice.
    """
    lists = read_corpus_lists(sources.trials, sources.trials_root, sources.enrol)
    if sources.trials_root:
        lists = complete_names(lists, trees[os.path.abspath(sources.trials_root)])
    train_trees = [trees[os.path.abspath(root)] for root in sources.train]
    # Before the long part: nobody wants to wait an hour for this error.
    listed = {name_of(path).split("/", 1)[0] for tree in train_trees for path in tree.paths}
    excluded: frozenset[str] = frozenset()
    unknown: list[str] = []
    if sources.exclude_speakers is not None:
        excluded, unknown = read_excluded(sources.exclude_speakers, listed)
    groups = None
    if sources.speaker_groups is not None:
        groups = read_groups(sources.speaker_groups, listed - excluded)
    check_overlap(lists, listed - excluded, sources.allow_overlap)

    test = []
    if sources.trials_root:
        tree = trees[os.path.abspath(sources.trials_root)]
        test = find_utterances(lists, tree, settings, jobs, refused.parent)
    usable, skipped = scan_trees(train_trees, excluded, settings, jobs)
    files: list[UnlabelledFile] = []
    options = {tree.root: "--train" for tree in train_trees}
    if unlabelled is not None:
        files, others = scan_unlabelled(unlabelled, settings, jobs)
        skipped = sorted([*skipped, *others])
        options[unlabelled.root] = "--unlabelled"
    if not usable and not files and not skipped:
        raise UserError(
            "--exclude_speakers names all speakers below --train: leave some.",
            code="few-speakers",
        )
    sets: dict[str, Sequence[Row]]
    with _explaining_skipped(refused, skipped, options):
        if train_trees and not usable:
            raise UserError("there is nothing to train on:", code="unusable-audio")
        if unlabelled is not None and not files:
            raise UserError(f"{unlabelled.root} has no usable file:", code="unusable-audio")
        if train_trees:
            train, valid, valid_trials = hold_out(usable, settings, groups)
            sets = {"train": [*train, *files], "valid": valid}
            title = "held-out training speakers" + ", within groups" * (groups is not None)
        else:
            heard, halves, valid_trials = hold_out_files(files, settings)
            sets, title = {"train": heard, "valid": halves}, HALVES
    if settings.voices:
        voices = _voices_of(refused.parent)
        said = write_voices(sets["train"], voices, settings.voices, jobs)
        sets[Path(WITH_VOICES).stem] = [*sets["train"], *said]
    if test:
        sets["test"] = test
    for name, utterances in sets.items():
        write_manifest(folder / f"{name}.csv", utterances)
    write_skipped(folder / SKIPPED, skipped)
    written = [_write_list(folder, "valid", title, "valid", valid_trials)]
    for item in lists:
        written.append(_write_list(folder, item.name, item.title, "test", item.trials))

    used = {utterance.speaker for utterance in usable}
    return {
        **{name: totals(utterances) for name, utterances in sets.items()},
        "trials": written,
        "skipped": count_causes(skipped),
        "overlap": check_overlap(lists, used, allowed=True),
        "excluded_speakers": len(excluded),
        "exclusions_without_effect": unknown,
        "other_depth": sum(tree.elsewhere for tree in train_trees),
    }


@contextlib.contextmanager
def _explaining_skipped(
    table: Path, skipped: Sequence[SkippedFile], options: Mapping[str, str]
) -> Iterator[None]:
    """Where too little speech can be used, say why the rest cannot, and keep the table of it."""
    table.unlink(missing_ok=True)
    try:
        yield
    except UserError as error:
        if not skipped:
            raise
        write_skipped(table, skipped)
        sentence = f"{error} {skipped_sentence(skipped, options, table)}"
        raise UserError(sentence, code=error.code) from None


def _write_list(
    folder: Path, name: str, title: str, utterances: str, trials: TrialList
) -> dict[str, Any]:
    file = f"trials/{name}.txt"
    write_trials(folder / file, trials)
    enrolment = None
    if trials.models:
        enrolment = f"enrolment/{name}.txt"
        write_enrolment(folder / enrolment, trials.models)
    return {
        "name": name,
        "title": title,
        "set": utterances,
        "file": file,
        "enrolment": enrolment,
        "targets": trials.targets,
        "nontargets": trials.nontargets,
    }


def _check_sources(sources: ManifestSources) -> None:
    if not sources.train and sources.unlabelled is None:
        raise UserError(
            "there is nothing to train on: give --train, --unlabelled or both.", code="bad-command"
        )
    if sources.exclude_speakers and not sources.train:
        raise UserError(
            "--exclude_speakers needs --train, the speakers of which it leaves some out.",
            code="bad-command",
        )
    if sources.speaker_groups and not sources.train:
        raise UserError(
            "--speaker_groups needs --train, whose speakers are in these groups.",
            code="bad-command",
        )
    for number, root in enumerate(sources.train):
        for other in sources.train[:number]:
            if _hold_the_same(root, other):
                raise UserError(
                    f"--train names {os.path.realpath(root)} and {os.path.realpath(other)}, which "
                    "hold the same files; name each folder once.",
                    code="repeated-name",
                )
    if sources.unlabelled is not None:
        _check_unlabelled(sources, sources.unlabelled)
    if sources.trials and not sources.trials_root:
        raise UserError(
            "--trials needs --trials_root, the folder that the names in the lists are below.",
            code="bad-command",
        )
    if sources.trials_root and not sources.trials:
        raise UserError(
            "--trials_root needs --trials, the lists whose utterances are below it.",
            code="bad-command",
        )
    if sources.enrol and not sources.trials:
        raise UserError(
            "--enrol needs --trials, the lists whose models it explains.", code="bad-command"
        )
    check_corpus_names(sources.trials)


def _check_unlabelled(sources: ManifestSources, unlabelled: str) -> None:
    """Refuse speech that is called unlabelled and has a label, or is to test with."""
    for root in sources.train:
        if _hold_the_same(root, unlabelled):
            raise UserError(
                f"{mirrored_source(unlabelled) or unlabelled} is unlabelled speech and holds the "
                f"same files as {mirrored_source(root) or root}, whose speakers are known; give "
                "each file once, as one or the other.",
                code="repeated-name",
            )
    root = sources.trials_root or ""
    if root and not sources.allow_overlap and _hold_the_same(root, unlabelled):
        raise UserError(
            f"{mirrored_source(unlabelled) or unlabelled} is speech to train on and holds the same "
            f"files as {mirrored_source(root) or root}, which the trial lists are about, so their "
            "error rates would mean nothing; keep the two apart (--allow_overlap insists).",
            code="speaker-overlap",
        )


def _hold_the_same(one: str, other: str) -> bool:
    """Whether one of two folders, or of what they mirror, is in the other."""
    sides = [
        [Path(os.path.realpath(path)) for path in (root, mirrored_source(root)) if path is not None]
        for root in (one, other)
    ]
    return any(a.is_relative_to(b) or b.is_relative_to(a) for a, b in itertools.product(*sides))


def _corpus(corpus_dir: Path) -> dict[str, Any]:
    """Give name, title and kind of the corpus, as corpus.json of stage 0 says."""
    name = Path(os.path.abspath(corpus_dir)).name
    corpus: dict[str, Any] = {"corpus": name, "title": name, "synthetic": False}
    path = corpus_dir / "corpus.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return corpus
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); make the corpus again.", code="damaged-file"
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds no JSON object; make the corpus again.", code="damaged-file"
        )
    corpus["corpus"] = str(content.get("name", name))
    corpus["title"] = str(content.get("title", corpus["corpus"]))
    corpus["synthetic"] = bool(content.get("synthetic", False))
    return corpus


def _digest(path: str) -> str:
    try:
        return files.file_digest(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name an existing file.",
            code="unreadable-file",
        ) from None
