"""Tell whether the Python that runs this has what pyproject.toml asks for.

usage: python tools/check_environment.py [--extras mini,dev] [--pins] [--import_audio]

Exit status 0: it has; 3: a requirement is not met; 4: torchaudio does not import. Prints which.
Only the standard library and what comes with pip are used, and nothing is installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib  # type: ignore[no-redef]

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version
except ImportError:  # a new environment has pip alone
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]
    from pip._vendor.packaging.utils import canonicalize_name  # type: ignore[assignment]
    from pip._vendor.packaging.version import Version  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
UNMET, NO_AUDIO = 3, 4


def requirements(project: dict[str, Any], extras: list[str]) -> Iterator[Requirement]:
    """Yield the requirements of the package and of extras, which may name each other."""
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    for requirement in map(Requirement, lines):
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            yield from requirements({**project, "dependencies": []}, sorted(requirement.extras))
        else:
            yield requirement


def pins(path: Path) -> Iterator[Requirement]:
    """Yield the requirements of a constraints file."""
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            yield Requirement(line)


def installed(name: str) -> Version | None:
    """Return the installed version of a distribution, or None."""
    try:
        return Version(importlib.metadata.version(name))
    except (importlib.metadata.PackageNotFoundError, TypeError):  # TypeError: half a folder
        return None


def first_unmet(wanted: list[Requirement], allowed: list[Requirement]) -> str | None:
    """Return what the first unmet requirement wants and what there is instead, or None."""
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate():
            continue
        version = installed(requirement.name)
        if version is None:
            return f"{requirement.name} is not installed"
        if not requirement.specifier.contains(version, prereleases=True):
            return f"{requirement} is needed and {version} is installed"
    for pin in allowed:
        version = installed(pin.name)
        if version is not None and not pin.specifier.contains(version, prereleases=True):
            return f"{pin} is wanted and {version} is installed"
    return None


def main() -> int:
    """Check, print the first thing that is wrong, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, with commas")
    parser.add_argument("--pins", action="store_true", help="hold versions to constraints.txt, too")
    parser.add_argument("--import_audio", action="store_true", help="import torchaudio in any case")
    arguments = parser.parse_args()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if f"{sys.version_info[0]}.{sys.version_info[1]}" not in ("3.10", "3.11", "3.12", "3.13"):
        print(f"Python 3.10 to 3.13 is needed and this is {sys.version.split()[0]}")
        return UNMET
    extras = [extra for extra in arguments.extras.split(",") if extra]
    allowed = list(pins(ROOT / "constraints.txt")) if arguments.pins else []
    unmet = first_unmet(list(requirements(project, extras)), allowed)
    if unmet:
        print(unmet)
        return UNMET

    # Importing takes seconds, so without being asked to only where the two builds differ by name.
    torch, torchaudio = installed("torch"), installed("torchaudio")
    if arguments.import_audio or torch != torchaudio:
        try:
            importlib.import_module("torchaudio")
        except Exception as error:  # a missing library is an OSError, a wrong build a RuntimeError
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            print(f"torchaudio {torchaudio} does not import beside torch {torch} ({cause})")
            return NO_AUDIO
    return 0


if __name__ == "__main__":
    sys.exit(main())
