"""The same graph in fewer bits: numbers of 16, and whole numbers of 8."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from speechbrain_ext.export.graphs import save_graph

#: Operators whose products are of whole numbers; the rest stays in FP32.
QUANTISED = ("Conv", "Gemm", "MatMul")


class _Utterances(CalibrationDataReader):
    def __init__(self, graph: str | os.PathLike[str], given: Iterable[np.ndarray]) -> None:
        self.name, self.given = onnx.load(graph).graph.input[0].name, iter(given)

    def get_next(self) -> dict[str, np.ndarray] | None:
        found = next(self.given, None)
        return None if found is None else {self.name: found}


def halve(graph: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the graph of features with weights and activations of 16 bits, for GPUs.

    What it reads and gives stays in FP32.

    Arguments
    ---------
    graph : str or path
        The file of :func:`~speechbrain_ext.export.graphs.write_embedding_graph`.
    path : str or path
        The file to write; it is whole or not there.
    """
    model = ONNXModel(convert_float_to_float16(onnx.load(graph), keep_io_types=True))
    model.topological_sort()  # of the casts, which come last
    save_graph(model.model, path)


def quantise(
    graph: str | os.PathLike[str],
    path: str | os.PathLike[str],
    given: Iterable[np.ndarray],
    in_float: Sequence[str] = (),
) -> None:
    """Write the graph of features with weights and activations of 8 bits.

    Weights have a scale for each output channel and are symmetric, of 7 bits: processors without
    instructions for such products (VNNI) add two of them in 16 bits, which those of 8 overflow.
    Activations have a scale and an offset for each tensor, from the least and the greatest value
    that the utterances gave.

    Arguments
    ---------
    graph : str or path
        The file of :func:`~speechbrain_ext.export.graphs.write_embedding_graph`.
    path : str or path
        The file to write; it is whole or not there.
    given : iterable of np.ndarray
        What it reads, (1, T, F), of training utterances, by which activations are scaled.
    in_float : sequence of str
        Names of nodes that stay in FP32.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        draft = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            draft,
            _Utterances(graph, given),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=list(in_float),
        )
        model = onnx.load(draft)
    save_graph(model, path)


def by_loss(graph: str | os.PathLike[str], given: Sequence[np.ndarray]) -> list[str]:
    """Names of the nodes that :func:`quantise` takes, those first that cost most.

    Each is quantised alone, and its cost is how far the embeddings turn. The ratio of signal to
    rounding error of its tensors, by which ONNX Runtime's ``qdq_loss_debug`` goes, does not see
    what costs most: a channel of a scale of its own, which takes the steps of the others, makes
    that ratio high.

    Arguments
    ---------
    graph : str or path
        What :func:`quantise` reads.
    given : sequence of np.ndarray
        What the graph reads, (1, T, F), of a few utterances.
    """
    names = [node.name for node in onnx.load(graph).graph.node if node.op_type in QUANTISED]
    exact, cosines = _embed(graph, given), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        for name in names:
            quantise(graph, path, given, [other for other in names if other != name])
            found = _embed(path, given)
            cosines[name] = float((found * exact).sum(1).min())
    return sorted(names, key=cosines.__getitem__)


def _embed(path: str | os.PathLike[str], given: Sequence[np.ndarray]) -> np.ndarray:
    """Embeddings (N, D) of unit length."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (entry.name for entry in session.get_inputs())
    found = np.concatenate([session.run(None, {name: each})[0] for each in given])
    return found / np.linalg.norm(found, axis=1, keepdims=True)
