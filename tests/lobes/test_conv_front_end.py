"""The convolutional front end: the numbers of transformers' models, for each utterance alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.lobes import conv_front_end
from speechbrain_ext.lobes.conv_front_end import ConvFrontEnd, FrameConv

BOTH_SIDES_OF_A_FRAME = [400, 401, 719, 720, 721, 1039, 1040, 4800, 9999]


def transformers_model(architecture: str, norm: str, bias: bool) -> Any:
    """A model with real kernels and strides, few channels, and norms that are not at one."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(
        feat_extract_norm=norm,
        conv_bias=bias,
        conv_dim=[16] * 7,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    model = getattr(transformers, f"{architecture}Model")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def weights_of(model: Any) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for index, layer in enumerate(model.feature_extractor.conv_layers):
        for key, value in layer.conv.state_dict().items():
            weights[f"convs.{index}.{key}"] = value
        if hasattr(layer, "layer_norm"):
            for key, value in layer.layer_norm.state_dict().items():
                weights[f"norms.{index}.{key}"] = value
    for key, value in model.feature_projection.layer_norm.state_dict().items():
        weights[f"norm.{key}"] = value
    return weights


def make_front_end(**settings: Any) -> ConvFrontEnd:
    """A small one, all whose numbers have moved from where they start."""
    torch.manual_seed(0)
    front_end = ConvFrontEnd(channels=16, **settings)
    with torch.no_grad():
        for parameter in front_end.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return front_end


@pytest.mark.parametrize("architecture", ["WavLM", "Hubert", "Wav2Vec2"])
@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_numbers_of_transformers(architecture: str, norm: str, bias: bool) -> None:
    model = transformers_model(architecture, norm, bias)
    front_end = ConvFrontEnd(channels=16, bias=bias, layer_norm=norm == "layer")
    front_end.load_state_dict(weights_of(model))
    samples = torch.tensor([16000, 9999, 400])
    wavs = 0.1 * torch.randn(3, 16000) + 0.02
    together = front_end(wavs, samples / 16000)
    for wav, count, found in zip(wavs, samples, together, strict=True):
        alone = F.layer_norm(wav[None, :count], (int(count),))
        expected = model.feature_extractor(alone).transpose(1, 2)
        expected = model.feature_projection.layer_norm(expected)[0]
        assert len(expected) == front_end.num_frames(count)
        torch.testing.assert_close(found[: len(expected)], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("padding", [1e6, float("nan")])
@torch.no_grad()
def test_padding_changes_nothing(layer_norm: bool, normalize: bool, padding: float) -> None:
    front_end = make_front_end(layer_norm=layer_norm, normalize=normalize)
    samples = torch.tensor([*BOTH_SIDES_OF_A_FRAME, 10_000])
    wavs = 0.1 * torch.randn(len(samples), 10_000)
    for wav, count in zip(wavs, samples, strict=True):
        wav[count:] = padding
    together = front_end(wavs, samples / 10_000)
    assert together.isfinite().all()
    for wav, count, found in zip(wavs, samples, together, strict=True):
        alone = front_end(wav[None, :count])[0]
        assert len(alone) == front_end.num_frames(count)
        torch.testing.assert_close(found[: len(alone)], alone, atol=1e-4, rtol=0)


@torch.no_grad()
def test_normalised_waveforms_have_no_level_nor_offset() -> None:
    wavs, lengths = 0.1 * torch.randn(2, 8000), torch.tensor([1.0, 0.5])
    louder = 100 * wavs + 3
    # Without a norm over time, a level would remain after the first convolution.
    for settings, same in (({}, True), ({"normalize": False, "bias": True}, False)):
        front_end = make_front_end(**settings)
        similar = torch.allclose(front_end(louder, lengths), front_end(wavs, lengths), atol=0.01)
        assert similar == same


def test_shorter_than_a_frame() -> None:
    front_end = make_front_end()
    assert front_end.receptive_field == 400 and front_end.output_size == 16
    with pytest.raises(ValueError, match="399 samples, and a frame needs 400"):
        front_end(torch.randn(2, 399))
    # In a longer batch it has the one frame that it begins.
    assert front_end.num_frames(torch.tensor([1, 399])).tolist() == [1, 1]
    assert front_end(torch.randn(2, 4000), torch.tensor([1.0, 0.05])).isfinite().all()


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kernels=\[10, 3\] and strides=\[5\]"):
        ConvFrontEnd(kernels=[10, 3], strides=[5])


def test_settings_and_names_of_weights() -> None:
    front_end = ConvFrontEnd(8, kernels=[10, 3], strides=[5, 2], bias=True, layer_norm=False)
    assert front_end.settings == {
        "channels": 8,
        "kernels": (10, 3),
        "strides": (5, 2),
        "bias": True,
        "layer_norm": False,
        "normalize": True,
    }
    shapes = {key: tuple(value.shape) for key, value in front_end.state_dict().items()}
    assert shapes == {
        "convs.0.weight": (8, 1, 10),
        "convs.0.bias": (8,),
        "convs.1.weight": (8, 8, 3),
        "convs.1.bias": (8,),
        "norms.0.weight": (8,),
        "norms.0.bias": (8,),
        "norm.weight": (8,),
        "norm.bias": (8,),
    }
    # Of the base models, by hand: a norm after the first convolution, and the last.
    weights = 512 * 10 + 4 * 3 * 512**2 + 2 * 2 * 512**2 + 2 * 512 + 2 * 512
    base = ConvFrontEnd(layer_norm=False)
    assert sum(parameter.numel() for parameter in base.parameters()) == weights


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (3, 1), (2, 3), (5, 2)])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_frame_conv_learns_as_conv1d(kernel: int, stride: int, channels: int, bias: bool) -> None:
    layer = FrameConv(channels, 6, kernel, stride, bias=bias)
    for time in (kernel, 40, 41):
        x = torch.randn(3, time, channels, requires_grad=True)
        expected = F.conv1d(x.transpose(1, 2), layer.weight, layer.bias, stride).transpose(1, 2)
        found = layer(x)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        to = [x, *layer.parameters()]
        torch.testing.assert_close(
            torch.autograd.grad(found.square().sum(), to),
            torch.autograd.grad(expected.square().sum(), to),
            atol=1e-4,
            rtol=1e-4,
        )


def test_a_frozen_front_end_learns_nothing() -> None:
    trainable, frozen = make_front_end(), make_front_end(trainable=False)
    frozen.load_state_dict(trainable.state_dict())
    wavs = torch.randn(2, 4000, requires_grad=True)
    found = frozen.train()(wavs)
    assert not found.requires_grad and not any(p.requires_grad for p in frozen.parameters())
    assert trainable(wavs).requires_grad and all(p.requires_grad for p in trainable.parameters())
    assert torch.equal(found, trainable(wavs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer_norm", [True, False])
@torch.no_grad()
def test_normalisation_is_in_float32_under_autocast(dtype: torch.dtype, layer_norm: bool) -> None:
    front_end = make_front_end(layer_norm=layer_norm)
    # In half precision nothing of the waveform would be left beside its offset.
    wavs, lengths = 0.1 * torch.randn(2, 8000) + 1000, torch.tensor([1.0, 0.5])
    expected = front_end(wavs, lengths)
    with torch.autocast("cpu", dtype=dtype):
        found = front_end(wavs, lengths)
    assert torch.cosine_similarity(found.float(), expected, dim=-1)[0].min() > 0.99


@pytest.mark.parametrize("layer_norm", [True, False])
def test_no_graph_break(layer_norm: bool) -> None:
    front_end: nn.Module = make_front_end(layer_norm=layer_norm)
    compiled = torch.compile(front_end, fullgraph=True, dynamic=True, backend="eager")
    lengths = torch.tensor([1.0, 0.5])
    for count in (4000, 6001):
        wavs = torch.randn(2, count)
        # First, because SpeechBrain makes what holds a layer in float32 at its first call.
        expected = front_end(wavs, lengths)
        torch.testing.assert_close(compiled(wavs, lengths), expected)


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("samples", [400, 719, 720, 16000, 16321])
def test_pieces_change_nothing(
    layer_norm: bool, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    front_end = ConvFrontEnd(channels=8, layer_norm=layer_norm).eval()
    wavs = torch.randn(3, samples)
    lengths = torch.tensor([1.0, 0.9, 0.5])
    whole = front_end(wavs, lengths).detach()  # gradients are wanted: in one piece
    for frames in (1, 7, 10_000):
        monkeypatch.setattr(conv_front_end, "PIECE", 320 * 3 * 8 * frames)
        with torch.no_grad():
            torch.testing.assert_close(front_end(wavs, lengths), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_moments_of_a_convolution_that_is_not_made(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = FrameConv(2, 6, kernel_size=10, stride=5)
    x, counts = torch.randn(3, 800, 2) + offset, torch.tensor([159, 60, 1])
    expected = conv.double()(x.double())
    for stretch in (1000, 7):
        monkeypatch.setattr(conv_front_end, "STRETCH", stretch)
        mean, variance = conv.float().moments(x, counts)
        for row, count in enumerate(counts):
            frames = expected[row, :count]
            torch.testing.assert_close(mean[row, 0], frames.mean(dim=0).float())
            variance_of = frames.var(dim=0, correction=0).float()
            torch.testing.assert_close(variance[row, 0], variance_of, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_an_hour_needs_no_more_memory_in_the_convolutions_than_a_minute(layer_norm: bool) -> None:
    front_end, largest = ConvFrontEnd(channels=8, layer_norm=layer_norm).eval(), 0

    def look(layer: object, inputs: object, output: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.numel())

    front_end.convs[0].register_forward_hook(look)
    with torch.no_grad():
        features = front_end(torch.zeros(1, 3600 * 16000))
    assert features.shape == (1, 179_999, 8)
    assert largest <= 1.01 * conv_front_end.PIECE / 5
