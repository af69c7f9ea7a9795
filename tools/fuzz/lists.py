"""Trial lists and manifests that are wrong, through the commands that read them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.recipe.tiny import TEACHER
from tools.fuzz.command import Prepared, run
from tools.fuzz.damage import Random, damaged

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


def lists(prepared: Prepared, number: int, draw: Random) -> str:
    """A trial list or a manifest through a command that reads it."""
    folder = Path(tempfile.mkdtemp(dir=prepared.work))
    manifests = prepared.corpus / "manifests"
    try:
        match number % 4:
            case 0:
                write_list(folder / "list.txt", manifests / "trials" / "valid.txt", draw)
                line = [prepared.student, "--out", folder / "out", "--num_workers", 0]
                line += ["--trials", prepared.corpus / "valid", folder / "list.txt"]
                return run("evaluate.py", *line)
            case 1:
                write_list(folder / "list.txt", manifests / "trials" / "valid.txt", draw)
                write_list(folder / "exclude.txt", manifests / "trials" / "valid.txt", draw)
                line = ["hparams/manifests.yaml", "--corpus_dir", folder, "--jobs", 1]
                line += ["--train", prepared.corpus / "train", "--valid_speakers", 2]
                line += [
                    "--trials",
                    folder / "list.txt",
                    "--trials_root",
                    prepared.corpus / "valid",
                ]
                if draw.integers(0, 2):
                    line += ["--exclude_speakers", folder / "exclude.txt"]
                return run("local/prepare_manifests.py", *line)
            case 2:
                shutil.copytree(manifests, folder / "manifests")
                write_list(folder / "manifests" / "valid.csv", manifests / "valid.csv", draw)
                line = [prepared.student, "--manifests", folder / "manifests", "--sets", "valid"]
                return run("extract.py", *line)
            case _:
                shutil.copytree(manifests, folder / "manifests")
                write_list(folder / "manifests" / "train.csv", manifests / "train.csv", draw)
                line = [*TEACHER, "--corpus_dir", folder, "--number_of_epochs", 1]
                return run("train_teacher.py", *line, "--output_folder", folder / "exp")
    finally:
        shutil.rmtree(folder)
