"""A speaker encoder as an ONNX graph, for engines that know nothing of PyTorch.

Two graphs of one encoder: from features, which most engines compute themselves, and from the
waveform. Each has one input and one output, and no lengths: an engine embeds one utterance, or
utterances of one length.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.encoders import SpeakerEncoder

#: The ONNX operators' version: what the engines' releases of the last years have.
OPSET = 17


class _FromFeatures(nn.Module):
    """From features (B, T, F), as an engine computes them, to embeddings (B, D)."""

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__()
        self.mean_var_norm = encoder.mean_var_norm
        self.embedding_model = encoder.embedding_model

    def forward(self, feats: Tensor) -> Tensor:
        return self.embedding_model(self.mean_var_norm(feats)).squeeze(1)


def write_embedding_graph(encoder: SpeakerEncoder, path: str | os.PathLike[str]) -> None:
    """Write the graph from features (B, T, F), ``feats``, to embeddings (B, D), ``embs``.

    A network that reads waveforms has ``wav``, (B, S), in their place.

    The normalisation over the utterance is inside: whether an engine scales samples to [-1, 1], or
    takes off the features' mean itself, changes nothing.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The encoder.
    path : str or path
        The file; it is whole or not there.

    Raises
    ------
    UserError
        When the network does what ONNX has no operators for, or goes by the lengths of utterances
        in Python.
    """
    with torch.no_grad():
        example = encoder.compute_features(0.1 * torch.randn(2, 2 * SAMPLE_RATE))
    names = {"feats": "BT"} if example.dim() == 3 else {"wav": "BS"}
    _write(_FromFeatures(encoder), example, path, {**names, "embs": "B"})


def write_front_end_graph(encoder: SpeakerEncoder, path: str | os.PathLike[str]) -> None:
    """Write the graph from waveforms (B, S) in [-1, 1], ``wav``, to features (B, T, F), ``feats``.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The encoder.
    path : str or path
        The file; it is whole or not there.
    """
    example = 0.1 * torch.randn(2, 2 * SAMPLE_RATE)
    _write(encoder.compute_features, example, path, {"wav": "BS", "feats": "BT"})


def _write(
    network: nn.Module, example: Tensor, path: str | os.PathLike[str], axes: Mapping[str, str]
) -> None:
    """Write a network of one input and one output, whose first axes have these names.

    Constants are folded and shapes known where they can be, so that the graph is what an engine
    should run, and what can be quantised.
    """
    names = list(axes)
    free = {name: dict(enumerate(letters)) for name, letters in axes.items()}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        traced, folded = Path(folder) / "traced.onnx", Path(folder) / "folded.onnx"
        try:
            torch.onnx.export(
                network.eval(),
                (example,),
                traced,
                input_names=names[:1],
                output_names=names[1:],
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,  # the other exporter unrolls an LSTM over its example
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"the network cannot leave PyTorch: {reason}", code="no-graph"
            ) from None
        quant_pre_process(traced, folded, skip_symbolic_shape=True)
        model = onnx.load(folded)
    save_graph(model, path)


def join_graphs(
    first: str | os.PathLike[str], second: str | os.PathLike[str], path: str | os.PathLike[str]
) -> None:
    """Write one graph of two, whose features are those of the first.

    Arguments
    ---------
    first, second : str or path
        Files of :func:`write_front_end_graph` and :func:`write_embedding_graph`, or what
        quantisation made of that.
    path : str or path
        The file; it is whole or not there.
    """
    front = onnx.compose.add_prefix(onnx.load(first), "front_end/", rename_inputs=False)
    joint = front.graph.output[0].name, "feats"
    save_graph(onnx.compose.merge_models(front, onnx.load(second), [joint]), path)


def save_graph(
    model: onnx.ModelProto,
    path: str | os.PathLike[str],
    about: Mapping[str, str] | None = None,
) -> None:
    """Save a graph as one file that needs the standard operators alone, with its metadata.

    Arguments
    ---------
    model : ModelProto
        The graph.
    path : str or path
        The file; it is whole or not there.
    about : mapping, optional
        Its ``metadata_props``.
    """
    # What was inferred of shapes between the operators misleads an engine once graphs are joined.
    del model.graph.value_info[:]
    used = {node.domain for node in model.graph.node}
    needed = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(needed)
    if about is not None:
        onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


def engine_facts(encoder: SpeakerEncoder, comment: str) -> dict[str, str]:
    """The ``metadata_props`` by which sherpa-onnx knows a model of WeSpeaker's kind.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The encoder.
    comment : str
        What the model is, in a line.

    Returns
    -------
    dict
        Every value as text: numbers are whole numbers there.

    Example
    -------
    >>> from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> encoder = SpeakerEncoder(KaldiFbank(), nn.Identity(), MLPMixer(num_blocks=1))
    >>> facts = engine_facts(encoder, "a student")
    >>> facts["framework"], facts["output_dim"], facts["sample_rate"]
    ('wespeaker', '512', '16000')
    """
    return {
        "framework": "wespeaker",
        "language": "any",
        "url": "",
        "comment": comment,
        "sample_rate": str(SAMPLE_RATE),
        "output_dim": str(encoder.embedding_size),
        "normalize_samples": "1",
        "feature_normalize_type": "global-mean",
        **getattr(encoder.compute_features, "metadata", {}),
    }
