"""Systems that differ from their parent by what sets them apart."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

import pytest
import ruamel.yaml
import torch

from speechbrain_ext.distill.losses import CosineDistillation, KLDistillation, MSEDistillation
from speechbrain_ext.measure.speed import count_macs
from speechbrain_ext.systems.command_line import check_keys, read_command_line
from speechbrain_ext.systems.experiment import encoder_yaml, read_setting, save_weights
from speechbrain_ext.systems.settings import ANYTHING, RULES
from speechbrain_ext.systems.yaml import (
    load_hparams,
    resolve_hparams,
)
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.identity import claim_experiment
from speechbrain_ext.training.teacher import TeacherBrain
from tests.processes import ROOT
from tests.recipe.tiny import RECIPE, make_corpus
from tests.refusals import refused

MIXER = {"v1": 2_664_576, "v2": 2_664_576, "v2_kl": 2_664_576}
MIXER |= {"v2_large": 7_844_864, "v2_large_low_alpha": 7_844_864}
SYSTEMS = [*(RECIPE / "hparams").glob("*.yaml"), *(RECIPE / "hparams").glob("ssl/*.yaml")]
SYSTEMS = sorted(path for path in SYSTEMS if path.stem != "manifests")
LOSSES = {
    "v1": (MSEDistillation, 0.5),
    "v2": (CosineDistillation, 0.7),
    "v2_kl": (KLDistillation, 0.7),
}
LOSSES |= {"v2_large": (CosineDistillation, 0.7), "v2_large_low_alpha": (CosineDistillation, 0.4)}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SpeechBrain's checkpointer makes its folder when it is made."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpora") / "little")


@pytest.fixture(scope="module")
def teacher(corpus: Path) -> Path:
    overrides = {"corpus_dir": f"{corpus}", "output_folder": f"{corpus}/teacher"}
    hparams, text = load_hparams(RECIPE / "hparams" / "teacher.yaml", overrides)
    model = hparams["embedding_model"]
    assert sum(p.numel() for p in model.parameters()) == 3_873_745
    save_weights(corpus / "teacher", model, {})
    (corpus / "teacher" / "hyperparams.yaml").write_text(text)
    return corpus / "teacher"


@pytest.mark.parametrize("system", MIXER)
def test_each_system_is_what_the_documents_tabulate(
    system: str, corpus: Path, teacher: Path
) -> None:
    overrides = {"corpus_dir": f"{corpus}", "teacher_folder": f"{teacher}"}
    hparams, _ = load_hparams(RECIPE / "hparams" / f"{system}.yaml", overrides)
    assert hparams["system"] == system
    assert hparams["output_folder"] == f"exp/little/{system}/seed_1"
    assert sum(p.numel() for p in hparams["embedding_model"].parameters()) == MIXER[system]
    loss, alpha = LOSSES[system]
    objective = hparams["objective"]
    assert type(objective.distillation) is loss and objective.alpha.value == alpha
    assert getattr(hparams["distillation"], "temperature", 4.0) == 4.0
    assert hparams["num_speakers"] == 6 and hparams["classifier"].weight.shape == (6, 512)
    assert hparams["embedding_model"] is hparams["modules"]["embedding_model"]


def test_sizes_and_operations_are_those_of_the_pages_table(corpus: Path, teacher: Path) -> None:
    text = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    form = r"^\| `(\w+)` \|[ \d]*\|[ \d×]*\| ([\d,]+) \| ([\d.]+) \|"
    rows = re.findall(form, text, re.MULTILINE)
    assert len(rows) == 8
    for system, parameters, millions in rows:
        overrides = {"corpus_dir": f"{corpus}"}
        if system != "teacher":
            overrides |= {"teacher_folder": f"{teacher}"}
        hparams, _ = load_hparams(RECIPE / "hparams" / f"{system}.yaml", overrides)
        network = hparams["embedding_model"].eval()
        counted = sum(parameter.numel() for parameter in network.parameters())
        operations = count_macs(network, torch.randn(1, 1000, 80)) / 1e7  # of 10 s
        assert (f"{counted:,}", f"{operations:.1f}") == (parameters, millions), system


def test_learning_rate_falls_from_the_first_epoch_on(corpus: Path) -> None:
    hparams, _ = load_hparams(RECIPE / "hparams" / "teacher.yaml", {"corpus_dir": f"{corpus}"})
    steps = [hparams["lr_annealing"](epoch) for epoch in (1, 2)]
    assert steps == [
        (pytest.approx(5e-4), pytest.approx(4.9e-4)),
        (pytest.approx(4.9e-4), pytest.approx(4.802e-4)),
    ]


def test_a_number_of_steps_is_a_number() -> None:
    line = read_command_line(["v2.yaml", "--optimizer_step_limit", "3"])
    assert line.run_options["optimizer_step_limit"] == 3
    with refused("bad-command", "--optimizer_step_limit", "'few'"):
        read_command_line(["v2.yaml", "--optimizer_step_limit", "few"])


def test_the_last_of_two_overrides_counts() -> None:
    line = read_command_line(["x.yaml", "--lr", "1", "--corpus_dir=a=b", "--lr", "0.25"])
    assert line.overrides == {"lr": "0.25", "corpus_dir": "a=b"}


ODD = ["20241127", "1.10", "0123", "1e5", "2024-11-27", "12:30", "yes", "~", "home #2", "a: b"]
ODD += ["#1", "<lr>", "a <b> c", "(old)", "[1, 2]", "{a: 1}", "it's", '"quoted"', "$HOME", "a=b"]
ODD += [
    "%d",
    "*",
    "&a",
    "!new:x",
    "- a",
    "@",
    "`x`",
    "a\\b",
    "é",
    "e\u0301",
    "日本 語",
    "a\tb",
    "a  b ",
]
ODD += [
    "? a",
    "| a",
    "\x85",
    "\u2028",
    "\ufeffa",
    "a\nb",
    "'",
    "x  " * 60 + "y",
    "x " * 90 + "y",
    "~null",
]


def odd_names(count: int) -> list[str]:
    """Texts of all that means something to a shell, to YAML or to HyperPyYAML."""
    drawn = random.Random(5)
    parts = [*ODD, *string.punctuation.replace("/", ""), " ", "\t", "1", "x", "ß"]
    return ["".join(drawn.choices(parts, k=drawn.randint(1, 6))) for _ in range(count)]


@pytest.mark.parametrize("text", [*ODD, *odd_names(40)])
def test_paths_and_names_are_what_the_command_line_says(text: str, tmp_path: Path) -> None:
    """To the letter: in the loaded values, in the resolved text, and in what is read back."""
    (tmp_path / "parent.yaml").write_text(
        "corpus_dir: data/mini\nstart_from: null\nwords: some\nsystem: !PLACEHOLDER\n"
        "named: !applyref:os.path.basename [!ref <corpus_dir>]\noutput_folder: !ref exp/<named>\n"
        "save_folder: !ref <output_folder>/save\nsame: [!ref <start_from>, {a: !ref <words>}]\n"
    )
    (tmp_path / "x.yaml").write_text("!include:parent.yaml\nsystem: one\n")
    given = {"corpus_dir": f"{tmp_path}/{text}", "start_from": text, "words": text}
    words = [word for key, value in given.items() for word in (f"--{key}", value)]
    line = read_command_line(["x.yaml", *words, f"--system={text}"])
    assert line.overrides == {**given, "system": text}
    expected: dict[str, object] = {
        **given,
        "named": text,
        "output_folder": f"exp/{text}",
        "system": "one",
    }
    expected |= {"save_folder": f"exp/{text}/save", "same": [text, {"a": text}]}
    loaded, resolved = load_hparams(tmp_path / "x.yaml", given)
    assert loaded == expected
    assert ruamel.yaml.ruamel.yaml.YAML().load(resolved) == expected
    (tmp_path / "hyperparams.yaml").write_text(resolved, encoding="utf-8", newline="")
    assert {key: read_setting(tmp_path, key) for key in expected} == expected
    claim_experiment(tmp_path / "new", resolved, {})
    (tmp_path / "new" / "save" / "CKPT+1").mkdir(parents=True)
    claim_experiment(tmp_path / "new", resolved, {})


def test_what_holds_no_text_is_yaml(tmp_path: Path) -> None:
    """Also where a file has put a word in place of a number; null takes a folder away."""
    (tmp_path / "parent.yaml").write_text("alpha: 0.7\nlayers: [1]\nrir_folder: null\n")
    (tmp_path / "x.yaml").write_text("!include:parent.yaml\nalpha: auto\nrir_folder: a\nb: x\n")
    overrides = {"alpha": "0.5", "layers": "[2, 3]", "rir_folder": "null", "b": "!ref <alpha>/y"}
    expected = {"alpha": 0.5, "layers": [2, 3], "rir_folder": None, "b": "0.5/y"}
    assert load_hparams(tmp_path / "x.yaml", overrides)[0] == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lr", "[1"], ("bad-yaml", "--lr", "[1")),
        (["--noise_folder", ""], ("bad-setting", "--noise_folder", "empty")),
        (["--noise_folder"], ("bad-setting", "--noise_folder", "empty")),
        (["0.1"], ("bad-command", "'0.1'")),
        (["--noise_folder", b"caf\xe9".decode("utf-8", "surrogateescape")], ("not-utf8", "caf")),
        (["--nois_folder", "x"], ("unknown-key", "'nois_folder'", "--noise_folder")),
        (["--system", "../../zz"], ("bad-setting", "system is '../../zz'")),
        (["--system", ".."], ("bad-setting", "system is '..'")),
        (["--system", "null"], ("bad-setting", "system is None")),
        (["--corpus_dir", "/"], ("bad-setting", "corpus is ''")),
    ],
)
def test_a_wrong_override_is_one_sentence(
    words: list[str], told: tuple[str, ...], corpus: Path
) -> None:
    with refused(*told) as caught:
        line = read_command_line(["x.yaml", *words])
        line.overrides.setdefault("corpus_dir", str(corpus))
        load_hparams(RECIPE / "hparams" / "teacher.yaml", line.overrides)
    assert "\n" not in str(caught.value)


def test_a_class_in_a_child_replaces_the_parents_whole(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(
        "size: 3\nlayer: !new:torch.nn.Linear\n  in_features: 2\n  out_features: !ref <size>\n"
    )
    (tmp_path / "child.yaml").write_text(
        "!include:parent.yaml\nsize: 5\nlayer: !new:torch.nn.ReLU\n"
    )
    hparams, text = load_hparams(tmp_path / "child.yaml")
    assert isinstance(hparams["layer"], torch.nn.ReLU) and hparams["size"] == 5
    assert "Linear" not in text and "!ref" not in text
    (tmp_path / "grandchild.yaml").write_text("!include:child.yaml\nsize: 7\n")
    assert load_hparams(tmp_path / "grandchild.yaml")[0]["size"] == 7


def test_a_file_builds_on_several(tmp_path: Path) -> None:
    """Of those that have a key the last counts, then the file, then the command line's."""
    texts = {
        "base": "a: 1\nb: 1\nc: 1\nd: 1\ne: 1\n",
        "one": "!include:base.yaml\nb: 2\nc: 2\nd: 2\ne: 2\n",
        "parts/two": "!include:../base.yaml\nincludes: [../one.yaml]\nc: 3\nd: 3\ne: 3\n",
        "mine": "includes: [one.yaml, parts/two.yaml]\nd: 4\ne: 4\n",
        "choice": "e: 5\nsum: !ref <a> + <e>\n",
    }
    (tmp_path / "parts").mkdir()
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    loaded, text = load_hparams(tmp_path / "mine.yaml")
    assert loaded == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 4} and "include" not in text
    given = {"includes": "[choice.yaml]", "a": "7"}
    assert load_hparams(tmp_path / "mine.yaml", given)[0] == loaded | {"a": 7, "e": 5, "sum": 12}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("includes: [no.yaml]", ("missing-file", "no.yaml", "x.yaml")),
        ("!include:no.yaml\na: 1", ("missing-file", "no.yaml", "x.yaml")),
        ("a: !include:no.yaml", ("missing-file", "x.yaml", "!include:no.yaml")),
        ("a:\n  b:\n  - !include:no.yaml", ("missing-file", "x.yaml", "!include:no.yaml")),
        ("includes: [folder]", ("unreadable-file", "folder", "x.yaml")),
        ("includes: [z.yaml]", ("missing-file", "no.yaml", "z.yaml")),
        ("includes: x.yaml", ("bad-setting", "includes is 'x.yaml'", "[a.yaml]")),
        ("includes: [x.yaml]", ("circular", "x.yaml")),
        ("!include:y.yaml\na: 1", ("circular", "x.yaml")),
    ],
)
def test_what_cannot_be_included_is_told(text: str, told: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    (tmp_path / "y.yaml").write_text("includes: [x.yaml]")
    (tmp_path / "z.yaml").write_text("includes: [no.yaml]")
    (tmp_path / "folder").mkdir()
    with refused(*told):
        resolve_hparams(tmp_path / "x.yaml")


def test_what_the_command_line_includes_is_told_as_its_own(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1")
    with refused("missing-file", tmp_path / "no.yaml", "--includes", tmp_path):
        resolve_hparams(tmp_path / "x.yaml", {"includes": "[no.yaml]"})


CROPS = "speechbrain_ext.training.crops.CropReader"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", ("bad-yaml", "x.yaml")),
        ("a: !ref <b>", ("bad-yaml", "x.yaml")),
        ("a: 0\nb: !ref 1 / <a>", ("bad-setting", "x.yaml", "division by zero")),
        ("a: 1\n: 2", ("bad-yaml", "x.yaml", "None")),
        (
            "size: 9000000000\nlayer: !new:torch.nn.Linear [!ref <size>, !ref <size>]",
            ("bad-setting", "x.yaml", "9000000000"),
        ),
        (f"x: !new:{CROPS}\n  seconds: 2.0\n  seed: a", ("bad-setting", "x.yaml", "seed", "'a'")),
        (
            f"x: !new:{CROPS}\n  seconds: .nan\n  seed: 1",
            ("bad-setting", "x.yaml", "seconds", "nan"),
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, text: str, told: tuple[str, ...]
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with refused(*told):
        load_hparams(tmp_path / "x.yaml")


@pytest.mark.parametrize("path", SYSTEMS, ids=lambda path: path.stem)
def test_a_plain_setting_has_a_rule(path: Path) -> None:
    """What is a number or a switch is checked before anything is made of it."""
    tree = ruamel.yaml.YAML().load(resolve_hparams(path))
    plain = {key for key, value in tree.items() if isinstance(value, (bool, int, float))}
    told = {key for key, rule in RULES.items() if rule is not ANYTHING}
    assert plain - told <= {"alpha", "channels"}  # which classes check


def test_reading_one_setting_makes_no_class(tmp_path: Path) -> None:
    (tmp_path / "hyperparams.yaml").write_text("a: 1\nb: !new:no.such.Class\n")
    assert read_setting(tmp_path, "a") == 1
    with refused("missing-file", tmp_path / "other"):
        read_setting(tmp_path / "other", "a")


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "speaker1").mkdir()
    with refused("foreign-folder", tmp_path, "speaker1"):
        claim_experiment(tmp_path, "a: 1", {})
    assert not (tmp_path / "hyperparams.yaml").exists()


def test_an_override_that_would_change_nothing_is_refused() -> None:
    """The aligned student has its teacher from a folder, so that nothing reads teacher_source."""

    def check(system: str, *words: str) -> None:
        yaml = RECIPE / "hparams" / "ssl" / f"{system}.yaml"
        check_keys(read_command_line([str(yaml), *words]), DistillBrain.keys)

    for key, value in (("teacher_source", "there"), ("teacher_layers", "[6]"), ("n_mels", "40")):
        with refused("no-effect", f"--{key} {value}"):
            check("sv_mixer_aligned", f"--{key}", value)
    check("sv_mixer_aligned", "--teacher_folder", "there", "--alpha", "0.5")
    check("sv_mixer_wavlm_large", "--teacher_source", "x", "--teacher_layers", "[6]")


def test_what_run_sh_gives_on_the_embedded_corpus_is_read() -> None:
    """Whatever system is trained there."""
    text = (RECIPE / "run.sh").read_text()
    mini = dict(re.findall(r'^mini_(\w*)args="([^"]*)"', text, re.MULTILINE))
    hparams = RECIPE / "hparams"
    systems = [*hparams.glob("*.yaml"), *(hparams / "ssl").glob("*.yaml")]
    for path in systems:
        tree = ruamel.yaml.YAML().load(resolve_hparams(path))
        if "system" not in tree:
            continue
        brain = DistillBrain if "objective" in tree else TeacherBrain
        given = mini[""] + " " + mini["student_" if "objective" in tree else "teacher_"]
        words = (mini["ssl_"] if "teacher_source" in tree else given).split()
        if path.stem.endswith("_large_margin"):  # or in stage 3 after another
            words += mini["large_margin_"].split()
        line = read_command_line([str(path), *words])
        check_keys(line, brain.keys)
    assert len(systems) > 45


def test_an_embedding_model_without_keywords_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "hyperparams.yaml"
    for node in ("!new:torch.nn.Identity", "!new:torch.nn.Linear [4, 2]"):
        path.write_text(f"compute_features: 1\nmean_var_norm: 2\nembedding_model: {node}\n")
        assert node in encoder_yaml(tmp_path)
