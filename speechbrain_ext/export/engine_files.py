"""The files of a model folder that run without PyTorch, each compared with PyTorch first."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor

from speechbrain_ext.audio import read_utterance
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.errors import UserError
from speechbrain_ext.export.fewer_bits import by_loss, halve, quantise
from speechbrain_ext.export.graphs import (
    engine_facts,
    join_graphs,
    save_graph,
    write_embedding_graph,
    write_front_end_graph,
)
from speechbrain_ext.export.parity import (
    LEAST_COSINE,
    GraphEncoder,
    compare,
    compare_decisions,
    joined_speech,
)
from speechbrain_ext.inference.extraction import tell_unusable
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import Waveforms
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank

#: Utterances by which the activations of INT8 are scaled; fewer than the least tell too little.
CALIBRATION, LEAST_CALIBRATION = 100, 10
#: Layers that INT8 may leave in FP32.
MOST_IN_FLOAT = 5
FEATURES, WAVEFORM = "speaker-embedding", "waveform"
#: Points of EER that a file may be worse by.
MOST_POINTS = 0.2
#: What the name of a file ends with, by its precision.
ENDINGS = {"fp32": ".onnx", "fp16": ".fp16.onnx", "int8": ".int8.onnx"}
Rows = Sequence[Mapping[str, Any]]


class Speech(NamedTuple):
    """What files are made and measured with: lines of manifests, and trial lists."""

    calibration: Rows  # of training
    held_out: Rows  # of none
    corpus: Corpus

    @classmethod
    def of(cls, manifests: Path) -> Speech:
        """The training and validation speech of a corpus, and all its trial lists."""
        corpus = Corpus.read(manifests)
        train, held_out = (
            list(read_manifest(manifests / f"{part}.csv")) for part in ("train", "valid")
        )
        return cls(train, held_out, corpus)


def write_engine_files(
    encoder: SpeakerEncoder,
    folder: Path,
    precisions: Sequence[str],
    speech: Speech,
    comment: str,
) -> list[dict[str, Any]]:
    """Write ``waveform.onnx`` and its like into a folder.

    ``speaker-embedding.onnx`` reads features, for engines that compute them: only a student of
    Kaldi's filter bank has one, since no engine computes other features.

    Arguments
    ---------
    encoder : SpeakerEncoder
        The encoder, in eval mode on the CPU.
    folder : Path
        Where the files go.
    precisions : sequence of str
        ``fp32``, ``fp16``, ``int8``.
    speech : Speech
        The training speech scales the activations of INT8. On the rest every file is compared with
        PyTorch.
    comment : str
        What the model is, in a line, for the files' metadata.

    Returns
    -------
    list of dict
        Of each file ``file``, ``precision``, ``input``, ``bytes``, ``in_float``, the layers of INT8
        that are in FP32, ``parity``, what :func:`~speechbrain_ext.export.parity.compare` found, and
        ``trials``, what :func:`~speechbrain_ext.export.parity.compare_decisions` did.

    Raises
    ------
    UserError
        When the network cannot be written as a graph, there is too little speech for INT8, or a
        file is not near enough to PyTorch.
    """
    front_end, facts = encoder.compute_features, engine_facts(encoder, comment)
    if "int8" in precisions and len(speech.calibration) < LEAST_CALIBRATION:
        raise UserError(
            f"{speech.corpus.manifests}/train.csv has {len(speech.calibration)} utterances, and "
            f"INT8 is scaled by {LEAST_CALIBRATION} or more: give the folder of a larger corpus by "
            "--manifests, or leave int8 out of --formats",
            code="few-files",
        )
    sound = joined_speech(speech.held_out)
    files: list[dict[str, Any]] = []
    wholes: dict[str, Callable[..., Tensor]] = {"pytorch": encoder}
    with tempfile.TemporaryDirectory() as name:
        parts = Path(name)
        write_embedding_graph(encoder, parts / "fp32.onnx")
        reads_waveforms = isinstance(front_end, Waveforms)
        if not reads_waveforms:
            write_front_end_graph(encoder, parts / "front_end.onnx")
        for precision in precisions:
            graph, whole = parts / f"{precision}.onnx", parts / f"waveform_{precision}.onnx"
            in_float: list[str] = []
            if precision == "fp16":
                halve(parts / "fp32.onnx", graph)
            if precision == "int8":
                in_float = _quantise(encoder, parts / "fp32.onnx", graph, speech, sound)
            if reads_waveforms:
                shutil.copy(graph, whole)
            else:
                join_graphs(parts / "front_end.onnx", graph, whole)
            candidates = {WAVEFORM: (whole, GraphEncoder(whole))}
            wholes[precision] = candidates[WAVEFORM][1]
            if isinstance(front_end, KaldiFbank):
                candidates[FEATURES] = (graph, GraphEncoder(graph, front_end))
            for stem, (draft, found) in candidates.items():
                path = folder / (stem + ENDINGS[precision])
                parity = compare(encoder, found, sound)
                _check(path.name, precision, parity)
                save_graph(onnx.load(draft), path, facts)
                files.append(
                    {
                        "file": path.name,
                        "precision": precision,
                        "input": "waveform" if stem == WAVEFORM else "features",
                        "bytes": path.stat().st_size,
                        "in_float": in_float,
                        "parity": parity,
                    }
                )
        # What reads features decides as what computes them itself.
        decisions = compare_decisions(wholes, speech.corpus)
        for file in files:
            file["trials"] = decisions[file["precision"]]
            _check_decisions(file)
    return files


def _quantise(
    encoder: SpeakerEncoder, fp32: Path, path: Path, speech: Speech, sound: Tensor
) -> list[str]:
    """Leave those layers in FP32 without which the graph is not near enough to PyTorch."""
    given = list(_features(encoder, speech.calibration))
    in_float: list[str] = []
    costly: list[str] = []
    while True:
        quantise(fp32, path, given, in_float)
        parity = compare(encoder, GraphEncoder(path, encoder.compute_features), sound)
        near = min(each["cosine"] for each in parity) >= LEAST_COSINE["int8"]
        if near or len(in_float) == MOST_IN_FLOAT:
            return in_float
        costly = costly or by_loss(fp32, given[:4])
        in_float.append(costly[len(in_float)])


def _features(encoder: SpeakerEncoder, rows: Rows) -> Iterator[np.ndarray]:
    """Features (1, T, F) of some utterances, the same in every export."""
    chosen = random.Random(0).sample(list(rows), min(CALIBRATION, len(rows)))
    for row in chosen:
        with tell_unusable(row["wav"]), torch.no_grad():
            wav = read_utterance(row["wav"], int(row["start"]), int(row["stop"]))
            yield encoder.compute_features(wav.unsqueeze(0)).numpy()


def _check_decisions(file: dict[str, Any]) -> None:
    for trials in file["trials"]:
        between = trials["difference_interval_95"]
        if between is not None and between[0] > MOST_POINTS:
            raise UserError(
                f"{file['file']} would decide worse than PyTorch (EER on {trials['title']} "
                f"{trials['difference']:+.2f} points, 95 % interval from {between[0]:+.2f}): leave "
                f"{file['precision']} out of --formats",
                code="other-embeddings",
            )


def _check(file: str, precision: str, parity: list[dict[str, float]]) -> None:
    worst = min(parity, key=lambda figures: figures["cosine"])
    if not worst["cosine"] >= LEAST_COSINE[precision]:
        raise UserError(
            f"{file} would give other embeddings than PyTorch (cosine {worst['cosine']:.5f} at "
            f"{worst['seconds']:g} s, at least {LEAST_COSINE[precision]} is asked): leave "
            f"{precision} out of --formats",
            code="other-embeddings",
        )
