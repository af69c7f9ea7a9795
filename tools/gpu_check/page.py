"""The figures of a check as a page, and whether all of them will do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def verdicts(tree: Any) -> Iterator[bool]:
    """Each figure of a part that says whether it is good."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "good":
                yield value
            else:
                yield from verdicts(value)


def page(figures: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    machine = figures["machine"]
    lines = ["# GPU check", "", ", ".join(f"{k} {v}" for k, v in machine.items()), ""]
    for part, found in figures["parts"].items():
        outcome, seconds = found.get("outcome", "running"), found.get("seconds", "")
        lines += [f"## {part}: {outcome}, {seconds} s", "", "| what | figures |", "| --- | --- |"]
        for name, value in found.items():
            if name not in ("outcome", "seconds"):
                lines.append(f"| {name} | {_plain(value)} |")
        lines.append("")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
