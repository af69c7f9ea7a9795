"""Models that come as one file, taken as lobes: what they read, padding, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.lobes.contract import check_encoder
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import PassThrough, Waveforms
from speechbrain_ext.lobes.foreign import ForeignModel, OnnxModel, TorchScriptModel
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.lobes.ssl_systems import make_waveforms
from tests.refusals import refused

WESPEAKER = {"framework": "wespeaker", "output_dim": "6", "sample_rate": "16000"}


class Pooled(nn.Module):
    """Mean and deviation of what a layer makes of each frame, (B, T, F) to (B, 6)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(size, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(0.1 * self.layer(x))
        return torch.cat([y.mean(dim=1), y.std(dim=1)], dim=1)


class PooledWaveform(Pooled):
    """The same of blocks of 40 samples."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, : x.shape[1] // 40 * 40].reshape(x.shape[0], -1, 40))


def export(
    path: Path,
    network: nn.Module,
    example: Tensor,
    metadata: dict[str, str] | None = None,
    name: str = "feats",
    dynamic: bool = True,
) -> Path:
    """Write an ONNX file, with metadata or without."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    axes = {name: {0: "B", 1: "T"}} if dynamic else {name: {1: "T"}}
    torch.onnx.export(
        network.eval(), (example,), path, input_names=[name], dynamic_axes=axes, dynamo=False
    )
    model = onnx.load(path)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def features(**arguments: Any) -> Callable[[Tensor], Tensor]:
    front_end, norm = KaldiFbank(**arguments), UtteranceNorm(std_norm=False)
    return lambda wavs: norm(front_end(wavs))


HAMMING = {"window": "hamming", "scale": 32768.0}


@pytest.mark.parametrize(
    ("metadata", "name", "arguments"),
    [
        (WESPEAKER, "x", HAMMING),
        ({**WESPEAKER, "normalize_samples": "1"}, "x", {"window": "hamming"}),
        ({"framework": "3d-speaker"}, "x", {}),
        ({}, "feats", HAMMING),
        ({}, "feature", {}),
    ],
)
@pytest.mark.parametrize("dynamic", [True, False])
def test_onnx_that_reads_features(
    metadata: dict[str, str], name: str, arguments: dict[str, Any], dynamic: bool, tmp_path: Path
) -> None:
    """A file says which, by its metadata or by the name of its input."""
    network, example = Pooled(80).eval(), torch.randn(1, 50, 80)
    path = export(tmp_path / "model.onnx", network, example, metadata, name, dynamic)
    lobe = OnnxModel(path)
    wavs = make_waveforms(3, 16000)
    with torch.no_grad():
        expected = network(features(**arguments)(wavs))
    assert lobe.embedding_size == 6 and lobe.layers == {}
    torch.testing.assert_close(lobe(wavs).squeeze(1), expected, atol=1e-5, rtol=1e-4)


def test_onnx_that_reads_waveforms(tmp_path: Path) -> None:
    network = PooledWaveform(40)
    lobe = OnnxModel(export(tmp_path / "model.onnx", network, torch.randn(1, 800), name="wav"))
    wavs = make_waveforms(2, 16000)
    with torch.no_grad():
        torch.testing.assert_close(lobe(wavs).squeeze(1), network(wavs), atol=1e-5, rtol=1e-4)


def make_scripted(path: Path) -> TorchScriptModel:
    torch.jit.save(torch.jit.script(Pooled(80).eval()), path)
    return TorchScriptModel(path, framework="3d-speaker")


def test_torchscript(tmp_path: Path) -> None:
    lobe, wavs = make_scripted(tmp_path / "model.pt"), make_waveforms(2, 16000)
    with torch.no_grad():
        expected = Pooled(80)(features()(wavs))
    torch.testing.assert_close(lobe(wavs).squeeze(1), expected, atol=1e-5, rtol=1e-4)


@pytest.fixture(params=["onnx", "torchscript"])
def lobe(request: pytest.FixtureRequest, tmp_path: Path) -> ForeignModel:
    if request.param == "torchscript":
        return make_scripted(tmp_path / "model.pt")
    return OnnxModel(export(tmp_path / "model.onnx", Pooled(80), torch.randn(1, 50, 80), WESPEAKER))


def test_it_keeps_the_contract(lobe: ForeignModel) -> None:
    check_encoder(SpeakerEncoder(Waveforms(), PassThrough(), lobe), make_waveforms(2, 16000))
    samples = torch.tensor([16000, 9000, 4800, 9000])
    wavs = make_waveforms(4, 16000)
    together = lobe(wavs, samples / 16000)
    for found, wav, count in zip(together, wavs, samples, strict=True):
        torch.testing.assert_close(found, lobe(wav[None, :count])[0], atol=1e-5, rtol=0)
    assert not lobe.train().training and not together.requires_grad


def test_its_weights_are_all_of_it(lobe: ForeignModel) -> None:
    """What an experiment folder keeps, without the file."""
    wavs = make_waveforms(2, 8000)
    other = type(lobe)(**lobe.build_arguments)
    other.load_state_dict(lobe.state_dict())
    assert torch.equal(other(wavs), lobe(wavs))
    for copied in (copy.deepcopy(lobe), pickle.loads(pickle.dumps(lobe))):
        assert torch.equal(copied(wavs), lobe(wavs))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feature_normalize_type", "per_feature"),
        ("normalize_samples", "2"),
        ("window_type", "hann"),
        ("window_stride_ms", "20"),
    ],
)
def test_a_file_of_other_features_is_refused(key: str, value: str, tmp_path: Path) -> None:
    example = torch.randn(1, 50, 80)
    path = export(tmp_path / "m.onnx", Pooled(80), example, {**WESPEAKER, key: value})
    with refused("bad-model", path, f"{key} {value}"):
        OnnxModel(path)
    known = {"feature_normalize_type": "global-mean", "window_type": "hamming"}
    OnnxModel(export(path, Pooled(80), example, {**WESPEAKER, **known}))


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    broken, feats = tmp_path / "broken.onnx", torch.randn(1, 50, 80)
    broken.write_bytes(b"no model")
    with refused("missing-file", tmp_path / "none.onnx"):
        OnnxModel(tmp_path / "none.onnx")
    with refused("bad-model", broken, "TorchScript"):
        TorchScriptModel(broken, framework="waveform")
    pytest.importorskip("onnxruntime")
    with refused("bad-model", broken, "ONNX"):
        OnnxModel(broken)

    def written(metadata: dict[str, str], name: str = "feats") -> Path:
        return export(tmp_path / "model.onnx", Pooled(80), feats, metadata, name)

    with refused("bad-model", "model.onnx", "output_dim 7", "6"):
        OnnxModel(written({**WESPEAKER, "output_dim": "7"}))
    with refused("bad-model", "model.onnx", "8000 Hz"):
        OnnxModel(written({**WESPEAKER, "sample_rate": "8000"}))
    with refused("bad-model", "model.onnx", "'nemo'", "--framework wespeaker"):
        OnnxModel(written({"framework": "nemo"}))
    with refused("bad-model", "model.onnx", "does not say what it reads", "--framework"):
        OnnxModel(written({}, name="input"))
    with refused("bad-model", "model.onnx", "3d-speaker", "--framework"):
        OnnxModel(written(WESPEAKER), framework="3d-speaker", n_mels=40)
    path = export(tmp_path / "nan.onnx", NotFinite(80), feats, WESPEAKER)
    with refused("bad-model", path, "not finite"):
        OnnxModel(path)


class NotFinite(Pooled):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0.0 * 0.0


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "two.onnx"

    class Two(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return (x * lengths[:, None, None]).mean(dim=1)

    torch.onnx.export(
        Two().eval(),
        (torch.randn(1, 50, 80), torch.ones(1)),
        path,
        input_names=["feats", "lengths"],
        dynamo=False,
    )
    with refused("bad-model", path, "2 inputs (feats, lengths)"):
        OnnxModel(path)
