"""YAML files and overrides that are wrong, through a training of one epoch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

from speechbrain_ext.systems.yaml import resolve_hparams
from tests.recipe.tiny import STUDENT, TEACHER
from tools.fuzz.command import RECIPE, Prepared, run
from tools.fuzz.damage import Random, damaged

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


def settings(prepared: Prepared, number: int, draw: Random) -> str:
    """A YAML file or overrides through a training of one epoch."""
    folder = Path(tempfile.mkdtemp(dir=prepared.work))
    student = bool(number % 2)
    line = [*(STUDENT if student else TEACHER)]
    yaml = RECIPE / str(line[0])
    try:
        if draw.integers(0, 2):
            line[0] = str(write_yaml(folder, yaml, draw))
        line += ["--corpus_dir", str(prepared.corpus), "--output_folder", str(folder / "exp")]
        line += ["--number_of_epochs", "1"]
        if student:
            line += ["--teacher_folder", str(prepared.teacher), "--lin_neurons", "8"]
        keys = sorted(keys_of(yaml) - LEFT_OUT)
        for _ in range(int(draw.integers(0, 3))):
            key = str(draw.choice([*keys, "no_such_key", "lrr", "a.b", "-"]))
            line += [f"--{key}"] + [str(draw.choice(VALUES))] * bool(draw.integers(0, 8))
        return run("train_distill.py" if student else "train_teacher.py", *line)
    finally:
        shutil.rmtree(folder)


def keys_of(yaml: Path) -> set[str]:
    """Keys of a file and of those that it builds on."""
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
