"""A corpus folder remembers what it was made with, and whether it is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path

PARTIAL_FOLDER = ".partial"
ELSEWHERE = "choose another --out (another --data_root of run.sh)"
_DONE = "corpus.json"
_BEGUN = f"{PARTIAL_FOLDER}/corpus.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is damaged; delete the folder {path.parent} and run this again.",
            code="damaged-file",
        )
    return content


def _write(path: Path, description: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def claim_corpus(folder: Path, description: dict[str, Any]) -> bool:
    """Claim a folder for a corpus, or go on with the same one.

    Arguments
    ---------
    folder : Path
        The corpus folder; made when missing.
    description : dict
        What corpus.json is to say: name, title, synthetic, and every option that changes the
        corpus.

    Returns
    -------
    bool
        Whether the corpus was finished before.

    Raises
    ------
    UserError
        When the folder holds a corpus made with other options, or files that are not a corpus.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "mini"
    >>> claim_corpus(folder, {"name": "mini", "seed": 0})
    False
    >>> finish_corpus(folder, {"name": "mini", "seed": 0})
    >>> claim_corpus(folder, {"name": "mini", "seed": 0})
    True
    >>> claim_corpus(folder, {"name": "mini", "seed": 1})
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ... was made with seed 0, not 1; ...
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder; {ELSEWHERE}.", code="already-there")
    done = _read(folder / _DONE)
    previous = done or _read(folder / _BEGUN)
    if previous is None:
        strangers = [name for name in ("dev", "test", "trials") if (folder / name).exists()]
        if strangers:
            raise UserError(
                f"{folder} holds {strangers[0]}/ but no corpus.json, so it was not made by this "
                f"command; {ELSEWHERE}.",
                code="foreign-folder",
            )
        _write(folder / _BEGUN, description)
        return False
    wanted = _as_json(description)
    differences = [
        f"{key} {previous.get(key)}, not {wanted.get(key)}"
        for key in sorted({*previous, *wanted})
        if previous.get(key) != wanted.get(key)
    ]
    if differences:
        raise UserError(
            f"{folder} was made with {', '.join(differences)}; give the same options, "
            f"{ELSEWHERE}, or delete that folder.",
            code="other-settings",
        )
    return done is not None


def finish_corpus(folder: Path, description: dict[str, Any]) -> None:
    """Declare the corpus whole: write corpus.json, and remove unfinished work."""
    if _read(folder / _DONE) != _as_json(description):  # what is true is left as it is
        _write(folder / _DONE, description)
    shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)


def _as_json(description: dict[str, Any]) -> Any:
    return json.loads(json.dumps(description))
