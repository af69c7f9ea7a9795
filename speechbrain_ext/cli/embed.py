"""``spk embed``: embeddings of files, folders and lists; run again, it goes on."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from speechbrain_ext.cli.options import (
    STDIN,
    Json,
    Model,
    Precision,
    Threads,
    given_audio,
    number,
    open_model,
    tell,
)
from speechbrain_ext.cli.sources import Recordings, find_recordings, holds_recordings
from speechbrain_ext.errors import UserError
from speechbrain_ext.failures import FAILURES, Failure, tell_failures, write_failures
from speechbrain_ext.files import atomic_path
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.runtime import SpeakerModel
from speechbrain_ext.runtime.hearing import UnusableAudio
from speechbrain_ext.verification.embeddings import (
    Embeddings,
    load_embeddings,
    save_embeddings,
)

TOGETHER = "embeddings.npz"
_HELD_BACK = 30.0  # seconds at most until what was made is written, but for large files


def embed(
    audio: Annotated[
        list[str],
        typer.Argument(help="Files, folders, wav.scp or lists of paths; - is standard input."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="NAME.npz for all in one file, a folder for one .npy each and that file, or, of "
            "one recording, NAME.npy.",
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="The folder that paths in lists are below.")] = Path(),
    window: Annotated[
        str, typer.Option(help="whole, or sliding: one embedding for each window of one file.")
    ] = "whole",
    duration: Annotated[
        float, typer.Option(help="Seconds of a sliding window.", parser=number)
    ] = 3.0,
    step: Annotated[
        float, typer.Option(help="Seconds from one window to the next.", parser=number)
    ] = 1.0,
    model: Model = None,
    precision: Precision = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Embed recordings. Ends with 1 where some of many could not be used, and lists them."""
    if window not in ("whole", "sliding"):
        raise UserError(f"--window {window} is none: give whole or sliding", code="bad-option")
    if STDIN in audio and len(audio) > 1:
        raise UserError("give standard input (-) alone", code="bad-command")
    speaker_model = open_model(model, precision, threads)
    if window == "sliding":
        _slide(speaker_model, audio, duration, step, out, as_json)
    elif audio == [STDIN] or out is None or out.suffix == ".npy":
        _embed_one(speaker_model, audio, out, as_json)
    else:
        failures = _embed_all(speaker_model, find_recordings(audio, root), out, as_json)
        raise typer.Exit(1 if failures else 0)


def _embed_one(model: SpeakerModel, audio: list[str], out: Path | None, as_json: bool) -> None:
    if not _is_one(audio):
        raise UserError(
            "where several recordings are embedded, say where to: give --out NAME.npz or a folder",
            code="missing-option",
        )
    if out is not None and out.suffix not in (".npy", ".npz"):
        raise UserError(
            "standard input has no name in a folder: give --out NAME.npy or NAME.npz",
            code="bad-option",
        )
    with given_audio(audio[0]) as (path,):
        embedding = model.embed(path)
    if out is None:
        numbers = embedding.tolist()
        print(json.dumps(numbers) if as_json else " ".join(f"{each:.6g}" for each in numbers))
        return
    if out.suffix == ".npz":
        save_embeddings(out, Embeddings([audio[0]], embedding[None], model.digest))
    else:
        _save_array(out, embedding)
    tell(as_json, {"out": str(out), "embeddings": 1}, f"{out}: 1 embedding of {model.dim} numbers")


def _is_one(audio: list[str]) -> bool:
    """Whether it is a recording, and neither several nor a folder or list of some."""
    (first, *others), path = audio, Path(audio[0])
    return not others and (first == STDIN or not path.exists() or not holds_recordings(path))


def _slide(
    model: SpeakerModel,
    audio: list[str],
    duration: float,
    step: float,
    out: Path | None,
    as_json: bool,
) -> None:
    if not _is_one(audio) or out is None or out.suffix != ".npz":
        raise UserError(
            "a sliding window goes over one recording: give one, and --out NAME.npz",
            code="bad-command",
        )
    with given_audio(audio[0]) as (path,):
        times, embeddings = model.windows(path, duration, step)
    with atomic_path(out) as temporary, open(temporary, "wb") as file:
        np.savez(file, times=times, embeddings=embeddings, weights_sha256=np.array(model.digest))
    tell(as_json, {"out": str(out), "windows": len(times)}, f"{out}: {len(times)} windows")


def _embed_all(model: SpeakerModel, found: Recordings, out: Path, as_json: bool) -> list[Failure]:
    """Embed what is not there yet; write now and then, so that a run that is killed goes on."""
    wanted = found.paths
    in_one = out.suffix == ".npz"
    if not in_one and out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder: give --out NAME.npz or a folder", code="bad-option")
    kept = _Kept(out if in_one else out / TOGETHER, model)
    failures: list[Failure] = []
    targets = {} if in_one else _targets(out, wanted)
    missing = [
        name
        for name, path in wanted.items()
        if not kept.has(name, path) or (not in_one and not targets[name].is_file())
    ]
    try:
        for name in progress_bar(missing, desc="embedding", unit=" files"):
            failure = _embed_into(kept, model, name, wanted[name], targets.get(name))
            failures += [] if failure is None else [failure]
    finally:  # a run that is stopped keeps what it has
        kept.write()
    table = out.with_suffix(".failures.tsv") if in_one else out / FAILURES
    write_failures(table, failures)
    facts: dict[str, Any] = {
        "out": str(out),
        "written": len(missing) - len(failures),
        "present": len(wanted) - len(missing),
        "other_formats": found.other_formats,
        "failures": [failure._asdict() for failure in failures],
    }
    line = f"{facts['written']} embeddings written, {facts['present']} were there"
    lines = [f"{out}: {line}, {len(failures)} failed"]
    if found.other_formats:
        lines.append(f"passed over as other formats of these: {found.other_formats}")
    tell(as_json, facts, *lines)
    sys.stdout.flush()
    tell_failures(failures, table)
    return failures


def _embed_into(
    kept: _Kept, model: SpeakerModel, name: str, path: Path, target: Path | None
) -> Failure | None:
    """Embed a recording; of one that cannot be used, nothing is kept that was there before."""
    try:
        embedding = model.embed(path)
    except UserError as error:
        kept.remove(name)
        if target is not None:
            target.unlink(missing_ok=True)
        if isinstance(error, UnusableAudio):
            return Failure(os.fspath(path), error.cause, error.detail)
        return Failure(os.fspath(path), error.code, str(error))
    if target is not None:
        _save_array(target, embedding)
    kept.add(name, path, embedding)
    return None


class _Kept:
    """The embeddings in a file, each with the size and time of change of its audio."""

    def __init__(self, path: Path, model: SpeakerModel) -> None:
        self.path, self.model = path, model
        self._vectors: dict[str, np.ndarray] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._changed, self._written, self._took = False, time.monotonic(), 0.0
        if path.exists():
            self._read()

    def _read(self) -> None:
        there = load_embeddings(self.path)
        if there.weights_sha256 != self.model.digest:
            raise UserError(
                f"{self.path} has embeddings of another model ({there.weights_sha256[:12]}), and "
                f"this is {self.model.digest[:12]}: choose another --out, or remove it",
                code="other-weights",
            )
        self._vectors = dict(zip(there.ids, there.vectors, strict=True))
        stamps = there.provenance.get("stamps", np.full((len(there), 2), -1)).tolist()
        self._stamps = {
            name: (size, changed) for name, (size, changed) in zip(there.ids, stamps, strict=True)
        }

    def has(self, name: str, path: Path) -> bool:
        return name in self._stamps and self._stamps[name] == _stamp(path)

    def add(self, name: str, path: Path, embedding: np.ndarray) -> None:
        self._vectors[name], self._stamps[name] = embedding, _stamp(path)
        self._changed = True
        # Writing takes a tenth of the time at most, however many there are.
        if time.monotonic() - self._written > max(_HELD_BACK, 10 * self._took):
            self.write()

    def remove(self, name: str) -> None:
        self._changed |= self._vectors.pop(name, None) is not None
        self._stamps.pop(name, None)

    def write(self) -> None:
        if not self._changed:
            return
        begun = time.monotonic()
        names = sorted(self._vectors)
        provenance = {
            "made_by": "spk embed",
            "model": str(self.model.facts.get("title", self.model.file)),
            "stamps": np.array([self._stamps[name] for name in names], np.int64).reshape(-1, 2),
        }
        vectors = np.reshape([self._vectors[name] for name in names], (-1, self.model.dim))
        embeddings = Embeddings(names, vectors.astype(np.float32), self.model.digest, provenance)
        save_embeddings(self.path, embeddings)
        self._changed, self._written = False, time.monotonic()
        self._took = self._written - begun


def _targets(out: Path, names: Iterable[str]) -> dict[str, Path]:
    """The files of embeddings, below the folder whatever the names are: absolute ones, too."""
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in names:
        target = Path(os.path.normpath(out / f"{name.lstrip('/')}.npy"))
        if not target.is_relative_to(os.path.normpath(out)):
            raise UserError(
                f"the recording {name!r} would be written outside of {out}: give --out NAME.npz, "
                "which keeps names as text, or a wav.scp with other names",
                code="bad-name",
            )
        if (owner := owners.setdefault(target, name)) != name:
            raise UserError(
                f"the embeddings of {owner!r} and {name!r} would both be called {target}: give "
                "--out NAME.npz, which keeps names as text, or a wav.scp with other names",
                code="repeated-name",
            )
        targets[name] = target
    return targets


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # reading it will tell
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _save_array(path: Path, embedding: np.ndarray) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, embedding)
