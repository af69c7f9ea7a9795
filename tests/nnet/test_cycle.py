"""The cycle layer against its definition, one channel and one frame at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from speechbrain_ext.nnet.cycle import CycleLinear
from tests.nnet.mixer_contract import check_bf16, check_gradients, check_onnx, check_padding


def by_definition(mixer: CycleLinear, x: Tensor, cycle: int) -> Tensor:
    """What the layer computes from (B, T, C), frame by frame."""
    read = torch.zeros_like(x)
    for channel in range(x.shape[2]):
        offset = (channel + cycle // 2) % cycle - cycle // 2
        for frame in range(x.shape[1]):
            if 0 <= frame + offset < x.shape[1]:
                read[:, frame, channel] = x[:, frame + offset, channel]
    return read @ mixer.linear.weight.T + mixer.linear.bias


@pytest.mark.parametrize("cycle", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("time", [1, 2, 12])
def test_reads_what_the_definition_says(cycle: int, time: int) -> None:
    mixer, x = CycleLinear(8, cycle), torch.randn(2, time, 8)
    torch.testing.assert_close(mixer(x), by_definition(mixer, x, cycle))


def test_offsets_of_three_frames() -> None:
    assert CycleLinear(7).offsets.tolist() == [0, 1, -1, 0, 1, -1, 0]


def test_a_frame_sees_its_neighbours_alone() -> None:
    mixer, x = CycleLinear(8), torch.randn(1, 20, 8)
    changed = x.clone()
    changed[0, 10] += 1.0
    differs = (mixer(x) != mixer(changed))[0].any(dim=-1)
    assert differs.nonzero().flatten().tolist() == [9, 10, 11]


def test_the_checkpoint_holds_a_dense_layer_alone() -> None:
    assert set(CycleLinear(8).state_dict()) == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize("cycle", [3, 6])
def test_mixer(cycle: int) -> None:
    check_padding(CycleLinear(8, cycle), 8)
    check_gradients(CycleLinear(8, cycle), 8)
    check_bf16(CycleLinear(8, cycle), 8)


def test_onnx(tmp_path: Path) -> None:
    check_onnx(CycleLinear(8, cycle=6), 8, tmp_path)


def test_a_cycle_of_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle=0"):
        CycleLinear(8, 0)
