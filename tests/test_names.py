"""Names of the package: each means one thing, and the shop window shows what is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import speechbrain_ext

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib  # type: ignore[no-redef]

PACKAGE = Path(speechbrain_ext.__file__).parent


def test_no_two_public_classes_or_functions_share_a_name() -> None:
    """A reader who meets a name knows which it is; ``main`` is that of each command."""
    places: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_":
                places[node.name].add(path.relative_to(PACKAGE).as_posix())
    places.pop("main", None)
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_the_shop_window_has_all_that_it_names() -> None:
    for name in speechbrain_ext.__all__:
        assert getattr(speechbrain_ext, name).__name__ == name
        assert name in dir(speechbrain_ext)
    assert not hasattr(speechbrain_ext, "nothing")


def test_the_package_alone_is_light() -> None:
    program = "import sys, speechbrain_ext; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)


BASE = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

class Base(PathFinder):
    \"\"\"As if nothing but the standard library and what the base install brings were there.\"\"\"

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        known = {*sys.stdlib_module_names, *sys.argv[1:], "speechbrain_ext"}
        if fullname.partition(".")[0] in known:
            return super().find_spec(fullname, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Base
import speechbrain_ext
for module in pkgutil.walk_packages(speechbrain_ext.__path__, "speechbrain_ext.", lambda _: None):
    try:
        importlib.import_module(module.name)
        print(module.name)
    except speechbrain_ext.errors.MissingPackage as error:
        extra = "serve" if ".serve" in module.name else "train"
        assert f'pip install "speechbrain_ext[{extra}]"' in str(error), error
"""


def base_install() -> set[str]:
    """The modules that the base install brings, and what these need."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    found, waiting = set[str](), list(map(Requirement, project["dependencies"]))
    modules: dict[str, set[str]] = defaultdict(set)
    for module, owners in packages_distributions().items():
        for owner in owners:
            modules[canonicalize_name(owner)].add(module)
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += map(Requirement, requires(name) or [])
    return set().union(*(modules[name] for name in found))


def test_the_base_install_says_what_is_missing() -> None:
    """Of every module, whichever comes first; what reads and scores lists needs nothing more."""
    done = subprocess.run(
        [sys.executable, "-c", BASE, *base_install()],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    useful = {f"verification.{name}" for name in ("embeddings", "metrics", "scores", "trials")}
    useful |= {"sound", "runtime.model", "runtime.gallery"}
    assert {f"speechbrain_ext.{name}" for name in useful} <= {*done.stdout.split()}
