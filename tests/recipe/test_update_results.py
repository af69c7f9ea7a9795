"""The generated blocks of docs/results.md and README.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.refusals import refused
from tools import update_results

RESULTS_MD = """\
# Results

Trials: dev. Corpus: mine

| System | EER % |
| --- | ---: |
| teacher | 2.00 |

- A note, with a [page](https://example.org).
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(update_results, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    for page in ("README.md", "docs/results.md"):
        (tmp_path / page).write_text(
            "Before.\n\n<!-- results: mine -->\nold\n<!-- end -->\n\nAfter.\n"
        )
    return tmp_path


def experiment(root: Path, system: str) -> Path:
    folder = root / "recipe" / "exp" / "mine" / system / "seed_1"
    folder.mkdir(parents=True)
    epochs = [{"epoch": n, "valid": {"eer": 10.0 / n}} for n in (1, 2)]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in epochs))
    (folder / "RESULTS.md").write_text(RESULTS_MD)
    (folder / "hyperparams.yaml").write_text("teacher_folder: exp/mine/teacher/seed_1\n")
    return folder


def test_an_experiment_fills_both_pages(root: Path) -> None:
    experiment(root, "teacher")
    update_results.main([f"mine={experiment(root, 'v2')}"])
    page = (root / "docs/results.md").read_text()
    assert page.startswith("Before.\n\n<!-- results: mine -->\n\nTrials: dev.")
    assert page.endswith("(mine_curve.svg)\n\n<!-- end -->\n\nAfter.\n")
    assert "| student | 10.0 | 5.0 |" in page and "[page](https://example.org)" in page
    readme = (root / "README.md").read_text()
    assert "| teacher | 2.00 |" in readme and "A note" not in readme
    assert "(docs/mine_curve.svg)" in readme and (root / "docs/mine_curve.svg").is_file()


def test_of_a_students_files_the_readme_has_the_table(root: Path) -> None:
    experiment(root, "teacher")
    student = experiment(root, "v6")
    table = (
        "In engines, one thread:\n\n| System | MB |\n| --- | ---: |\n| v6 | 9.9 |\n| v6 | 2.7 |\n"
    )
    (root / "README.md").write_text("<!-- results: mine of v6 -->\n<!-- end -->\n")
    calibrated = "Calibration and thresholds are fitted:\n\n"
    calibrated += "| System | Cllr |\n| --- | ---: |\n| v6 | 0.2 |\n"
    (student / "RESULTS.md").write_text(f"{RESULTS_MD}\n{calibrated}\n{table}\nEER: the rate.\n")
    update_results.main([f"mine={student}"])
    page, readme = ((root / each).read_text() for each in ("docs/results.md", "README.md"))
    assert "| teacher | 2.00 |" in page and "In engines, one thread:\n\n| System" in page
    assert "are fitted:\n\n| System | Cllr |\n| --- | ---: |\n| v6 | 0.2 |" in page
    assert "| v6 | 9.9 |\n| v6 | 2.7 |" in readme and "| teacher | 2.00 |" not in readme


def test_a_name_that_no_page_has_is_one_sentence(root: Path) -> None:
    experiment(root, "teacher")
    with refused("missing-key", "'<!-- results: other -->'"):
        update_results.main([f"other={experiment(root, 'v2')}"])


def test_committed_results_can_be_read_again(root: Path) -> None:
    """The folder that they were copied into is left as it is."""
    folder = root / update_results.RESULTS / "corpus" / "mine"
    folder.mkdir(parents=True)
    (folder / "results.csv").touch()
    (folder / "plot.png").touch()
    (folder / "RESULTS.md").write_text(
        "# Title\n\n## Systems: mine\n\n"
        "| System | Seeds | EER % | 95 % (speakers) |\n| --- | ---: | ---: | ---: |\n"
        "| v2 | 1 | 3.00 | 2.00 to 4.00 |\n"
    )
    update_results.main([f"mine={folder}"])
    assert sorted(p.name for p in folder.iterdir()) == ["RESULTS.md", "plot.png", "results.csv"]
    page = (root / "docs/results.md").read_text()
    assert f"(../{update_results.RESULTS}/corpus/mine/plot.png)" in page
    assert f"({update_results.RESULTS}/corpus/mine/plot.png)" in (root / "README.md").read_text()


LIST = """\
## Systems: {0}

| System | Seeds | Parameters | EER % | 95 % (speakers) | Share of KD |
| --- | ---: | ---: | ---: | ---: | ---: |
| teacher | 1 | 9 | {1} | 1.00 to 3.00 | – |
| v2 | 2 | 3 | {2} ± 0.1 | 2.00 to 6.00 | 30 % |
| v3 | 0 | – | not run | – | – |

### Against v2

| System | Seeds | EER − v2's |
| --- | ---: | ---: |
| teacher | 1 | −1 |

"""


def test_several_lists_stand_side_by_side_in_the_readme(root: Path) -> None:
    folder = root / "exp" / "corpus" / "mine"
    folder.mkdir(parents=True)
    (folder / "results.csv").touch()
    (folder / "RESULTS.md").write_text(
        "# Title\n\n" + LIST.format("near", "1.50", "2.50") + LIST.format("far", "2.25", "4.25")
    )
    update_results.main([f"mine={folder}"])
    readme = (root / "README.md").read_text()
    assert "| System | Parameters | EER % on near [95 %] | EER % on far [95 %] |" in readme
    assert "| teacher | 9 | 1.50 [1.00, 3.00] | 2.25 [1.00, 3.00] |" in readme
    assert "| v2 | 3 | 2.50 ± 0.1 [2.00, 6.00] | 4.25 ± 0.1 [2.00, 6.00] |" in readme
    assert "| v3 | – | not run | not run |" in readme
    page = (root / "docs/results.md").read_text()
    near, far = page.index("on near:"), page.index("on far:")
    assert near < page.index("| v2 | 2 | 3 | 2.50 ± 0.1") < far < page.index("4.25 ± 0.1")
    assert "Against" not in page


def test_a_page_chooses_the_systems_of_its_table(root: Path) -> None:
    folder = root / "exp" / "corpus" / "mine"
    folder.mkdir(parents=True)
    (folder / "results.csv").touch()
    (folder / "RESULTS.md").write_text("# Title\n\n" + LIST.format("near", "1.50", "2.50"))
    readme = root / "README.md"
    mark = "<!-- results: mine of v3, teacher -->"
    readme.write_text(readme.read_text().replace("<!-- results: mine -->", mark))
    for _ in range(2):  # the second time over what the first has written
        update_results.main([f"mine={folder}"])
        rows = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
        assert [row.split()[1] for row in rows] == ["System", "---", "v3", "teacher"]
        assert readme.read_text().startswith(f"Before.\n\n{mark}\n\n| System")
    readme.write_text(readme.read_text().replace("of v3,", "of v4,"))
    with refused("unknown-name", "README.md", "'v4'", "teacher, v2, v3"):
        update_results.main([f"mine={folder}"])
