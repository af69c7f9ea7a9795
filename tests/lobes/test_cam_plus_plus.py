"""CAM++ against a plain reading of it, written for one whole utterance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.lobes.cam_plus_plus import CAMPlusPlus
from tests.lobes.published_networks import randomise_norms

State = dict[str, Tensor]


def norm(state: State, name: str, x: Tensor) -> Tensor:
    weights = [
        state.get(f"{name}.{key}") for key in ("running_mean", "running_var", "weight", "bias")
    ]
    mean, variance, weight, bias = weights
    return F.batch_norm(x, mean, variance, weight, bias)


def residual(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=(stride, 1), padding=1)
    y = F.conv2d(F.relu(norm(state, f"{name}.bn1", y)), state[f"{name}.conv2.weight"], padding=1)
    if stride > 1:
        x = F.conv2d(x, state[f"{name}.shortcut.0.weight"], stride=(stride, 1))
        x = norm(state, f"{name}.shortcut.1", x)
    return F.relu(norm(state, f"{name}.bn2", y) + x)


def dense_layer(state: State, name: str, x: Tensor, dilation: int) -> Tensor:
    x = F.relu(norm(state, f"{name}.nonlinear1.batchnorm", x))
    x = F.conv1d(x, state[f"{name}.linear1.weight"])
    x = F.relu(norm(state, f"{name}.nonlinear2.batchnorm", x))
    cam = f"{name}.cam_layer"
    local = F.conv1d(x, state[f"{cam}.linear_local.weight"], padding=dilation, dilation=dilation)
    columns = []
    for frame in range(x.shape[2]):
        segment = x[:, :, frame // 100 * 100 : (frame // 100 + 1) * 100]
        context = x.mean(dim=2, keepdim=True) + segment.mean(dim=2, keepdim=True)
        context = F.conv1d(context, state[f"{cam}.linear1.weight"], state[f"{cam}.linear1.bias"])
        context = F.relu(context)
        columns.append(
            F.conv1d(context, state[f"{cam}.linear2.weight"], state[f"{cam}.linear2.bias"])
        )
    return local * torch.sigmoid(torch.cat(columns, dim=2))


def plain(state: State, feats: Tensor, blocks: list[tuple[int, int]]) -> Tensor:
    """Embeddings (B, D) of whole utterances (B, T, F)."""
    x = F.conv2d(feats.transpose(1, 2)[:, None], state["head.conv1.weight"], padding=1)
    x = F.relu(norm(state, "head.bn1", x))
    for name in ("layer1", "layer2"):
        x = residual(state, f"head.{name}.0", x, stride=2)
        x = residual(state, f"head.{name}.1", x, stride=1)
    x = F.conv2d(x, state["head.conv2.weight"], stride=(2, 1), padding=1)
    x = F.relu(norm(state, "head.bn2", x)).flatten(1, 2)
    x = F.conv1d(x, state["xvector.tdnn.linear.weight"], stride=2, padding=2)
    x = F.relu(norm(state, "xvector.tdnn.nonlinear.batchnorm", x))
    for index, (layers, dilation) in enumerate(blocks, start=1):
        for layer in range(1, layers + 1):
            added = dense_layer(state, f"xvector.block{index}.tdnnd{layer}", x, dilation)
            x = torch.cat([x, added], dim=1)
        x = F.relu(norm(state, f"xvector.transit{index}.nonlinear.batchnorm", x))
        x = F.conv1d(x, state[f"xvector.transit{index}.linear.weight"])
    x = F.relu(norm(state, "xvector.out_nonlinear.batchnorm", x))
    pooled = torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1)
    pooled = pooled @ state["xvector.dense.linear.weight"].squeeze(2).T
    return norm(state, "xvector.dense.nonlinear.batchnorm", pooled)


@pytest.mark.parametrize("frames", [4, 199, 200, 201, 437])
def test_whole_utterances_are_embedded_as_published(frames: int) -> None:
    torch.manual_seed(0)
    blocks = [(2, 1), (3, 2)]
    lobe = randomise_norms(
        CAMPlusPlus(16, 8, growth=8, channels=16, num_layers=(2, 3), dilations=(1, 2))
    )
    feats = torch.randn(2, frames, 16)
    with torch.no_grad():
        expected = plain(lobe.state_dict(), feats, blocks)
        for lengths in (None, torch.ones(2)):
            found = lobe(feats, lengths).squeeze(1)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_size_and_names_are_the_published() -> None:
    lobe = CAMPlusPlus(80, lin_neurons=192)
    assert sum(parameter.numel() for parameter in lobe.parameters()) == 6_848_544
    shapes = {name: list(value.shape) for name, value in lobe.state_dict().items()}
    assert len(shapes) == 937
    assert shapes["head.layer2.0.shortcut.0.weight"] == [32, 32, 1, 1]
    assert shapes["xvector.tdnn.linear.weight"] == [128, 320, 5]
    assert shapes["xvector.block2.tdnnd24.cam_layer.linear_local.weight"] == [32, 128, 3]
    assert shapes["xvector.transit3.linear.weight"] == [512, 1024, 1]
    assert shapes["xvector.dense.linear.weight"] == [192, 1024, 1]
    assert shapes["xvector.dense.nonlinear.batchnorm.running_var"] == [192]
    assert "xvector.dense.nonlinear.batchnorm.weight" not in shapes


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="input_size=81"):
        CAMPlusPlus(81)
    with pytest.raises(ValueError, match=r"dilations=\[1\]"):
        CAMPlusPlus(80, num_layers=(2, 2), dilations=(1,))
