"""Small files of audio, and what a folder holds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import soundfile

TONE = 0.3 * np.sin(np.arange(8000) * 0.2)


def wav(path: Path, rate: int = 16000, channels: int = 1, samples: np.ndarray = TONE) -> Path:
    """Write half a second of a tone at 16 kHz, in the format of the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([samples] * channels, 1), rate)
    return path


def m4a(path: Path, ffmpeg: str) -> Path:
    """Write half a second of a tone, in stereo at 44.1 kHz."""
    source = wav(path.with_suffix(".source.wav"))
    command = [ffmpeg, "-loglevel", "error", "-i", str(source)]
    subprocess.run([*command, "-ar", "44100", "-ac", "2", str(path)], check=True)
    source.unlink()
    return path


def tree(root: Path) -> dict[str, int]:
    """Say what a folder holds and when it was written."""
    return {str(p.relative_to(root)): p.lstat().st_mtime_ns for p in root.rglob("*")}


def names(root: Path) -> list[str]:
    """List what is not hidden below a folder of speakers, links followed."""
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    return sorted(path.relative_to(root).as_posix() for path in found)
