"""What tests of several commands need."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture
def ffmpeg(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have ffmpeg on PATH: the system's, or the one of the package imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    package = pytest.importorskip("imageio_ffmpeg", reason="there is no ffmpeg")
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(package.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return str(folder / "ffmpeg")
