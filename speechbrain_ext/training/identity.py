"""What an experiment is: its settings, and digests of what it is made from.

Both lie in its folder, ``hyperparams.yaml`` and ``made_from.json``. A training that would be
another experiment is refused before anything is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
from torch import nn

from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path, file_digest, fingerprint
from speechbrain_ext.lobes.ssl_encoder import SSLEncoder
from speechbrain_ext.lobes.ssl_source import find_here
from speechbrain_ext.systems.experiment import (
    check_trained,
    load_encoder,
    read_hyperparams,
    weights_sha256,
)
from speechbrain_ext.systems.yaml import tagged
from speechbrain_ext.training.augmentation import audio_files
from speechbrain_ext.training.first_weights import read_start

MADE_FROM = "made_from.json"
DATA_KEYS = ("train_csv", "valid_csv", "valid_trials")
AUDIO_KEYS = ("noise_folder", "rir_folder")
ELSEWHERE = "choose another --output_folder (--exp_root of run.sh and compare.py) or --seed"
# What may change between two runs into one folder: how long, how fast and where, and which of the
# checkpoints are kept and averaged, which every run does anew.
FREE_KEYS = {"number_of_epochs", "num_workers", "keep_checkpoints", "average_checkpoints"}
FREE_KEYS |= {"ckpt_interval_minutes", "max_batch_seconds", "offline", "exp_root"}
# What a digest is of, with the keys of the YAML that may say where it comes from.
SOURCES = {
    "train_csv": ("utterances or speakers of", "train_csv"),
    "valid_csv": ("utterances of", "valid_csv"),
    "valid_trials": ("trials of", "valid_trials"),
    "embedding_model": ("weights of the model that it fine-tunes", "teacher_source"),
    "teacher": ("weights of the teacher", "teacher_folder", "teacher_source"),
    "front_end_start": ("weights of front_end_start", "teacher_folder", "teacher_source"),
    "classifier_start": ("weights of classifier_start", "teacher_folder"),
    "teacher_classifier": ("weights of teacher_classifier", "teacher_folder"),
    "anchors": ("weights of anchors", "teacher_folder"),
    "start_from": ("weights of", "start_from"),
    "noise_folder": ("files of", "noise_folder"),
    "rir_folder": ("files of", "rir_folder"),
}


def data_digests(settings: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the speech and the trials that the settings name, by their keys."""
    try:
        train, valid, trials = (settings[key] for key in DATA_KEYS)
        found = read_manifest(train).sha256, read_manifest(valid).sha256, file_digest(trials)
        return dict(zip(DATA_KEYS, found, strict=True))
    except FileNotFoundError as error:
        raise _no_data(error.filename) from None


def check_sources(tree: Mapping[str, Any], to_come: Collection[str] = ()) -> None:
    """Refuse settings that name speech, models or noise that are not there, with nothing made.

    Arguments
    ---------
    tree : mapping
        A YAML tree without references.
    to_come : collection of str
        Folders of experiments that will be there by the time that the training starts.

    Raises
    ------
    UserError
        Naming what is missing.
    """
    for key in DATA_KEYS:
        if not os.path.isfile(tree[key]):
            raise _no_data(tree[key])
    for key in AUDIO_KEYS:
        if tree.get(key) is not None:
            try:
                audio_files(key, tree[key])
            except ValueError as error:
                raise UserError(str(error), code="bad-setting") from None
    if tree["start_from"] is not None and tree["start_from"] not in to_come:
        read_start(tree["start_from"])
    for _, node in tagged(tree):
        maker = node.tag.value.rpartition(".")[2]
        arguments = node if isinstance(node, Mapping) else {}
        if maker == load_encoder.__name__:
            folder = arguments.get("folder", node[0] if isinstance(node, list) and node else None)
            if folder is not None and folder not in to_come:
                check_trained(folder)
        elif maker == SSLEncoder.__name__ and "source" in arguments:
            find_here(arguments["source"], arguments.get("offline", False))


def _no_data(path: str) -> UserError:
    return UserError(
        f"{path} does not exist: run stage 1 first, which makes it", code="earlier-stage"
    )


def made_from(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Digests of all that a training is made from besides its settings.

    Files may lie elsewhere than they did: it is what they hold that counts.

    Arguments
    ---------
    hparams : mapping
        The loaded hyperparameters, nothing of which has been trained yet.

    Returns
    -------
    dict
        SHA-256 by key of the YAML.

    Raises
    ------
    UserError
        When something that the YAML names is missing.
    """
    digests = data_digests(hparams)
    keys = ("teacher", "front_end_start", "classifier_start", "teacher_classifier", "anchors")
    parts: dict[str, Any] = {key: hparams.get(key) for key in keys}
    # Of a network that is trained, what it has from files.
    parts["embedding_model"] = getattr(hparams["embedding_model"], "pretrained", None)
    for key, part in parts.items():
        if isinstance(part, nn.Module):
            digests[key] = weights_sha256(part)
        elif hasattr(part, "sha256"):
            digests[key] = part.sha256()
    if hparams["start_from"] is not None:
        digests["start_from"] = read_start(hparams["start_from"]).sha256()
    for key in AUDIO_KEYS:
        if (folder := hparams.get(key)) is not None:
            files = audio_files(key, folder)
            sizes = {os.path.relpath(file, folder): os.path.getsize(file) for file in files}
            digests[key] = fingerprint(sizes)
    return digests


def claim_experiment(
    folder: str | os.PathLike[str],
    resolved: str,
    digests: Mapping[str, str],
    elsewhere: str = ELSEWHERE,
) -> None:
    """Write what the experiment is, unless the folder is another's.

    Arguments
    ---------
    folder : str or path
        Experiment folder.
    resolved : str
        Resolved YAML text.
    digests : mapping
        What :func:`made_from` gives.
    elsewhere : str
        How a command names another folder, for the message.

    Raises
    ------
    UserError
        As :func:`check_experiment`.
    """
    check_experiment(folder, resolved, digests, elsewhere)
    text = json.dumps(dict(digests), indent=1) + "\n"
    for name, content in (("hyperparams.yaml", resolved), (MADE_FROM, text)):
        with atomic_path(Path(folder) / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def check_experiment(
    folder: str | os.PathLike[str],
    resolved: str,
    digests: Mapping[str, str],
    elsewhere: str = ELSEWHERE,
) -> None:
    """Refuse a folder in which another training has begun, or that holds other things.

    Arguments
    ---------
    folder : str or path
        Experiment folder; it need not exist.
    resolved : str
        Resolved YAML text of the training that is wanted.
    digests : mapping
        What it is made from, or a part of that.
    elsewhere : str
        How a command names another folder, for the message.

    Raises
    ------
    UserError
        Saying what differs.
    """
    path = Path(folder) / "hyperparams.yaml"
    # A mistake that was found before training leaves nothing to protect.
    save = Path(folder) / "save"
    begun = any([*save.glob("CKPT*"), *save.glob("*.safetensors")])
    # The checkpointer has made `save` by now; what a kill left half-written is hidden.
    others = [entry.name for entry in Path(folder).glob("[!.]*") if entry.name != "save"]
    if others and not path.is_file():
        raise UserError(
            f"{folder} holds other things than an experiment, {sorted(others)[0]} for one: "
            f"{elsewhere}",
            code="foreign-folder",
        )
    if not (path.is_file() and begun):
        return
    old, new = read_hyperparams(folder), ruamel.yaml.YAML().load(resolved)
    # What a class was given changes with the key it comes from.
    explained = [(old.get(key), new.get(key)) for key in FREE_KEYS]
    changed = [
        (key, *values)
        for key, *values in _changes(old, new)
        if not (key in FREE_KEYS or (key not in new and tuple(values) in explained))
    ]
    if changed:
        key, before, after = changed[0]
        keep, epochs = "", old.get("number_of_epochs")
        if epochs != new.get("number_of_epochs"):  # by which a rate or a margin may go
            keep = f"keep --number_of_epochs {epochs} if they follow from it, "
        raise UserError(
            f"{folder} was made with other settings ({key}: {before} there, {after} now; "
            f"{len(changed)} differences in all): {keep}{elsewhere}, or remove it",
            code="other-settings",
        )
    _check_sources(folder, new, digests, elsewhere)


def _check_sources(
    folder: Any, settings: Mapping[str, Any], digests: Mapping[str, str], elsewhere: str
) -> None:
    before = _made_from_before(folder)
    if digests.keys() - before.keys():
        raise UserError(
            f"{folder} has weights that were made elsewhere or by an earlier version, {MADE_FROM} "
            f"does not say from what: {elsewhere}, or remove it",
            code="unknown-origin",
        )
    changed = []
    for key, digest in digests.items():
        if before.get(key) != digest:
            what, *keys = SOURCES[key]
            where = [str(settings[each]) for each in keys if settings.get(each) is not None]
            changed.append(f"{what} {where[0]}" if where else what)
    if changed:
        raise UserError(
            f"{folder} was made from other {' and other '.join(changed)} than there are now: bring "
            f"those back, {elsewhere}, or remove it",
            code="other-inputs",
        )


def _made_from_before(folder: Any) -> Mapping[str, str]:
    try:
        before = json.loads((Path(folder) / MADE_FROM).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # as a power cut may leave it
        return {}
    return before if isinstance(before, dict) else {}


def _changes(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two trees differ: key, old value, new value."""
    before, after = _tag(old), _tag(new)
    if before != after:
        yield key, before or old, after or new
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _changes(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changes(before, after, f"{key}[{index}]")
    elif str(old) != str(new):
        yield key, old, new


def _tag(node: Any) -> str | None:
    """What ``!new:``, ``!name:`` or the like a node carries."""
    return getattr(getattr(node, "tag", None), "value", None)
