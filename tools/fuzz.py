"""Damaged audio, lists and settings through the commands: each ends well or in a sentence.

    python -m tools.fuzz --seed 1 --count 10000
    python -m tools.fuzz --seed 1 --kind settings --only 17     one input again, with what it says

Inputs follow from the seed and their number. All commands run in this process, as a user would type
them. An end other than success or a user's error, or a file that is neither used nor named, is a
fault: it is printed with its traceback, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import faulthandler
import io
import os
import resource
import runpy
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from speechbrain_ext.errors import friendly_exit
from tests.recipe.experiments import make_experiment
from tests.recipe.tiny import STUDENT, TEACHER, make_corpus

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "VoxCeleb" / "distill_mixer"

MEMORY = 16 << 30  # bytes of addresses
HANG = 300  # seconds after which a command is taken to hang
Random = np.random.Generator


class Fault(Exception):
    """What a command did that it must not."""


class Place(NamedTuple):
    """Folders that all inputs share."""

    work: Path
    corpus: Path  # of tiny, with manifests
    teacher: Path  # an experiment of random weights
    student: Path


def make_place(work: Path) -> Place:
    """Make what the commands need besides the input."""
    corpus = make_corpus(work / "tiny")
    student = make_experiment(work / "student", "v2")
    teacher = make_experiment(work / "teacher", "teacher")
    return Place(work, corpus, teacher, student)


def run(script: str, *arguments: object) -> str:
    """Run a command of the recipe in this process.

    Returns
    -------
    str
        Nothing, or what it told its user when it ended in an error.

    Raises
    ------
    Fault
        When it ended in any other way.
    """
    said, stop = io.StringIO(), 0
    before, arguments_before = os.getcwd(), sys.argv
    os.chdir(RECIPE)
    sys.argv = [script, *map(str, arguments)]
    faulthandler.dump_traceback_later(HANG, exit=True)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        stop = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        raise Fault("".join(traceback.format_exception(error))) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.chdir(before)
        sys.argv = arguments_before
    text = said.getvalue()
    if "Traceback" in text:
        raise Fault(f"a traceback was printed:\n{text}")
    if stop == 0:
        return ""
    # argparse puts the command's name before.
    told = [line for line in text.splitlines() if "error: " in line or line.startswith("failed: ")]
    if not told:
        raise Fault(f"status {stop} and no sentence:\n{text[-2000:]}")
    return told[-1]


# Bytes


def damaged(content: bytes, draw: Random) -> bytes:
    """Bytes with some of them cut off, changed, repeated, left out or put in."""
    changed = bytearray(content)
    for _ in range(int(draw.integers(1, 4))):
        at = int(draw.integers(0, max(1, len(changed))))
        size = int(draw.integers(1, 65))
        match int(draw.integers(0, 7)):
            case 0:
                del changed[at:]
            case 1:
                changed[at : at + size] = draw.bytes(size)
            case 2:
                changed[at : at + size] = bytes(size)
            case 3:
                changed[at:at] = changed[max(0, at - size) : at]
            case 4:
                del changed[at : at + size]
            case 5:  # in the header
                changed[at % 64 : at % 64 + 4] = draw.bytes(4)
            case 6:
                changed[at:at] = draw.bytes(size)
    return bytes(changed)


# Audio

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


GROUP = 25


def audio(place: Place, number: int, draw: Random) -> str:
    """A folder of files through embedding, stage 0 and stage 1."""
    folder = Path(tempfile.mkdtemp(dir=place.work))
    try:
        for file in range(GROUP):
            write_audio(folder / "in", file, draw)
        run("embed.py", place.student, folder / "in", folder / "out", "--num_workers", 0)
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


# Lists and manifests

WORDS: tuple[str, ...] = (
    "1",
    "0",
    "target",
    "nontarget",
    "tgt",
    "imp",
    "2",
    "-1",
    "1.0",
    "nan",
    "",
    "#",
    '"',
    "'",
)
WORDS += ("id050/s0/0", "./id050/s0/0.wav", "id050\\s0\\0", "/abs/x.wav", "../..", "é", "e\u0301")
WORDS += ("\ufeff1", "\x00", "\u2028", "label", "enrol", "test", "x" * 5000, "id999/s0/0", "%d")


def write_list(path: Path, source: Path, draw: Random) -> None:
    """Write a list like the source, with lines and bytes that are wrong."""
    lines = source.read_text(encoding="utf-8").splitlines()
    picked = 1 + draw.permutation(len(lines) - 1)[: int(draw.integers(0, 60))]
    lines = [lines[0], *(lines[i] for i in sorted(picked))]
    for _ in range(int(draw.integers(0, 4))):
        at = int(draw.integers(0, len(lines))) if lines else 0
        cut = "," if source.suffix == ".csv" else " "
        separator = str(draw.choice([cut, cut, cut, "\t", ",", ";", "  "]))
        cells = lines[at].split(cut) if lines else []
        match int(draw.integers(0, 7)):
            case 0 if cells:
                cells[int(draw.integers(0, len(cells)))] = str(draw.choice(WORDS))
                lines[at] = separator.join(cells)
            case 1:
                lines.insert(at, separator.join(str(w) for w in draw.choice(WORDS, 3)))
            case 2 if cells:
                lines[at] = separator.join(cells[:-1])
            case 3 if cells:
                lines[at] = separator.join([*cells, str(draw.choice(WORDS))])
            case 4:
                lines.insert(at, lines[at] if lines else "")
            case 5:
                lines = [line.replace(cut, separator) for line in lines]
            case 6:
                lines = lines[:at]
    content = str(draw.choice(["\n", "\n", "\r\n", "\r"])).join(lines).encode("utf-8")
    match int(draw.integers(0, 24)):
        case 0:
            content = damaged(content, draw)
        case 1:
            content = b"\xef\xbb\xbf" + content
        case 2:
            content = content.decode("utf-8").encode("utf-16")
        case 3:
            content = b""
    path.write_bytes(content)


def lists(place: Place, number: int, draw: Random) -> str:
    """A trial list or a manifest through a command that reads it."""
    folder = Path(tempfile.mkdtemp(dir=place.work))
    manifests = place.corpus / "manifests"
    try:
        match number % 4:
            case 0:
                write_list(folder / "list.txt", manifests / "trials" / "valid.txt", draw)
                line = [place.student, "--out", folder / "out", "--num_workers", 0]
                line += ["--trials", place.corpus / "valid", folder / "list.txt"]
                return run("evaluate.py", *line)
            case 1:
                write_list(folder / "list.txt", manifests / "trials" / "valid.txt", draw)
                write_list(folder / "exclude.txt", manifests / "trials" / "valid.txt", draw)
                line = ["hparams/manifests.yaml", "--corpus_dir", folder, "--jobs", 1]
                line += ["--train", place.corpus / "train", "--valid_speakers", 2]
                line += ["--trials", folder / "list.txt", "--trials_root", place.corpus / "valid"]
                if draw.integers(0, 2):
                    line += ["--exclude_speakers", folder / "exclude.txt"]
                return run("local/prepare_manifests.py", *line)
            case 2:
                shutil.copytree(manifests, folder / "manifests")
                write_list(folder / "manifests" / "valid.csv", manifests / "valid.csv", draw)
                line = [place.student, "--manifests", folder / "manifests", "--sets", "valid"]
                return run("extract.py", *line)
            case _:
                shutil.copytree(manifests, folder / "manifests")
                write_list(folder / "manifests" / "train.csv", manifests / "train.csv", draw)
                line = [*TEACHER, "--corpus_dir", folder, "--number_of_epochs", 1]
                return run("train_teacher.py", *line, "--output_folder", folder / "exp")
    finally:
        shutil.rmtree(folder)


# Settings

VALUES: tuple[str, ...] = (
    "",
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "1e400",
    "nan",
    "inf",
    "null",
    "True",
    "yes",
    "[]",
    "{}",
)
VALUES += (
    "[1, 2",
    "{a: 1}",
    "[1.0, 0.9]",
    "'",
    '"',
    "a: b",
    "a #b",
    "1.10",
    "20241127",
    "ä",
    "!ref",
)
VALUES += (
    "!ref <nothing>",
    "<seed>",
    "!new:nowhere.Nothing",
    "- a",
    "\t",
    "data/none",
    "1_000",
    "~",
)
# What would fill the machine, write elsewhere, or train for hours.
LEFT_OUT = {
    "crops_per_utterance",
    "output_folder",
    "save_folder",
    "number_of_epochs",
    "num_workers",
    "corpus_dir",
}


def settings(place: Place, number: int, draw: Random) -> str:
    """A YAML file or overrides through a training of one epoch."""
    folder = Path(tempfile.mkdtemp(dir=place.work))
    student = bool(number % 2)
    line = [*(STUDENT if student else TEACHER)]
    yaml = RECIPE / str(line[0])
    try:
        if draw.integers(0, 2):
            line[0] = str(write_yaml(folder, yaml, draw))
        line += ["--corpus_dir", str(place.corpus), "--output_folder", str(folder / "exp")]
        line += ["--number_of_epochs", "1"]
        if student:
            line += ["--teacher_folder", str(place.teacher), "--lin_neurons", "8"]
        keys = sorted(keys_of(yaml) - LEFT_OUT)
        for _ in range(int(draw.integers(0, 3))):
            key = str(draw.choice([*keys, "no_such_key", "lrr", "a.b", "-"]))
            line += [f"--{key}"] + [str(draw.choice(VALUES))] * bool(draw.integers(0, 8))
        return run("train_distill.py" if student else "train_teacher.py", *line)
    finally:
        shutil.rmtree(folder)


def keys_of(yaml: Path) -> set[str]:
    """Keys of a file and of those that it builds on."""
    from ruamel.yaml import YAML

    from speechbrain_ext.systems.yaml import resolve_hparams

    return {key for key in YAML().load(resolve_hparams(yaml)) if not key.startswith("__")}


def write_yaml(folder: Path, source: Path, draw: Random) -> Path:
    """A file that builds on the source, or a copy of the shared one, with lines that are wrong."""
    base = source.parent / "shared" / "base.yaml"
    text = f"!include:{source}\nsystem: fuzz\n"
    whole = bool(draw.integers(0, 2))
    if whole:
        text = base.read_text(encoding="utf-8")
    lines = text.splitlines()
    # Lines that are left alone keep the training small and at home.
    free = [i for i, line in enumerate(lines) if line.split(":")[0].strip() not in LEFT_OUT]
    for _ in range(int(draw.integers(1, 4))):
        at = int(draw.choice(free))
        match int(draw.integers(0, 6)):
            case 0:
                lines[at] = lines[at].split(":")[0] + ": " + str(draw.choice(VALUES))
            case 1:
                lines[at] = ""
            case 2:
                lines[at] = " " * int(draw.integers(1, 6)) + lines[at]
            case 3:
                lines[at] += str(draw.choice([":", " '", " [", " <", "\t", " !new:"]))
            case 4:
                lines[at] = lines[at] + "\n" + lines[at]
            case 5:
                lines[at] = lines[at].replace("!", "!!").replace("<", "<x")
    content = "\n".join(lines).encode("utf-8") + b"\n"
    if draw.integers(0, 10) == 0:
        content = damaged(content, draw)
    if not whole:
        path = folder / "fuzz.yaml"
        path.write_bytes(content)
        return path
    # The files that build on the shared one, beside the changed copy of it.
    shutil.copytree(source.parent, folder / "hparams", symlinks=True)
    (folder / "hparams" / "shared" / "base.yaml").write_bytes(content)
    return folder / "hparams" / source.name


class Kind(NamedTuple):
    """What tries an input, and its share of all."""

    attempt: Callable[[Place, int, Random], str]
    weight: int
    group: int  # inputs of an attempt


KINDS = {
    "audio": Kind(audio, 4, GROUP),
    "lists": Kind(lists, 4, 1),
    "settings": Kind(settings, 1, 1),
}


def attempts(
    place: Place, seed: int, kind: str, numbers: Sequence[int]
) -> Iterator[tuple[int, str, str]]:
    """Try inputs; each attempt's number, its end (``well``, ``told``, ``fault``), the words."""
    for number in numbers:
        draw = np.random.default_rng([seed, [*KINDS].index(kind), number])
        try:
            told = KINDS[kind].attempt(place, number, draw)
            yield number, "told" if told else "well", told
        except Fault as fault:
            yield number, "fault", str(fault)


def main() -> int:
    """Try all inputs; 1 when there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="from which all inputs follow")
    parser.add_argument("--count", type=int, default=900, help="inputs in all, files each")
    parser.add_argument("--kind", choices=KINDS, help="only these")
    parser.add_argument("--only", type=int, help="the number of one attempt of --kind")
    parser.add_argument("--table", type=Path, help="a CSV file for every attempt's end")
    options = parser.parse_args()
    # A network of a billion channels is refused here by the allocator, and not by the system, which
    # would end this process or another.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    kinds = [options.kind] if options.kind else [*KINDS]
    total = sum(KINDS[kind].weight for kind in kinds)
    rows: list[tuple[str, int, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="fuzz_") as work:
        place = make_place(Path(work))
        for kind in kinds:
            share = options.count * KINDS[kind].weight // total
            numbers = range(-(-share // KINDS[kind].group))
            if options.only is not None:
                numbers = range(options.only, options.only + 1)
            ends: Counter[str] = Counter()
            for number, end, words in attempts(place, options.seed, kind, numbers):
                ends[end] += 1
                rows.append((kind, number, end, words))
                if end == "fault" or options.only is not None:
                    print(f"--seed {options.seed} --kind {kind} --only {number}: {end}\n{words}")
            inputs = len(numbers) * KINDS[kind].group
            counts = ", ".join(f"{ends[end]} {end}" for end in ("well", "told", "fault"))
            print(f"{kind}: {inputs} inputs in {len(numbers)} attempts: {counts}", flush=True)
    if options.table:
        with open(options.table, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("kind", "number", "end", "words"), *rows])
    return int(any(end == "fault" for _, _, end, _ in rows))


if __name__ == "__main__":
    with friendly_exit():
        sys.exit(main())
