"""What the pages name is there: links, files, systems, modules. The README stays on one page."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.corpora.maker import make_corpus
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "VoxCeleb" / "distill_mixer"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
# What a reader is to write: `mine` and the like in docs/extending.md.
OF_THE_READER = re.compile(r"\b(mine|my_\w+|meetings|NAME)\b")

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


@page_by_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")
    ):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, anchor


@page_by_page
def test_files_and_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"python (\w+\.py)", text):
        assert name == "train_speaker_embeddings.py" or (RECIPE / name).exists(), name
    for name in re.findall(r"\b(?:hparams/[\w/]+\.yaml|local/\w+\.py)", text):
        assert OF_THE_READER.search(name) or (RECIPE / name).exists(), name
    for name in re.findall(r"\b(?:speechbrain_ext|tests|tools)/[\w/]+\.(?:py|sh)", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\b(?:speechbrain_ext|tools)(?:\.\w+)+", text):
        assert OF_THE_READER.search(name) or _is_there(name.split(".")), name


def _is_there(parts: list[str]) -> bool:
    """Whether a dotted name is a module, or a name at the top of one."""
    folder = ROOT.joinpath(*parts)
    if folder.is_dir() or folder.with_suffix(".py").exists():
        return True
    module = ROOT.joinpath(*parts[:-1])
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    if not file.exists():
        return False
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return any(getattr(node, "name", None) == parts[-1] for node in body)


def test_each_system_is_told_of() -> None:
    table = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8").split("| YAML |")[1]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    there = {path.stem for path in (RECIPE / "hparams").glob("*.yaml")} - {"manifests"}
    assert named == there


def test_choices_of_the_self_supervised_path_are_told_of() -> None:
    text = (ROOT / "docs" / "self-supervised.md").read_text(encoding="utf-8")
    folder = RECIPE / "hparams" / "ssl"
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.yaml")}
    assert set(re.findall(r"\b(?:teachers|back_ends|losses)/\w+\.yaml", text)) == there


def _places() -> set[str]:
    """Every place of a document that docs/sources.md tells of, as it is cited."""
    text = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    places = set(re.findall(r"Cited as \*(.+?)\*", text))
    for number, rows in re.findall(r"\| cited as \| what (\w+) says.*\n.*\n((?:\|.*\n)+)", text):
        for cell in re.findall(r"^\| (.+?) \|", rows, re.MULTILINE):
            for place in cell.split("; "):
                place = place if number == "it" else f"{number}, {place}"
                several = re.fullmatch(r"(.+? )((?:\w, )+\w)", place)  # Questions 2, 3
                places |= (
                    {several[1] + one for one in several[2].split(", ")} if several else {place}
                )
    return places


def _cited(text: str) -> tuple[list[str], str]:
    """The places that a text cites, and the text without them."""
    of_claim = re.compile(r"^ *source: ((?:00|arXiv).*)$", re.MULTILINE)
    lines = of_claim.findall(text)
    text = re.sub(r"\s*\n *#? *", " ", of_claim.sub("", text))
    form = r"docs/sources\.md: ([^)]+)\)|\*\(((?:00|arXiv)[^)]+)\)\*"
    cited = []
    for citation in [*lines, *("".join(found) for found in re.findall(form, text))]:
        number = ""
        for place in citation.split("; "):
            found = re.fullmatch(r"(00\d|arXiv [\d.]+), (.+)", place)
            number, place = found.groups() if found else (number, place)
            cited.append(f"{number}, {place}")
    return cited, re.sub(form, "", text)


def test_what_is_cited_stands_among_the_sources() -> None:
    """Each citation has a document and a place in it, which docs/sources.md has, too."""
    places = _places()
    assert {"001, Approach P4C", "002, Model compression", "003, Open questions 3"} <= places
    files = [page for page in PAGES if page.name != "sources.md"]
    files += [*(ROOT / "speechbrain_ext").rglob("*.py"), *(RECIPE / "hparams").rglob("*.yaml")]
    count = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        cited, rest = _cited(text)
        assert set(cited) <= places, file
        assert not re.findall(r"\b00[0-4], [A-Z]|\bP[1-4][ABC]?\b", rest), file
        if file.suffix == ".yaml" and (cited or "ocuments" in rest):
            assert "docs/sources.md" in text, file
        count += len(cited)
    assert count > 80


def test_the_readme_is_one_page() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    prose = [line for line in lines if not line.startswith(("|", "!["))]
    assert max(map(len, prose)) <= 120


def _examples() -> dict[str, Any]:
    """What the Python of docs/extending.md defines."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    return names


def test_the_example_of_a_loss_and_of_a_term() -> None:
    names = _examples()
    assert names["MyDistillation"]()(torch.eye(3), torch.eye(3)) == 0
    frames = torch.rand(2, 7, 5)
    student = StudentOutput(torch.zeros(2, 3), {"block6": 2 * frames}, frames)
    teacher = TeacherOutput(torch.zeros(2, 3), {"lstm2": frames})
    assert names["MyTerm"]("block6", "lstm2")(student, teacher) < 1e-6


def test_the_example_of_a_corpus(tmp_path: Path) -> None:
    """Two parts and a list become a corpus folder."""
    source, out = tmp_path / "source", tmp_path / "meetings"
    for part in ("dev", "test"):
        (source / part / "anna").mkdir(parents=True)
        soundfile.write(source / part / "anna" / "1.wav", 0.1 * np.random.randn(16000), 16000)
    (source / "trials").mkdir()
    (source / "trials" / "test.txt").write_text("1 anna/1 anna/1\n")
    make_corpus(_examples()["CORPUS"], ["--out", str(out), "--meetings", str(source)])
    assert {"corpus.json", "dev", "test", "trials"} <= {path.name for path in out.iterdir()}
    assert (out / "dev" / "anna" / "1.wav").exists()
