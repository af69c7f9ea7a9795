"""Odd and damaged audio, through embedding, stage 0 and stage 1."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from tools.fuzz.command import Fault, Prepared, run
from tools.fuzz.damage import Random, damaged

FORMATS = {
    ".wav": ("WAV", ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")),
    ".flac": ("FLAC", ("PCM_16", "PCM_24")),
    ".ogg": ("OGG", ("VORBIS", "OPUS")),
    ".mp3": ("MP3", ("MPEG_LAYER_III",)),
    ".aiff": ("AIFF", ("PCM_16", "FLOAT")),
    ".au": ("AU", ("PCM_16", "FLOAT")),
    ".caf": ("CAF", ("PCM_16",)),
    ".w64": ("W64", ("PCM_16", "FLOAT")),
}
RATES = (1, 7, 100, 8000, 11025, 16000, 16000, 16000, 16001, 22050, 44100, 48000, 96000, 384000)
NAMES = ("a", "b c", "ä", "a\u0308", "x$y", "-v", "a'b", "c;d", "#", "%s", "a\tb", "n\nl")
GROUP = 25


def write_audio(folder: Path, number: int, draw: Random) -> str:
    """Write a file of audio, odd or damaged, below the folder; its name."""
    ending = str(draw.choice([*FORMATS]))
    name = f"{draw.choice(NAMES)}{number}"
    path = folder / f"id{number % 4}" / f"s{number % 3}" / f"{name}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = draw.integers(0, 16)
    if kind == 0:
        path.write_bytes(draw.bytes(int(draw.integers(0, 4000))))
        return str(path)
    if kind == 1:
        path.symlink_to(draw.choice([path.name, "nowhere.wav", "/dev/null", ".."]))
        return str(path)
    if kind == 2:
        path.mkdir()
        return str(path)
    container, subtypes = FORMATS[ending]
    length = int(draw.choice([0, 1, 10, 400, 4000, 16000, 16000, 40000, 40000]))
    channels = int(draw.choice([1, 1, 1, 2, 3, 8]))
    wave = draw.uniform(-0.5, 0.5, (length, channels))
    match int(draw.integers(0, 8)):
        case 0:
            wave[:] = draw.choice([0.0, 0.3, 1e-4, np.nan, np.inf, 1e30])
        case 1:
            wave[length // 2 :] = draw.choice([np.nan, -np.inf, 1e38, 0.0])
        case 2:
            wave[:, channels // 2 :] *= -1
    rate, subtype = int(draw.choice(RATES)), str(draw.choice(subtypes))
    if ending in (".mp3", ".ogg"):  # whose encoders end the process at odd rates and samples
        wave = np.nan_to_num(wave[:, :2], posinf=1.0, neginf=-1.0).clip(-1, 1)
        rate = int(draw.choice([8000, 16000, 24000, 48000]))
    wave = wave[: 30 * rate]  # at one sample a second the rest would be hours
    try:
        with np.errstate(all="ignore"):
            soundfile.write(path, wave, rate, subtype, format=container)
    except (RuntimeError, ValueError, AssertionError):  # the format holds no such audio
        soundfile.write(path, wave[:, :1], 16000, "FLOAT", format="WAV")
    if kind < 8:
        path.write_bytes(damaged(path.read_bytes(), draw))
    if kind == 3:
        path = path.rename(path.with_suffix(str(draw.choice([*FORMATS]))))
    return str(path)


def audio(prepared: Prepared, number: int, draw: Random) -> str:
    """A folder of files through embedding, stage 0 and stage 1."""
    folder = Path(tempfile.mkdtemp(dir=prepared.work))
    try:
        for file in range(GROUP):
            write_audio(folder / "in", file, draw)
        run("embed.py", prepared.student, folder / "in", folder / "out", "--num_workers", 0)
        every_file_is_told_of(folder / "in", folder / "out")
        mirror = ["--src", folder / "in", "--dst", folder / "corpus" / "dev", "--jobs", 1]
        told = run("local/convert_audio.py", *mirror, "--max_failed", 1)
        if not told:
            line = ["hparams/manifests.yaml", "--corpus_dir", folder / "corpus", "--jobs", 1]
            line += ["--train", folder / "corpus" / "dev", "--valid_speakers", 2]
            told = run("local/prepare_manifests.py", *line)
        return told
    finally:
        shutil.rmtree(folder)


def every_file_is_told_of(audio_folder: Path, out: Path) -> None:
    """No file is passed over in silence, and no embedding holds what is no number."""
    if not out.is_dir():
        return
    vectors = list(out.rglob("*.npy"))
    failures = (out / "failures.tsv").read_text(encoding="utf-8", errors="surrogateescape")
    for path in vectors:
        vector = np.load(path)
        if not np.isfinite(vector).all():
            raise Fault(f"{path} is not finite")
        if np.linalg.norm(vector) == 0:
            raise Fault(f"{path} is zero")
    made = {str(path.relative_to(out)) for path in vectors}
    for path in audio_folder.rglob("*"):
        name = str(path.relative_to(audio_folder))
        stem = str(Path(name).with_suffix(""))
        if path.is_dir() or path.suffix not in FORMATS:
            continue
        known = any(m.startswith(stem) for m in made)
        shown = name.replace("\t", "\\t").replace("\n", "\\n")
        if not known and shown not in failures and name not in failures:
            raise Fault(f"{name} has no embedding and no failure")
