"""Names of the package: each means one thing, and the shop window shows what is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import speechbrain_ext

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
