"""Put the results of experiments into docs/results.md and README.md.

    python -m tools.update_results mini=EXPERIMENT documents=COMPARISON gpu=FOLDER

NAME=FOLDER replaces what stands between ``<!-- results: NAME -->`` and ``<!-- end -->``, in each of
the two pages that has this block; docs/results.md gets all of it, README.md a table and a picture.
``<!-- results: NAME of SYSTEM, SYSTEM -->`` has in that table these systems alone, in this order.

- From an experiment of a student come the tables of its RESULTS.md and, by epoch, the valid EER of
  teacher and student, or what selected the student's epoch; docs/NAME_curve.svg draws it, too.
  README.md has the table of its files in other engines, where it has one.
- From a folder of compare.py come the systems with several seeds (all, where a list has none), the
  tables of cost by length and the claims that are decided. Its RESULTS.md, CSV files and plots are
  copied into the recipe's results/CORPUS/NAME, and that folder can be named as well. README.md has
  the EERs on several lists side by side.
- From a folder of gpu_check.py come its speeds and its verdicts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from speechbrain_ext.compare.page import NONE
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import atomic_path
from speechbrain_ext.systems.experiment import read_setting
from speechbrain_ext.systems.train_log import EER, read_train_log, selecting_figure
from speechbrain_ext.systems.train_log import Figure as Selecting

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("recipes/VoxCeleb/distill_mixer/results")
# What the first headings of the tables of cost by length say.
LENGTHS = ("Milliseconds an utterance", "GMACs an utterance")
COLOURS = {"teacher": "#8a6d1d", "student": "#1d6d8a"}
# The pages that have blocks, and the folder that the links of each are relative to.
README, PAGE = Path("README.md"), Path("docs/results.md")


class Block(NamedTuple):
    """What a folder of results gives to the pages; links are relative to the repository."""

    parts: list[str]  # paragraphs, tables and pictures of docs/results.md
    table: list[list[str]]  # the cells of README.md's table
    pictures: list[str] = []  # what follows it


def draw(curves: dict[str, dict[int, float]], selecting: Selecting, path: Path) -> None:
    """Draw a figure of validation of teacher and student by epoch."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for role, values in curves.items():
        axes.plot(list(values), list(values.values()), color=COLOURS[role], label=role, marker=".")
    unit = selecting.unit and f",{selecting.unit}"
    axes.set(xlabel="epoch", ylabel=f"valid {selecting.words}{unit}", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False)
    stable = {"svg.hashsalt": "readme", "svg.fonttype": "none"}  # the same bytes for the same data
    with atomic_path(path) as temporary, matplotlib.rc_context(stable):
        figure.savefig(temporary, format="svg", metadata={"Date": None}, facecolor="white")


def experiment_block(name: str, experiment: Path) -> Block:
    """The table and the curve of an experiment."""
    results = (experiment / "RESULTS.md").read_text(encoding="utf-8")
    title, table, notes, *more = results.split("\n\n")[1:]
    calibration = _part(more, "Calibration and thresholds")
    # That of the student's files, where stage 5 could write them.
    engines = _part(more, "In engines")
    folders = {"student": experiment}
    if teacher := read_setting(experiment, "teacher_folder"):  # else it is taken as it is
        # Paths of a hyperparams.yaml are relative to the recipe's folder.
        folders = {"teacher": experiment.resolve().parents[3] / teacher, **folders}
    logs = {
        role: read_train_log(folder / "train_log.jsonl", "the training")
        for role, folder in folders.items()
        if role == "student" or (folder / "train_log.jsonl").is_file()  # not of an imported teacher
    }
    selecting = selecting_figure(logs["student"]) or EER
    curves = {
        role: {e["epoch"]: e["valid"][selecting.key] for e in log if selecting.key in e["valid"]}
        for role, log in logs.items()
    }
    curves = {role: values for role, values in curves.items() if values}
    draw(curves, selecting, ROOT / "docs" / f"{name}_curve.svg")
    longest = max(map(max, curves.values()))
    step = -(-longest // 12)
    shown = [n for n in range(1, longest + 1) if n == 1 or n % step == 0]
    rows = []
    form = ".3f" if selecting.highest else ".1f"
    for role, values in curves.items():
        rows.append([role] + [f"{values[n]:{form}}" if n in values else "–" for n in shown])
    header = [f"valid {selecting.words}{selecting.unit}, epoch", *map(str, shown)]
    lines = _markdown([header, ["---"] * len(header), *rows])
    picture = f"![Valid {selecting.words} by epoch](docs/{name}_curve.svg)"
    parts = [title, table, notes, *calibration, *engines, lines, picture]
    if engines:
        return Block(parts, _tables(engines[1])[0])
    return Block(parts, _tables(table)[0], [picture])


def _part(paragraphs: list[str], start: str) -> list[str]:
    """The paragraph that begins so, and the table after it; nothing where there is none."""
    places = (n for n, paragraph in enumerate(paragraphs) if paragraph.startswith(start))
    return next((paragraphs[n : n + 2] for n in places), [])


def comparison_block(folder: Path) -> Block:
    """What a folder of compare.py decides; its page, CSV files and plots are copied."""
    here = RESULTS / folder.resolve().parent.name / folder.name
    if folder.resolve() != (ROOT / here).resolve():
        shutil.rmtree(ROOT / here, ignore_errors=True)
        (ROOT / here).mkdir(parents=True)
        for path in [folder / "RESULTS.md", *folder.glob("*.csv"), *folder.glob("*.png")]:
            shutil.copy(path, ROOT / here)
    text = (folder / "RESULTS.md").read_text(encoding="utf-8")
    tables = _tables(text)
    lists = _systems_by_list(text)
    by_length = [table for table in tables if table[0][0] in LENGTHS]
    of_claims = [table for table in tables if table[0][0] == "Claim"]
    claims = [row for table in of_claims for row in table[2:]]
    decided = [row for row in claims if "not decided" not in row[-1]]
    page = f"[RESULTS.md]({here}/RESULTS.md)"
    parts = []
    # The same kind of systems on every list.
    least = 2 if all(any(int(row[1]) > 1 for row in rows[2:]) for rows in lists.values()) else 1
    which = "Systems that were trained with several seeds" if least > 1 else "Systems"
    for title, (head, rule, *rows) in lists.items():
        shown = [row for row in rows if int(row[1]) >= least]
        parts += [f"{which}, on {title}:", _markdown([head, rule, *shown])]
    if by_length:
        parts += ["Cost of one utterance by its length:", *map(_markdown, by_length)]
    if claims:
        count = f"{len(decided)} are decided:" if decided else "none is decided."
        parts += [f"Of {len(claims)} claims {count}"]
        parts += [_markdown([*of_claims[0][:2], *decided])] if decided else []
    plots = [f"![{path.stem}]({here}/{path.name})" for path in sorted(folder.glob("*.png"))]
    more = f"{page} has the others, every system, and how it was measured."
    return Block([*parts, more, *plots], _side_by_side(lists), plots[-1:])


def _systems_by_list(text: str) -> dict[str, list[list[str]]]:
    """The main table of each test list, by the title of the list."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        title = re.match(r"Systems: (.*)\n", section)
        if title:
            found[title[1]] = _tables(section)[0]
    return found


def _side_by_side(lists: dict[str, list[list[str]]]) -> list[list[str]]:
    """A table of all systems: size and speed, which are the same on every list, and their EERs."""
    first = next(iter(lists.values()))
    error_rate = first[0].index("EER %")
    joined = []
    for number, line in enumerate(first):
        cells = [line[0], *line[2:error_rate]]
        for title, table in lists.items():
            eer, interval = table[number][error_rate : error_rate + 2]
            if number == 0:
                cells.append(f"EER % on {title} [95 %]")
            elif number == 1 or interval == NONE:
                cells.append(eer)
            else:
                cells.append(f"{eer} [{interval.replace(' to ', ', ')}]")
        joined.append(cells)
    return joined


def gpu_block(folder: Path) -> Block:
    """Speed and verdicts of a GPU check."""
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    machine, parts = figures["machine"], figures["parts"]
    steps = [["training step, crops of 2 s", "V2, crops/s", "published", "V2, share of the peak"]]
    steps += [["---", "---:", "---:", "---:"]]
    for name, systems in parts["training"].items():
        if isinstance(systems, dict) and "published" in systems:
            v2, published = (systems[s]["crops_a_second"] for s in ("v2", "published"))
            share = f"{systems['v2']['share_of_peak']:.0%}"
            steps.append([name, f"{v2:,.0f}", f"{published:,.0f}", share])
    speeds = {k: v for k, v in parts["embedding"].items() if isinstance(v, dict)}
    systems = list(next(iter(speeds.values())))
    rates = [["embedding, utterances/s", *systems], ["---"] + ["---:"] * len(systems)]
    for name, found in speeds.items():
        rates.append([name, *(f"{found[s]['utterances_per_second']:,.0f}" for s in systems)])
    checks = [
        (f"{part}, {name}", value["good"])
        for part, found in parts.items()
        for name, value in found.items()
        if isinstance(value, dict) and "good" in value
    ]
    bad = [name for name, good in checks if not good]
    verdict = f"{len(checks) - len(bad)} of {len(checks)} checks hold"
    verdict += f", not: {'; '.join(bad)}." if bad else "."
    page = f"[RESULTS.md]({RESULTS}/gpu/RESULTS.md)"
    measured = f"{machine['device']}, PyTorch {machine['PyTorch']}, {machine['date']}"
    told = f"{measured}: {verdict} {page} has all figures."
    parts = [told, _markdown(steps), _markdown(rates)]
    return Block(parts, steps)


def _tables(text: str) -> list[list[list[str]]]:
    """The cells of every table of a Markdown text."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    return [[re.split(r" (?<!\\\\)\| ", line[2:-2]) for line in block] for block in blocks]


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def read_block(name: str, folder: Path) -> Block:
    """The block that a folder of results gives; what kind of folder it is its files tell."""
    if (folder / "figures.json").is_file():
        return gpu_block(folder)
    if (folder / "results.csv").is_file():
        return comparison_block(folder)
    return experiment_block(name, folder)


def replace_block(page: Path, name: str, block: Block) -> bool:
    """Fill a page's block of this name; False where the page has none."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    mark = re.search(rf"<!-- results: {re.escape(name)}(?: of (.*?))? -->\n", text)
    if mark is None:
        return False
    parts = block.parts
    if page == README:
        table = _chosen(block.table, mark[1].split(", "), page) if mark[1] else block.table
        parts = [_markdown(table), *block.pictures]
    made = re.sub(
        r"\]\((?!\w+:)(.*?)\)",  # the links of the repository's files
        lambda link: f"]({os.path.relpath(link[1], page.parent).replace(os.sep, '/')})",
        "\n\n".join(parts),
    )
    end = text.index("<!-- end -->", mark.end())
    with atomic_path(path) as temporary:
        temporary.write_text(f"{text[: mark.end()]}\n{made}\n\n{text[end:]}", encoding="utf-8")
    return True


def _chosen(table: list[list[str]], systems: list[str], page: Path) -> list[list[str]]:
    """The lines of these systems, of which each may have several."""
    lines: dict[str, list[list[str]]] = {}
    for line in table[2:]:
        lines.setdefault(line[0], []).append(line)
    for system in systems:
        if system not in lines:
            raise UserError(
                f"{page}: there is no system {system!r} in the results; there are "
                f"{', '.join(lines)}",
                code="unknown-name",
            )
    return [*table[:2], *(line for system in systems for line in lines[system])]


def main(arguments: list[str]) -> None:
    """Rewrite the named blocks of both pages."""
    for argument in arguments:
        name, _, folder = argument.partition("=")
        block = read_block(name, Path(folder))
        if not any([replace_block(page, name, block) for page in (README, PAGE)]):
            mark = f"<!-- results: {name} -->"
            raise UserError(
                f"neither {PAGE} nor {README} has a block '{mark}': add it first",
                code="missing-key",
            )


if __name__ == "__main__":
    with friendly_exit():
        main(sys.argv[1:])
