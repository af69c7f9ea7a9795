"""The systems whose loss has more terms, other relations or other teachers than V2's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from speechbrain_ext.interfaces import StudentOutput, Target
from speechbrain_ext.systems.experiment import save_weights
from speechbrain_ext.systems.yaml import load_hparams
from speechbrain_ext.training.crops import speakers_of
from tests.recipe.tiny import RECIPE, make_corpus
from tests.refusals import refused

# Weight of the classification and of what is learned beside it.
WEIGHTS = {
    "v2_multi_stage": {"classification": 0.3, "distillation": 0.4, "intermediate": 0.3},
    "v2_multi_stage_rising": {
        "classification": 0.3,
        "distillation": 0.7 * 2 / 8,
        "intermediate": 0.7 * 6 / 8,
    },
    "v2_large_multi_stage": {"classification": 0.3, "distillation": 0.4, "intermediate": 0.3},
    "v2_attention_transfer": {"classification": 0.3, "distillation": 0.4, "attention": 0.3},
    "v2_relational": {"classification": 0.3, "distillation": 0.7},
    "v2_reconstruction": {"classification": 0.2, "distillation": 0.6, "reconstruction": 0.2},
    "v2_multi_teacher": {"classification": 0.3, "distillation": 0.7},
    "v2_contrast": {"classification": 0.25, "distillation": 0.5, "contrast": 0.25},
    "v2_contrast_relational": {
        "classification": 0.2,
        "distillation": 0.4,
        "contrast": 0.2,
        "relational": 0.2,
    },
    "v2_anchors": {"classification": 0.3, "distillation": 0.4, "anchors": 0.3},
    "v2_label": {"classification": 0.3, "distillation": 0.4, "label": 0.3},
    "v2_decoupled": {"classification": 0.3, "distillation": 0.4, "label": 0.3},
    "v2_aligned_label": {"classification": 0.3, "distillation": 0.4, "label": 0.3},
}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SpeechBrain's checkpointer makes its folder when it is made."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with a teacher of LSTMs and another one of a smaller embedding beside it."""
    folder = make_corpus(tmp_path_factory.mktemp("corpora") / "little")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, size in (("teacher", 512), ("other", 24)):
            overrides = {"corpus_dir": str(folder), "output_folder": str(folder / name)}
            overrides |= {"lin_neurons": str(size)}
            hparams, text = load_hparams(RECIPE / "hparams" / "teacher.yaml", overrides)
            save_weights(folder / name, hparams["embedding_model"], {})
            (folder / name / "hyperparams.yaml").write_text(text)
    return folder


def load(system: str, corpus: Path, **overrides: str) -> dict[str, Any]:
    folders = {"corpus_dir": f"{corpus}", "teacher_folder": f"{corpus}/teacher"}
    if system == "v2_multi_teacher":
        folders |= {"ecapa_folder": f"{corpus}/other", "resnet_folder": f"{corpus}/other"}
    return load_hparams(RECIPE / "hparams" / f"{system}.yaml", folders | overrides)[0]


@pytest.mark.parametrize("system", WEIGHTS)
def test_a_step_of_each_system(system: str, corpus: Path) -> None:
    hparams = load(system, corpus)
    assert hparams["system"] == system
    wavs = torch.randn(4, 8000)
    feats = hparams["mean_var_norm"](hparams["compute_features"](wavs))
    model = hparams["embedding_model"]
    embedding, layers = model(feats, intermediates=True)
    logits, labels = hparams["classifier"](embedding), torch.arange(4)
    student = StudentOutput(
        embedding.squeeze(1),
        dict(zip(model.layers, layers, strict=True)),
        feats,
        logits.squeeze(1),
        (Target(labels),),
    )
    classification = hparams["compute_cost"](logits, labels.unsqueeze(1))
    hparams["objective"].prepare(hparams["train_csv"], speakers_of(hparams["train_csv"]))
    objective = hparams["objective"](classification, student, hparams["teacher"](wavs))
    assert objective.weights == pytest.approx(WEIGHTS[system])
    assert all(term.isfinite() for term in objective.terms.values())
    objective.total.backward()
    for module in (model, hparams["objective"]):
        assert all(p.grad is not None for p in module.parameters() if p.requires_grad)
    assert all(p.grad is None for p in hparams["teacher"].parameters())


def test_rising_weights_are_the_documents(corpus: Path) -> None:
    objective = load("v2_multi_stage_rising", corpus)["objective"]
    hints = objective.terms["intermediate"]
    share = [objective.term_weights["intermediate"] * weight for weight in hints.weights]
    share.append(objective.alpha.maximum)
    expected = [0.5, 0.5, 1, 1, 1.5, 1.5, 2]
    assert [x / sum(share) * 8 for x in share] == pytest.approx(expected)
    assert [pair[0] for pair in hints.pairs] == [f"block{i}" for i in range(1, 7)]


def test_teachers_are_weighted_from_the_command_line(corpus: Path) -> None:
    # Those that are not given stay.
    hparams = load("v2_multi_teacher", corpus, teacher_weights="{lstm: 2}")
    assert hparams["teacher"].weights == {"lstm": 0.5, "ecapa": 0.25, "resnet": 0.25}
    assert hparams["projection"].weight.shape == (512 + 24 + 24, 512)


@pytest.mark.parametrize(
    ("system", "key", "value", "facts"),
    [
        ("v2_multi_stage", "num_blocks", "4", ("pairs", "'block6'")),
        (
            "v2_multi_teacher",
            "teacher_weights",
            "{lstm: 0}",
            ("weights", "{'lstm': 0"),
        ),
        ("v2_multi_stage", "alpha", "0.8", ("more than 1",)),
        ("v2_contrast", "contrast_temperature", "0", ("contrast_temperature", "above 0")),
        ("v2_anchors", "anchor_temperature", "0", ("anchor_temperature", "above 0")),
        ("v2_anchors", "most_anchors", "1", ("most must be 2 or more, got 1",)),
        ("v2_label", "label_temperature", "-1", ("label_temperature", "above 0")),
        ("v2_decoupled", "non_target_weight", "-1", ("non_target_weight", "0 or more")),
    ],
)
def test_mistakes_are_one_sentence(
    system: str, key: str, value: str, facts: tuple[str, ...], corpus: Path
) -> None:
    with refused("bad-setting", *facts):
        load(system, corpus, **{key: value})
