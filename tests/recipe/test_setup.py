"""The set-up of the environment: what it uses, what it repairs, and what it says when it cannot."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import speechbrain_ext
from tests.processes import HANG

ROOT = Path(__file__).resolve().parents[2]
# Stands for a Python and for that of the environment it makes. FAKE says what is wrong with it.
FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
case "$*" in
    *version_info*) case $FAKE in *old*) echo 3.8 ;; *) echo 3.12 ;; esac ;;
    *ensurepip*) case $FAKE in *no_venv*) exit 1 ;; esac ;;
    *check_environment.py*)
        case $FAKE in
            *no_audio*) echo "torchaudio 2.11.0 does not import beside torch 2.11.0+cpu"; exit 4 ;;
            *unmet*) echo "torch is not installed"; exit 3 ;;
        esac ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip install"*) case $FAKE in *no_pip*) echo "ERROR: no network" >&2; exit 1 ;; esac ;;
esac
"""


class House:
    """A copy of what the set-up needs, and a fake Python."""

    def __init__(self, root: Path) -> None:
        self.root, self.venv, self.calls = root, root / ".venv", root / "calls"
        shutil.copytree(ROOT / "tools", root / "tools")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, root)
        self.python = self.fake(root / "python3.12")

    @staticmethod
    def fake(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FAKE_PYTHON)
        path.chmod(0o755)
        return path

    def setup(self, fake: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the set-up; ``fake`` names the faults of the fake Python."""
        self.calls.write_text("")
        fakes = {"PYTHON": str(self.python), "CALLS": str(self.calls), "FAKE": fake}
        kept = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
        return subprocess.run(
            ["bash", str(self.root / "tools/setup_env.sh"), "mini"],
            env={**kept, **fakes, **variables},
            capture_output=True,
            text=True,
            timeout=HANG,
        )

    def installed(self) -> bool:
        """Tell whether the last set-up called pip to install."""
        return "-m pip install" in self.calls.read_text()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "a house")


def test_made_once_then_reused(house: House) -> None:
    first = house.setup()
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(house.venv / "bin/python")
    assert house.installed()
    again = house.setup()
    assert again.stdout == first.stdout and again.stderr == ""
    assert not house.installed()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_stale(house: House, name: str) -> None:
    house.setup()
    (house.venv / "kept").touch()
    with (house.root / name).open("a") as file:
        file.write("# changed\n")
    assert house.setup().returncode == 0
    assert house.installed()
    assert (house.venv / "kept").exists()  # brought up to date, not made anew


def test_interrupted(house: House) -> None:
    house.setup()
    (house.venv / "setup.stamp").write_text("unfinished\n")
    (house.venv / "half_unpacked").touch()
    done = house.setup()
    assert done.returncode == 0 and house.installed()
    assert not (house.venv / "half_unpacked").exists()


def test_without_its_python(house: House) -> None:
    house.setup()
    (house.venv / "bin/python").unlink()
    assert house.setup().returncode == 0
    assert house.installed() and (house.venv / "bin/python").exists()


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        ("old", ["3.10 to 3.13", "3.8"]),
        ("no_venv", ["apt-get install python3.12-venv"]),
        ("no_pip", ["pip", ".venv/setup.log"]),
        ("no_audio", ["torchaudio", "2.11.0+cpu", "pip install"]),
    ],
)
def test_a_fault_is_one_sentence(house: House, fake: str, words: list[str]) -> None:
    done = house.setup(fake)
    assert done.returncode == 1 and done.stdout == ""
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("error: ")
    assert all(word in sentence for word in words)
    assert house.setup().returncode == 0  # once it is mended


def test_a_python_that_is_not_there(house: House) -> None:
    done = house.setup(PYTHON="/no/such/python")
    assert done.returncode == 1 and "PYTHON=/no/such/python does not run" in done.stderr


def test_pip_failure_keeps_its_output(house: House) -> None:
    house.setup("no_pip")
    assert "no network" in (house.venv / "setup.log").read_text()


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_active_environment(house: House, variable: str) -> None:
    active = house.root / "active"
    house.fake(active / "bin/python")
    done = house.setup(**{variable: str(active)})
    assert done.returncode == 0 and done.stdout.strip() == str(active / "bin/python")
    assert not house.venv.exists()

    wanting = house.setup("unmet", **{variable: str(active)})
    assert "torch is not installed" in wanting.stderr and str(active) in wanting.stderr
    assert house.installed()

    deaf = house.setup("no_audio", **{variable: str(active)})
    assert deaf.returncode == 1 and "active environment" in deaf.stderr.splitlines()[-1]


def check_environment(*options: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools/check_environment.py"), *options],
        env={**os.environ, "PYTHONPATH": str(path or "")},
        capture_output=True,
        text=True,
        timeout=HANG,
    )


def fake_distribution(folder: Path, name: str, version: str, code: str) -> None:
    """Lay out a package that hides the installed one."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    (folder / f"{name}-{version}.dist-info").mkdir()
    (folder / f"{name}-{version}.dist-info/METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )


def test_check_finds_this_environment_good() -> None:
    done = check_environment("--extras", "train")
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_names_a_wrong_version(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "speechbrain", "1.3.0", "")
    done = check_environment("--extras", "train", path=tmp_path)
    assert done.returncode == 3
    assert "speechbrain" in done.stdout and "1.3.0 is installed" in done.stdout


def test_check_follows_extras_that_name_extras(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "onnx", "0.1", "")
    assert check_environment("--extras", "mini", "--pins", path=tmp_path).returncode == 3
    fake_distribution(tmp_path, "espeakng_loader", "0.1", "")
    done = check_environment("--extras", "dev", path=tmp_path)
    assert done.returncode == 3 and "espeakng-loader" in done.stdout


def test_check_imports_torchaudio_beside_another_build(tmp_path: Path) -> None:
    code = "raise OSError('libcudart.so.13: cannot open shared object file')"
    fake_distribution(tmp_path, "torchaudio", "2.11.0+cu130", code)
    done = check_environment(path=tmp_path)
    assert done.returncode == 4
    assert "torchaudio 2.11.0+cu130 does not import" in done.stdout and "libcudart" in done.stdout


def test_wheel(tmp_path: Path) -> None:
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("the build needs setuptools 77")
    source = tmp_path / "source"
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "speechbrain_ext", source / "speechbrain_ext", ignore=caches)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip_wheel, "--wheel-dir", tmp_path, source], check=True, timeout=HANG)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert f"Version: {speechbrain_ext.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "speechbrain_ext/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "speechbrain_ext").rglob("*.py")}
    assert sources <= set(names)
    assert not any(name.startswith(("recipes/", "tests/", "tools/")) for name in names)
