"""What a YAML from somebody else may run: code of SpeechBrain, PyTorch and this package alone."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError, brought_by

with brought_by("train"):
    import yaml

#: Packages whose code a YAML may name.
TRUSTED = ("speechbrain", "torch", "speechbrain_ext")
# What the recipe's own YAML names beside them: it reads and runs nothing.
_KNOWN = ("operator.gt", "os.path.abspath", "os.path.basename")
_CALLS = ("!new:", "!name:", "!apply:", "!module:", "!applyref:")
# Tags of plain values, and those by which HyperPyYAML refers to other keys.
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")
_HARMLESS = {*(f"tag:yaml.org,2002:{kind}" for kind in _PLAIN)} | {"!ref", "!copy", "!tuple"}


def refuse_foreign_code(path: str | os.PathLike[str], text: str | None = None) -> None:
    """Refuse a HyperPyYAML file that would run code of other packages, before it is loaded.

    It is no prison: what these packages offer can be called, and a model can be a bad one.

    Arguments
    ---------
    path : str or path
        The file.
    text : str, optional
        What is loaded of it, where that is not all.

    Raises
    ------
    UserError
        Naming the first such code, or another tag that may run something; when it is no YAML.

    Example
    -------
    >>> path = getfixture("tmp_path") / "hyperparams.yaml"
    >>> _ = path.write_text("layer: !new:torch.nn.Identity")
    >>> refuse_foreign_code(path)
    >>> _ = path.write_text("made: !apply:os.system [ls]")
    >>> refuse_foreign_code(path)
    Traceback (most recent call last):
    speechbrain_ext.errors.UserError: ...hyperparams.yaml names the code os.system, which is none \
of speechbrain, torch, speechbrain_ext: give trust=True (--trust of a command) where you \
trust whoever made the folder
    """
    try:
        text = Path(path).read_text(encoding="utf-8") if text is None else text
        tree = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # what is read more leniently elsewhere
        place = str(error).splitlines()[0]
        raise UserError(
            f"{path} is no YAML ({place}): export the model again", code="bad-yaml"
        ) from None
    for tag in _tags(tree):
        if tag in _HARMLESS:
            continue
        call = next((each for each in _CALLS if tag.startswith(each)), None)
        name = tag.removeprefix(call or "")
        if call is None or not _is_trusted(name):
            raise UserError(
                f"{path} names the code {name}, which is none of {', '.join(TRUSTED)}: give "
                "trust=True (--trust of a command) where you trust whoever made the folder",
                code="foreign-code",
            )


def _tags(root: yaml.Node | None) -> Iterator[str]:
    waiting: list[Any] = [root]
    seen = set[int]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting += node
        elif isinstance(node, yaml.Node) and id(node) not in seen:  # an anchor may stand in itself
            seen.add(id(node))
            yield node.tag
            waiting += node.value if isinstance(node.value, list) else []


def _is_trusted(name: str) -> bool:
    """Whether it is theirs, and not what one of their modules has imported, as torch.os."""
    if name in _KNOWN:
        return True
    if name.split(".")[0] not in TRUSTED:
        return False
    from pydoc import locate  # as HyperPyYAML finds it; here, since it imports much

    found = locate(name)
    if found is None:  # loading says so
        return True
    if inspect.ismodule(found):
        origin = found.__name__
    else:
        origin = getattr(found, "__module__", None) or ""
    return origin.split(".")[0] in TRUSTED
