#!/usr/bin/env python3
"""Put the results of experiments into README.md, from the files that the recipe wrote.

    python tools/update_readme.py mini=EXP libri_mini=EXP

Each NAME=EXP replaces what stands between ``<!-- results: NAME -->`` and ``<!-- end -->`` by the
table of EXP/RESULTS.md and the valid EER of teacher and student by epoch, which it also draws into
docs/NAME_curve.svg.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402

from speechbrain_ext.errors import UserError, friendly_exit  # noqa: E402
from speechbrain_ext.files import atomic_path  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {"teacher": "#8a6d1d", "student": "#1d6d8a"}
matplotlib.rcParams.update({"svg.hashsalt": "readme", "svg.fonttype": "none"})


def read_log(experiment: Path) -> tuple[list[int], list[float]]:
    """Epochs and valid EER in percent of an experiment."""
    lines = (experiment / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [json.loads(line) for line in lines]
    return [e["epoch"] for e in epochs], [e["valid"]["eer"] for e in epochs]


def draw(curves: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    """Draw the valid EER of teacher and student by epoch."""
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for role, (epochs, eers) in curves.items():
        axes.plot(epochs, eers, color=COLOURS[role], label=role, marker=".", linewidth=1.5)
    axes.set(xlabel="epoch", ylabel="valid EER, %", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None}, facecolor="white")


def block(name: str, experiment: Path) -> str:
    """The table and the curve of an experiment, as Markdown."""
    results = (experiment / "RESULTS.md").read_text(encoding="utf-8")
    title, table, notes = results.split("\n\n")[1:4]
    settings = YAML().load((experiment / "hyperparams.yaml").read_text(encoding="utf-8"))
    # Paths of a hyperparams.yaml are relative to the recipe's folder.
    recipe = experiment.resolve().parents[3]
    folders = {"teacher": recipe / settings["teacher_folder"], "student": experiment}
    curves = {role: read_log(folder) for role, folder in folders.items()}
    draw(curves, ROOT / "docs" / f"{name}_curve.svg")
    longest = max(len(epochs) for epochs, _ in curves.values())
    step = -(-longest // 12)
    shown = [n for n in range(1, longest + 1) if n == 1 or n % step == 0]
    rows = []
    for role, curve in curves.items():
        eers = dict(zip(*curve, strict=True))
        rows.append([role] + [f"{eers[n]:.1f}" if n in eers else "–" for n in shown])
    header = ["valid EER %, epoch", *map(str, shown)]
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    picture = f"![Valid EER by epoch](docs/{name}_curve.svg)"
    return "\n\n".join([title, table, notes, "\n".join(lines), picture])


def main() -> None:
    """Rewrite the named blocks of README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for argument in sys.argv[1:]:
        name, _, experiment = argument.partition("=")
        mark = f"<!-- results: {name} -->\n"
        before, found, after = text.partition(mark)
        if not found:
            raise UserError(f"{readme} has no block '{mark.strip()}': add it first")
        end = after[after.index("<!-- end -->") :]
        text = f"{before}{mark}\n{block(name, Path(experiment))}\n\n{end}"
    with atomic_path(readme) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with friendly_exit():
        main()
