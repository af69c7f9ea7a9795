"""The same graph in whole numbers of 8 bits."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from speechbrain_ext.export.graphs import save_graph

#: Operators whose products are of whole numbers; the rest stays in FP32.
QUANTISED = ("Conv", "Gemm", "MatMul")


class _Utterances(CalibrationDataReader):
    def __init__(self, name: str, given: Iterable[np.ndarray]) -> None:
        self.name, self.given = name, iter(given)

    def get_next(self) -> dict[str, np.ndarray] | None:
        found = next(self.given, None)
        return None if found is None else {self.name: found}


def quantise(
    graph: str | os.PathLike[str],
    path: str | os.PathLike[str],
    given: Iterable[np.ndarray],
    in_float: Sequence[str] = (),
) -> None:
    """Write the graph of features with weights and activations of 8 bits.

    Weights have a scale for each output channel and are symmetric; activations have a scale and an
    offset for each tensor, from the least and the greatest value that the utterances gave.

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
            _Utterances(onnx.load(graph).graph.input[0].name, given),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=list(in_float),
        )
        model = onnx.load(draft)
    save_graph(model, path)
