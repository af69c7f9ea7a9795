"""What a message tells a user to give is there to be given."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from speechbrain import RunOptions

from speechbrain_ext.cli.main import app
from tests.recipe.tiny import RECIPE

ROOT = RECIPE.parents[2]
OPTION = re.compile(r"(?<![\w-])--([a-z]\w*)")
ERRORS = {"UserError", "error", "die"}
SOURCES = [*RECIPE.glob("*.py"), *RECIPE.glob("local/**/*.py")]
SOURCES += ROOT.glob("speechbrain_ext/**/*.py")
RUN_SH = (RECIPE / "run.sh").read_text(encoding="utf-8")
STAGES = {*re.findall(r"(?:local/)?\w+\.py", RUN_SH.partition("stage_0()")[2])}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def text_of(node: ast.AST, path: Path) -> str:
    """The parts of a string that a file has, with those of its constants."""
    constants = {
        each.targets[0].id: each.value
        for each in parsed(path).body
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
    }
    parts = []
    for each in ast.walk(node):
        value = constants.get(each.id, each) if isinstance(each, ast.Name) else each
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            parts.append(value.value)
    return " ".join(parts)


def calls(path: Path, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in names:
                yield node


def imported(path: Path) -> Iterator[Path]:
    """The project's files that a file imports."""
    for node in ast.walk(parsed(path)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            for root in (RECIPE, ROOT):
                stem = root / name.replace(".", "/")
                yield from (
                    p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p in FILES
                )
    if path == ROOT / "speechbrain_ext/corpora/maker.py":  # which imports them by their names
        yield from MAKERS
    if path == ROOT / "speechbrain_ext/systems/imported.py":  # whose YAMLs name it
        yield ROOT / "speechbrain_ext/lobes/foreign.py"


FILES = set(SOURCES)
MAKERS = [
    path for path in SOURCES if re.search("^CORPUS = ", path.read_text("utf-8"), re.MULTILINE)
]


@functools.cache
def reached(path: Path) -> frozenset[Path]:
    found, ahead = {path}, [path]
    while ahead:
        for other in imported(ahead.pop()):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return frozenset(found)


def keys_of_yaml() -> set[str]:
    text = "\n".join(path.read_text("utf-8") for path in (RECIPE / "hparams").rglob("*.yaml"))
    return {*re.findall(r"^(\w+):", text, re.MULTILINE)} | set(RunOptions().as_dict())


@functools.cache
def options(command: Path) -> frozenset[str]:
    """Of a command and of what it passes further options on to."""
    found = {
        name
        for p in reached(command)
        for c in calls(p, {"add_argument"})
        for name in OPTION.findall(text_of(c, p))
    }
    if command == SPK:
        for verb in VERBS.values():
            found |= {name for each in verb.params for name in OPTION.findall(" ".join(each.opts))}
    text = command.read_text("utf-8")
    if re.search(r"add_argument\(\s*f", text):  # an option for each field of a class
        nodes = (node for path in reached(command) for node in ast.walk(parsed(path)))
        fields = (node.target for node in nodes if isinstance(node, ast.AnnAssign))
        found |= {target.id for target in fields if isinstance(target, ast.Name)}
    passed_on = ("read_command_line", "model_settings", "run_training", "manifests.settings")
    if any(word in text for word in passed_on):
        found |= keys_of_yaml()
    return frozenset(found)


def run_sh_options() -> set[str]:
    """Those that it explains, and those of corpora, which it finds in their files."""
    head = RUN_SH.partition("# End of options.")[0]
    texts = [path.read_text("utf-8") for path in MAKERS]
    of_corpora = (re.findall(r'"--(\w+)"', text) for text in texts)
    return set(re.findall(r"^([a-z_0-9]+)=", head, re.MULTILINE)).union(*of_corpora)


def messages() -> list[tuple[Path, int, str]]:
    return [
        (path, call.lineno, text)
        for path in SOURCES
        for call in calls(path, ERRORS)
        if call.args and OPTION.search(text := text_of(call.args[0], path))
    ]


SPK = ROOT / "speechbrain_ext/cli/main.py"
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
COMMANDS = [SPK, *(path for path in SOURCES if "__main__" in path.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("path", "line", "message"), messages(), ids=lambda x: x.stem if isinstance(x, Path) else ""
)
def test_options_of_messages_exist(path: Path, line: int, message: str) -> None:
    """Each in a command that can say so, and for run.sh's stages one in run.sh."""
    named = set(OPTION.findall(message)) - {"key", "help"}
    commands = [command for command in COMMANDS if path in reached(command)]
    known = run_sh_options().union(*(options(command) for command in commands))
    assert named <= known, f"{path}:{line}: {named - known} of {message}"
    others = [c for c in commands if c not in {RECIPE / stage for stage in STAGES}]
    remedy = set(OPTION.findall(re.split("[:;]", message)[-1])) & named
    told = run_sh_options() | keys_of_yaml().union(*(options(command) for command in others))
    assert not remedy or remedy & told, f"{path}:{line}: run.sh cannot be given {remedy}: {message}"


def test_many_messages_are_looked_at() -> None:
    assert len(messages()) > 40 and len(COMMANDS) > 15 and len(STAGES) > 8
