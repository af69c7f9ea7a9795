"""Model folders that SpeechBrain's inference classes load, made from experiment folders.

The folder's ``embedding_model`` is the whole encoder, front end included: SpeechBrain's
``EncoderClassifier`` computes features without regard to lengths, and an utterance's last frames
would depend on the padding after it.
"""

from __future__ import annotations

import io
import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ruamel.yaml
import torch
from safetensors.torch import load_file
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference.classifiers import EncoderClassifier
from torch import Tensor

from speechbrain_ext.errors import UserError
from speechbrain_ext.export.card import readme, title_of
from speechbrain_ext.files import replaced_folder, written_files
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.systems.experiment import (
    WEIGHTS,
    encoder_yaml,
    kept_sha256,
    load_encoder,
    read_hyperparams,
    read_labels,
    weights_sha256,
)
from speechbrain_ext.verification.conditions import cards_of, write_conditions_page
from speechbrain_ext.verification.fitted import FACTS, kept_decisions, write_cohort
from speechbrain_ext.verification.score_norm import COSINE

if TYPE_CHECKING:
    from speechbrain_ext.export.engine_files import Speech

HYPERPARAMS = """\
# A speaker-verification model for speechbrain.inference.speaker.SpeakerRecognition; see README.md.
sample_rate: {sample_rate}
threshold: {threshold} # of a cosine; see README.md

# From waveform to embedding in one module, so that padding changes nothing.
compute_features: !new:torch.nn.Identity
mean_var_norm: !new:speechbrain_ext.lobes.features.PassThrough
embedding_model: !new:speechbrain_ext.lobes.encoders.SpeakerEncoder
{encoder}
mean_var_norm_emb: !new:speechbrain_ext.lobes.features.PassThrough
{classifier}
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
{modules}
# Each part is in <its name>.ckpt, beside this file.
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
{loadables}"""


def write_model_folder(
    experiment: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    precisions: Sequence[str] = (),
    speech: Speech | None = None,
) -> dict[str, Any]:
    """Write a folder that SpeechBrain loads offline, replacing one written before.

    The experiment's YAML is executed: trust it first.

    Arguments
    ---------
    experiment : str or path
        Folder of a finished training.
    folder : str or path
        Folder to write. It is whole or untouched.
    precisions : sequence of str
        Of the ONNX files besides: ``fp32``, ``fp16``, ``int8``.
    speech : Speech, optional
        What these are made and measured with.

    Returns
    -------
    dict
        What ``model.json`` says: ``parameters`` (None of a model in a file), ``embedding_size``,
        ``sample_rate``, ``speakers`` (0 without a classifier), ``threshold``, ``decisions`` (of
        :class:`~speechbrain_ext.decisions.Decisions`, None where the recipe has not calibrated the
        scores; a cohort that they need is ``cohort.npy``), ``difference``, the largest between the
        folder's and the experiment's embeddings of noise, ``weights_sha256``, of the network in the
        experiment, ``taught_by``, that hash of the teacher, ``files``, those of
        :func:`~speechbrain_ext.export.engine_files.write_engine_files`, and ``sha256`` by file.

    Raises
    ------
    UserError
        When the experiment is not finished, or ``folder`` holds something else.
    """
    experiment, folder = Path(experiment), Path(folder)
    if folder.exists() and not (folder / "embedding_model.ckpt").is_file():
        raise UserError(
            f"{folder} is there and no exported model: choose another or remove it",
            code="already-there",
        )
    encoder = load_encoder(experiment)
    classification = _read_classification(experiment)
    with replaced_folder(folder) as draft:
        torch.save(encoder.state_dict(), draft / "embedding_model.ckpt")
        if classification:
            torch.save(classification.weights, draft / "classifier.ckpt")
            classification.labels.save(draft / "label_encoder.ckpt")
        weights = weights_sha256(encoder.embedding_model)
        results = _results(experiment, weights)
        threshold = results["valid"]["eer_threshold"] if "valid" in results else None
        fitted = kept_decisions(experiment, weights)
        if fitted is not None and fitted.cohort is not None:
            write_cohort(draft, fitted.cohort)
        text = _hyperparams(experiment, classification, threshold)
        (draft / "hyperparams.yaml").write_text(text, encoding="utf-8")
        size, difference = _compare(draft, encoder)
        count = sum(parameter.numel() for parameter in encoder.parameters())
        title = title_of(experiment)
        facts: dict[str, Any] = {
            "title": title,
            "parameters": encoder.num_parameters and count,
            "embedding_size": size,
            "sample_rate": SAMPLE_RATE,
            "speakers": len(classification.labels) if classification else 0,
            "threshold": threshold,
            "decisions": None if fitted is None else fitted.decisions.tree(),
            "difference": difference,
            "weights_sha256": weights,
            "taught_by": _taught_by(experiment),
            "files": [],
        }
        if precisions:
            assert speech is not None, "ONNX files are made and measured with speech"
            # The packages that it needs are not those of a training.
            from speechbrain_ext.export.engine_files import write_engine_files

            facts["files"] = write_engine_files(encoder, draft, precisions, speech, title)
        facts["sha256"] = written_files(draft)
        text = json.dumps(facts, indent=1) + "\n"
        (draft / FACTS).write_text(text, encoding="utf-8")
        extra = getattr(encoder.embedding_model, "extra", None)
        cards = cards_of(experiment, weights)
        if cards:
            write_conditions_page(draft, cards)
        package = f'".[{extra}]"' if extra else "."
        text = readme(experiment, facts, package, results, bool(cards))
        (draft / "README.md").write_text(text, encoding="utf-8")
    return facts


def _taught_by(experiment: Path) -> str | None:
    """The hash of the weights of the teacher, where it is an experiment; it may enrol, then."""
    settings = read_hyperparams(experiment)
    folder = settings.get("teacher_folder")
    return None if settings.get("teacher") is None or folder is None else kept_sha256(folder)


class _Classification(NamedTuple):
    """The speakers of the training, and what tells them apart."""

    yaml: str
    weights: dict[str, Tensor]
    labels: CategoricalEncoder


def _read_classification(experiment: Path) -> _Classification | None:
    """What training kept of its classifier; None for an imported network."""
    weights = experiment / WEIGHTS / "classifier.safetensors"
    labels = experiment / WEIGHTS / "label_encoder.txt"
    if not (weights.is_file() and labels.is_file()):
        return None
    encoder = read_labels(labels)
    tree = read_hyperparams(experiment)
    node = tree["classifier"]
    for key, value in node.items():
        # The experiment counts its speakers in a manifest, which is not there later.
        if value is tree["num_speakers"]:
            node[key] = len(encoder)
    text = io.StringIO()
    ruamel.yaml.YAML().dump({"classifier": node}, text)
    return _Classification(text.getvalue(), load_file(weights), encoder)


def _without_comments(yaml: str) -> str:
    lines = yaml.splitlines()
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _hyperparams(
    experiment: Path, classification: _Classification | None, threshold: float | None
) -> str:
    parts = {"classifier": "", "modules": "", "loadables": ""}
    if classification:
        parts["classifier"] = (
            _without_comments(classification.yaml)
            + "\nlabel_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder\n"
        )
        parts["modules"] = "    classifier: !ref <classifier>\n"
        parts["loadables"] = (
            "        classifier: !ref <classifier>\n        label_encoder: !ref <label_encoder>\n"
        )
    return HYPERPARAMS.format(
        sample_rate=SAMPLE_RATE,
        threshold="null" if threshold is None else f"{threshold:.6f}",
        encoder=textwrap.indent(_without_comments(encoder_yaml(experiment)), "    "),
        **parts,
    )


def _results(experiment: Path, weights: str) -> dict[str, dict[str, Any]]:
    """What the recipe found of these weights, by the name of the trials; by cosines alone."""
    results = {}
    for path in sorted((experiment / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        by_cosines = result.get("scores", COSINE) == COSINE
        if "eer_threshold" in result and by_cosines and result.get("weights_sha256") == weights:
            results[path.stem] = result
    return results


def _compare(folder: Path, encoder: SpeakerEncoder) -> tuple[int, float]:
    """Load the folder as its users will; the embedding size, and how far its embeddings are off."""
    model = EncoderClassifier.from_hparams(source=str(folder), run_opts={"device": "cpu"})
    generator = torch.Generator().manual_seed(0)
    wavs = 0.1 * torch.randn(2, 24123, generator=generator)
    lengths = torch.tensor([1.0, 17321 / 24123])
    with torch.no_grad():
        found = model.encode_batch(wavs, lengths)
        alone = torch.cat([encoder(wavs[:1]), encoder(wavs[1:, :17321])])
    return found.shape[-1], float((found - alone).abs().max())
