"""What went wrong when the classes of a YAML were made, in the words of the YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

HYPERPYYAML = "Invalid argument to "  # it puts a line for every class around the one that failed


def explain(error: Exception, tree: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The sentence of an error, with the keys from which a class had its arguments.

    Arguments
    ---------
    error : Exception
        What HyperPyYAML raised.
    tree : mapping
        The YAML file, its references not resolved.
    values : mapping
        The same with the command line's values, resolved.

    Returns
    -------
    str
        The reason; before it the key of the class, after it those of arguments that it names.

    Example
    -------
    >>> explain(TypeError("Invalid argument to class a.B", "it must be long"), {}, {})
    'it must be long'
    """
    parts = [str(part).strip() for part in error.args]
    reason = " ".join(parts[-1].split()) if parts and parts[-1] else type(error).__name__
    # A null or a word where a class should be; a number would be a mistake in a class's own code.
    called = re.fullmatch(r"'(NoneType|str|list)' object is not callable", reason)
    for name in _classes(error, parts):
        for key, node in _made(tree, name):
            for reference in _references(node).values():
                value = values.get(reference)
                if called and type(value).__name__ == called[1]:
                    return f"{reference} is {value!r}, and must be a class, by !name:"
            given = [
                f"{argument} is {reference}"
                for argument, reference in _references(node).items()
                if argument != reference and re.search(rf"\b{argument}\b", reason)
            ]
            hint = f" ({', '.join(given)} in the YAML)" if given else ""
            return reason + hint if reason.startswith(key) else f"{key}: {reason}{hint}"
    return reason


def null_reference(
    error: AttributeError, tree: Mapping[str, Any], values: Mapping[str, Any]
) -> str | None:
    """The sentence for a reference to an attribute of a key that is null; None for other errors."""
    null = re.fullmatch(r"'NoneType' object has no attribute '(\w+)'", str(error))
    for key in _readers(tree, null[1]) if null else ():
        if null and values.get(key) is None:
            return f"{key} is null, and <{key}.{null[1]}> is read: override what reads it too"
    return None


def _classes(error: Exception, parts: list[str]) -> Iterator[str]:
    """Full names of the classes that were being made, the innermost first."""
    yield from (part.split()[-1] for part in reversed(parts) if part.startswith(HYPERPYYAML))
    makers, step = [], error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_name == "__init__":
            maker = type(step.tb_frame.f_locals.get("self"))
            makers.append(f"{maker.__module__}.{maker.__qualname__}")
        step = step.tb_next
    yield from reversed(makers)


def _made(tree: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Where a tree makes or names a class: the root key, the node."""
    for key, value in tree.items():
        for node in _nodes(value):
            if _tag(node) in (f"!new:{name}", f"!name:{name}"):
                yield str(key), node


def _nodes(value: Any) -> Iterator[Any]:
    yield value
    children = value.values() if isinstance(value, Mapping) else value
    if isinstance(children, list) or isinstance(value, Mapping):
        for child in children:
            yield from _nodes(child)


def _references(node: Any) -> dict[str, str]:
    """The arguments of a node that are another key's value, whole."""
    if not isinstance(node, Mapping):
        return {}
    found = {
        str(argument): re.fullmatch(r"<(\w+)>", str(getattr(value, "value", "")).strip())
        for argument, value in node.items()
        if _tag(value) == "!ref"
    }
    return {argument: match[1] for argument, match in found.items() if match}


def _readers(tree: Mapping[str, Any], attribute: str) -> list[str]:
    """The keys of which a reference reads an attribute."""
    texts = (str(getattr(node, "value", "")) for node in _nodes(tree) if _tag(node) == "!ref")
    return [key for text in texts for key in re.findall(rf"<(\w+)\.{attribute}\b", text)]


def _tag(node: Any) -> str:
    return str(getattr(getattr(node, "tag", None), "value", None))
