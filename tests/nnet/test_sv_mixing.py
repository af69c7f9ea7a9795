"""SV-Mixer's mixers against their parts put together by hand, utterance by utterance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.masking import frame_mask
from speechbrain_ext.nnet.sv_mixing import (
    LocalGlobalMixing,
    MultiScaleMixing,
    double_rate,
    halve_rate,
)
from tests.nnet.mixer_contract import (
    check_bf16,
    check_gradients,
    check_onnx,
    check_padding,
    padded,
)

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "local_global": partial(LocalGlobalMixing, num_tokens=20, groups=4),
    "wide_local_global": partial(LocalGlobalMixing, num_tokens=20, kernel_size=7),
    "multi_scale": partial(MultiScaleMixing, groups=4),
}


def interpolated(x: Tensor) -> Tensor:
    """PyTorch's interpolation along time of (B, T, C) to twice as many frames."""
    wide = F.interpolate(x.transpose(1, 2), scale_factor=2, mode="linear", align_corners=False)
    return wide.transpose(1, 2)


@pytest.mark.parametrize("time", [1, 7, 20, 45])
def test_local_global_is_convolution_and_token_mlp(time: int) -> None:
    mixer = LocalGlobalMixing(16, num_tokens=20, groups=4).eval()
    conv = nn.Conv1d(16, 16, 3, padding=1, groups=4)
    weights = mixer.conv.state_dict()
    conv.load_state_dict({"weight": weights["weight"].squeeze(2), "bias": weights["bias"]})
    x = torch.randn(3, time, 16)
    y = conv(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(mixer(x), y + mixer.token_mlp(y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("time", [2, 10, 50])
def test_multi_scale_is_two_mlps(time: int) -> None:
    mixer = MultiScaleMixing(16, groups=4).eval()
    x = torch.randn(3, time, 16)
    slow = mixer.half_rate((x[:, ::2] + x[:, 1::2]) / 2)
    torch.testing.assert_close(mixer(x), mixer.full_rate(x) + interpolated(slow))


@pytest.mark.parametrize("time", [1, 3, 11])
def test_an_odd_last_frame_is_pooled_alone(time: int) -> None:
    x = torch.randn(2, time, 4)
    expected = halve_rate(torch.cat([x, x[:, -1:]], dim=1))
    torch.testing.assert_close(halve_rate(x), expected)
    torch.testing.assert_close(double_rate(expected), interpolated(expected))


@pytest.mark.parametrize("time", [1, 2, 12, 13])
def test_rates_know_where_an_utterance_ends(time: int) -> None:
    mask = frame_mask(torch.arange(1, time + 1) / time, time)
    x = torch.randn(time, time, 4) * mask
    pairs = halve_rate(x, mask)
    slow = torch.randn_like(pairs)
    doubled = double_rate(slow, mask)
    for frames in range(1, time + 1):
        row, half = frames - 1, (frames + 1) // 2
        expected = halve_rate(x[row : row + 1, :frames])[0]
        torch.testing.assert_close(pairs[row, :half], expected)
        expected = interpolated(slow[row : row + 1, :half])[0, :frames]
        torch.testing.assert_close(doubled[row, :frames], expected)


@pytest.mark.parametrize("name", MIXERS)
def test_contract(name: str) -> None:
    check_padding(MIXERS[name](16), 16, times=(1, 2, 19, 20, 21, 61, 62))
    check_gradients(MIXERS[name](16), 16)
    check_bf16(MIXERS[name](16), 16)


@pytest.mark.parametrize("name", MIXERS)
def test_every_length_from_one_frame_on(name: str) -> None:
    mixer = MIXERS[name](16).eval()
    mask = frame_mask(torch.arange(1, 48) / 47, 47)
    x = torch.randn(47, 47, 16) * mask
    together = mixer(x, mask)
    for frames in range(1, 48):
        alone = mixer(x[frames - 1 : frames, :frames])[0]
        torch.testing.assert_close(together[frames - 1, :frames], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MIXERS)
def test_onnx(name: str, tmp_path: Path) -> None:
    check_onnx(MIXERS[name](16), 16, tmp_path)


@pytest.mark.parametrize("name", MIXERS)
def test_dropout_in_training_only(name: str) -> None:
    mixer, (x, mask) = MIXERS[name](16, dropout=0.5), padded(2, 20, 16)
    assert not torch.equal(mixer(x, mask), mixer(x, mask))
    mixer.eval()
    assert torch.equal(mixer(x, mask), mixer(x, mask))


@pytest.mark.parametrize("mixer", [LocalGlobalMixing, MultiScaleMixing])
def test_groups_that_do_not_divide_are_refused(mixer: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="groups=5"):
        mixer(16, groups=5)


@pytest.mark.parametrize("size", [-1, 0, 4])
def test_a_kernel_without_a_middle_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"kernel_size={size}"):
        LocalGlobalMixing(16, kernel_size=size)
