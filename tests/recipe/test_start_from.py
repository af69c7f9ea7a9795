"""First weights: of a training, of what it was exported to, of SpeechBrain's, of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier

from speechbrain_ext.distill.classifier_start import TeacherClassifier
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.lobes.ecapa import PaddedECAPA
from speechbrain_ext.systems.experiment import save_weights
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.first_weights import start_from
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.tiny import RECIPE, STUDENT, TEACHER, make_corpus
from tests.refusals import refused

pytestmark = pytest.mark.slow

Source = Callable[[Path, Path], Path]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two, of which the other has other speakers, and a training on the first."""
    root = tmp_path_factory.mktemp("corpora")
    for name in ("one", "other"):
        make_corpus(root / name)
    for path in (root / "other" / "manifests").rglob("*.*"):
        path.write_text(path.read_text().replace("id0", "new0").replace("/new0", "/id0"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        run_training(TeacherBrain, given(root, "one", root / "teacher", TEACHER))
        run_training(DistillBrain, given(root, "one", root / "student", distilled(root)))
    return root


@pytest.fixture(autouse=True)
def in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPE)


def given(root: Path, corpus: str, folder: Path, base: list[Any], *more: Any) -> list[str]:
    where = ["--corpus_dir", root / corpus, "--output_folder", folder, "--number_of_epochs", 1]
    return [*map(str, [*base, *where, *more])]


def distilled(root: Path, yaml: str = "v2.yaml") -> list[Any]:
    return [f"hparams/{yaml}", *STUDENT[1:], "--teacher_folder", root / "teacher"]


def an_experiment(trained: Path, folder: Path) -> Path:
    return trained


def an_export(trained: Path, folder: Path) -> Path:
    write_model_folder(trained, folder / "export")
    return folder / "export"


def a_speechbrain_folder(trained: Path, folder: Path) -> Path:
    """As its recipes' models are published: the network alone, and whose rows those are."""
    for name in ("embedding_model", "classifier"):
        state = load_file(trained / "save" / f"{name}.safetensors")
        torch.save(state, folder / f"{name}.ckpt")
    labels = CategoricalEncoder()
    labels.load(trained / "save" / "label_encoder.txt")
    labels.save(folder / "label_encoder.txt")
    return folder


def a_file(trained: Path, folder: Path) -> Path:
    state = load_file(trained / "save" / "embedding_model.safetensors")
    torch.save({f"module.{name}": value for name, value in state.items()}, folder / "net.pt")
    return folder / "net.pt"


def a_safetensors_file(trained: Path, folder: Path) -> Path:
    return trained / "save" / "embedding_model.safetensors"


def same(one: Path, other: Path, name: str) -> bool:
    """Whether weights are the same but for steps of 1e-12."""
    first, second = (load_file(f / "save" / f"{name}.safetensors") for f in (one, other))
    return all(
        first[key].shape == second[key].shape and torch.allclose(first[key], second[key], atol=1e-6)
        for key in first
        if "running" not in key and "batches" not in key
    )


SOURCES = [an_experiment, an_export, a_speechbrain_folder, a_file, a_safetensors_file]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("corpus", ["one", "other"])
def test_begins_with_the_weights(
    corpora: Path, tmp_path: Path, source: Source, corpus: str
) -> None:
    """The network from anywhere; the classifier where it knows the speakers, else a new one."""
    start = source(corpora / "student", tmp_path)
    more = ["--start_from", start, "--lr", 1e-12]
    arguments = given(corpora, corpus, tmp_path / "exp", distilled(corpora), *more)
    run_training(DistillBrain, arguments)
    assert same(corpora / "student", tmp_path / "exp", "embedding_model")
    known = corpus == "one" and start.is_dir()
    assert same(corpora / "student", tmp_path / "exp", "classifier") == known
    told = "with its classifier, which knows all" if known else "a new one begins at random"
    assert told in (tmp_path / "exp" / "log.txt").read_text()


def test_a_checkpoint_goes_before_it(corpora: Path, tmp_path: Path) -> None:
    """A training that goes on begins with what it has learnt itself, and says nothing else."""
    more = ["--start_from", corpora / "student", "--number_of_epochs"]
    for epochs in (1, 2):
        arguments = given(corpora, "one", tmp_path / "exp", distilled(corpora), *more, epochs)
        run_training(DistillBrain, arguments)
    assert (tmp_path / "exp" / "log.txt").read_text().count("Begins with the network of") == 1
    assert not same(corpora / "student", tmp_path / "exp", "classifier")


def test_a_trained_classifier_goes_before_classifier_start(corpora: Path, tmp_path: Path) -> None:
    """A second stage of a system that began with the teacher's means keeps what that learnt."""
    base = distilled(corpora, "v3.yaml")
    run_training(DistillBrain, given(corpora, "one", tmp_path / "first", base))
    more = ["--start_from", tmp_path / "first", "--lr", 1e-12]
    run_training(DistillBrain, given(corpora, "one", tmp_path / "second", base, *more))
    assert same(tmp_path / "first", tmp_path / "second", "classifier")
    assert "classifier_start is not used" in (tmp_path / "second" / "log.txt").read_text()


def test_new_speakers_begin_as_classifier_start_says(corpora: Path, tmp_path: Path) -> None:
    base = [*distilled(corpora, "v3.yaml"), "--teacher_cache", tmp_path / "cache"]
    more = ["--start_from", corpora / "student", "--lr", 1e-12]
    run_training(DistillBrain, given(corpora, "other", tmp_path / "exp", base, *more))
    weight = load_file(tmp_path / "exp" / "save" / "classifier.safetensors")["weight"]
    assert torch.allclose(weight.norm(dim=1), torch.ones(len(weight)), atol=1e-5)
    assert "a new one begins by classifier_start" in (tmp_path / "exp" / "log.txt").read_text()


def test_speakers_that_are_fewer_keep_their_rows(corpora: Path, tmp_path: Path) -> None:
    """After a training at several speeds, one at 1.0 alone."""
    many = given(corpora, "one", tmp_path / "many", TEACHER, "--speeds", "[1.0, 0.9]")
    run_training(TeacherBrain, many)
    more = ["--start_from", tmp_path / "many", "--lr", 1e-12]
    run_training(TeacherBrain, given(corpora, "one", tmp_path / "few", TEACHER, *more))
    rows = load_file(tmp_path / "many" / "save" / "classifier.safetensors")["weight"][:6]
    kept = load_file(tmp_path / "few" / "save" / "classifier.safetensors")["weight"]
    assert torch.allclose(rows, kept, atol=1e-6)


def test_a_published_ecapa(tmp_path: Path) -> None:
    """SpeechBrain's own network, which ours holds inside."""
    published = ECAPA_TDNN(8, channels=[8, 8, 8, 8, 24], lin_neurons=6)
    torch.save(published.state_dict(), tmp_path / "embedding_model.ckpt")
    ours = PaddedECAPA(8, channels=[8, 8, 8, 8, 24], lin_neurons=6)
    hparams = SimpleNamespace(
        start_from=str(tmp_path), embedding_model=ours, classifier=Classifier(6), train_csv="t.csv"
    )
    assert start_from(hparams, CategoricalEncoder()) == {"embedding_model"}
    for name, value in published.state_dict().items():
        assert torch.equal(ours.state_dict()[f"network.{name}"], value)


def small(folder: Path, rows: int, **layers: int) -> SimpleNamespace:
    """A training of two speakers that starts from a model of two, with so many rows."""
    torch.save(torch.nn.Linear(4, 4).state_dict(), folder / "embedding_model.ckpt")
    torch.save(Classifier(4, out_neurons=rows, **layers).state_dict(), folder / "classifier.ckpt")
    two_speakers().save(folder / "label_encoder.txt")
    return SimpleNamespace(
        start_from=str(folder),
        embedding_model=torch.nn.Linear(4, 4),
        classifier=Classifier(4, out_neurons=2, **layers),
        train_csv="t.csv",
    )


def two_speakers() -> CategoricalEncoder:
    labels = CategoricalEncoder()
    labels.update_from_iterable(["ann", "bob"])
    return labels


@pytest.mark.parametrize(
    ("rows", "layers", "taken"),
    [(2, {}, True), (1, {}, False), (2, {"lin_blocks": 1, "lin_neurons": 4}, False)],
)
def test_a_classifier_whose_rows_are_not_its_speakers_is_not_taken(
    tmp_path: Path, rows: int, layers: dict[str, int], taken: bool
) -> None:
    started = start_from(small(tmp_path, rows, **layers), two_speakers())
    assert started == {"embedding_model"} | ({"classifier"} if taken else set())


@pytest.mark.parametrize("content", ["", "'ann' => 0", "'ann' =>", "'ann => 0", "\0", "'ann' => x"])
def test_damaged_labels_are_named(tmp_path: Path, content: str) -> None:
    """By a training that starts with the classifier, and by one that starts with a teacher's."""
    hparams = small(tmp_path, rows=2)
    path = tmp_path / "label_encoder.txt"
    path.write_text(content)
    with refused("damaged-file", path):
        start_from(hparams, two_speakers())
    save_weights(tmp_path, hparams.classifier, {}, "classifier")
    path.rename(tmp_path / "save" / path.name)
    with refused("damaged-file", "label_encoder.txt"):
        TeacherClassifier(tmp_path).sha256()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda f: f / "nowhere", ("not-a-model", "start_from", "nowhere")),
        (lambda f: f, ("not-a-model", "start_from")),
        (lambda f: written(f / "a.pt", b"junk"), ("bad-weights", "start_from", "a.pt", "(")),
        (lambda f: written(f / "a.safetensors", b""), ("bad-weights", "a.safetensors")),
        (lambda f: saved(f, [torch.zeros(2)]), ("bad-weights", "a.ckpt", "state dict")),
        (
            lambda f: saved(f, {"x": torch.zeros(2)}),
            ("other-network", "start_from", "it has no "),
        ),
    ],
)
def test_what_is_no_start(corpora: Path, tmp_path: Path, make: Any, told: tuple[str, ...]) -> None:
    more = ["--start_from", make(tmp_path)]
    with refused(*told):
        run_training(TeacherBrain, given(corpora, "one", tmp_path / "exp", TEACHER, *more))
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


def test_other_sizes_are_named(corpora: Path, tmp_path: Path) -> None:
    base = [*distilled(corpora), "--channels", 32, "--start_from", corpora / "student"]
    with refused("other-network", " is [", "] there", " [", "] here"):
        run_training(DistillBrain, given(corpora, "one", tmp_path / "exp", base))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "a.ckpt")
    return folder / "a.ckpt"
