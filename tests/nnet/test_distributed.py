"""Batch normalisation over processes, against PyTorch's own over one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from speechbrain_ext.nnet.distributed import CPUSyncBatchNorm, sync_batch_norm_on_cpu


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d, (12, 4)),
        (nn.BatchNorm1d, (3, 4, 7)),
        (nn.BatchNorm2d, (3, 4, 5, 6)),
    ],
)
def test_is_batch_norm(layer: type[nn.Module], shape: tuple[int, ...], alone: None) -> None:
    expected, model = layer(4), nn.Sequential(layer(4))
    sync_batch_norm_on_cpu(model)
    assert isinstance(model[0], CPUSyncBatchNorm)
    for training in (True, True, False):
        expected.train(training)
        model.train(training)
        x = 3 * torch.randn(shape) + 1
        torch.testing.assert_close(model(x), expected(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model[0].state_dict(), expected.state_dict())
