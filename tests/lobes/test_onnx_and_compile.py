"""The lobes leave PyTorch's eager mode: ONNX with dynamic batch and time, and torch.compile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.lobes.ecapa import PaddedECAPA
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.redimnet import ReDimNet, ReDimSize
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.nnet.redim import ResNetBlock, StageSetup
from tests.lobes.systems import ENCODERS, OWN_ENCODERS, make_encoder, make_input, make_lobe

pytestmark = pytest.mark.slow

STAGES = (StageSetup(1, 1, context=8), StageSetup(2, 1, expansion=2, context=8))
PUBLISHED: dict[str, Callable[[], Lobe]] = {
    "padded_ecapa": lambda: PaddedECAPA(80, [16, 16, 16, 16, 48], 8),
    "redimnet": lambda: ReDimNet(80, ReDimSize(20, 4, ResNetBlock, 1, STAGES), 8),
}


def make_published(name: str) -> SpeakerEncoder:
    torch.manual_seed(0)
    return SpeakerEncoder(LogMel(), UtteranceNorm(), PUBLISHED[name]()).eval()


def export(name: str, path: Path, dynamo: bool) -> nn.Module:
    """Export with lengths, batch and time free; traced at 2 utterances of 60 frames."""
    lobe = make_lobe(name)
    shortest = make_input(name, 1, 2).shape[1]
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", min=shortest)
    free: dict[str, Any]
    if dynamo:
        free = {"dynamic_shapes": ({0: batch, 1: time}, {0: batch})}
    else:
        free = {"dynamic_axes": {"feats": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}}
    torch.onnx.export(
        lobe,
        (make_input(name, 2, 60), torch.tensor([1.0, 0.5])),
        path,
        input_names=["feats", "lengths"],
        output_names=["embedding"],
        dynamo=dynamo,
        verbose=False,
        **free,
    )
    return lobe


# The newer exporter unrolls an LSTM over the frames of its example.
DYNAMO = ["mixer", "token_mlp", "quarter", "v5", "sincnet"]


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [(name, False) for name in OWN_ENCODERS] + [(name, True) for name in DYNAMO],
)
def test_onnx_with_dynamic_batch_and_time(name: str, dynamo: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    lobe = export(name, tmp_path / "lobe.onnx", dynamo)
    session = onnxruntime.InferenceSession(tmp_path / "lobe.onnx")
    for batch, time in ((2, 60), (1, 37), (5, 211)):
        feats = make_input(name, batch, time)
        lengths = torch.linspace(0.3, 1, batch) if batch > 1 else torch.ones(1)
        with torch.no_grad():
            expected = lobe(feats, lengths)
        (found,) = session.run(None, {"feats": feats.numpy(), "lengths": lengths.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)


# GE2E reads spectra and teaches; SpeechBrain's own ECAPA-TDNN looks at the batch of the example.
@pytest.mark.parametrize("name", [*sorted({*ENCODERS} - {"mel_power", "ecapa_tdnn"}), *PUBLISHED])
def test_the_graph_for_engines_has_dynamic_batch_and_time(name: str, tmp_path: Path) -> None:
    """It has no lengths; the published networks that students are compared with have one too."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from speechbrain_ext.export.graphs import write_embedding_graph

    encoder = make_published(name) if name in PUBLISHED else make_encoder(name)
    write_embedding_graph(encoder, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (key,) = (given.name for given in session.get_inputs())
    for batch, seconds in ((2, 2), (3, 0.5), (1, 3)):
        wavs = 0.1 * torch.randn(batch, round(seconds * 16000))
        with torch.no_grad():
            feats, expected = encoder.compute_features(wavs), encoder(wavs)[:, 0]
        (found,) = session.run(None, {key: feats.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)


# Inductor takes minutes of a core for the four; without it, the same graphs are captured and run.
@pytest.mark.parametrize(
    ("name", "padded", "backend"),
    [
        ("mixer", False, "aot_eager"),
        ("mixer", True, "aot_eager"),
        ("v5", False, "aot_eager"),
        ("v5", True, "inductor"),
    ],
)
def test_compiled_student(name: str, padded: bool, backend: str) -> None:
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler")
    lobe = make_lobe(name)
    compiled = torch.compile(lobe, fullgraph=True, dynamic=True, backend=backend)
    lengths = torch.tensor([1.0, 0.5]) if padded else None
    # SpeechBrain's fwd_default_precision makes what it calls at the first call, which a full graph
    # cannot hold.
    with torch.no_grad():
        lobe(torch.randn(2, 40, 80), lengths)
    for time in (40, 61):
        feats = torch.randn(2, time, 80)
        with torch.no_grad():
            found, expected = compiled(feats, lengths), lobe(feats, lengths)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OWN_ENCODERS)
def test_the_graph_has_no_branch_on_data(name: str) -> None:
    encoder = make_encoder(name)
    wavs, lengths = 0.1 * torch.randn(2, 16000), torch.tensor([1.0, 0.6])
    program = torch.export.export(encoder, (wavs, lengths))
    with torch.no_grad():
        found, expected = program.module()(wavs, lengths), encoder(wavs, lengths)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
