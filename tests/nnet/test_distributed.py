"""Batch normalisation and losses over processes, against one with the same batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing import spawn

from speechbrain_ext.distill.losses import InBatchContrast, RelationalDistillation
from speechbrain_ext.nnet.distributed import (
    CPUSyncBatchNorm,
    mean_of_all,
    rows_of_all,
    sync_batch_norm_on_cpu,
)


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


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    inputs, teacher = torch.randn(2, 8, 6, generator=generator, dtype=torch.float64).unbind()
    return inputs, teacher


def losses_and_gradients(rows: slice) -> dict[str, tuple[Tensor, Tensor]]:
    """Of a layer that gives embeddings of some rows of the batch."""
    inputs, teacher = (x[rows] for x in batch())
    found = {}
    for loss in (InBatchContrast(0.3), RelationalDistillation()):
        weight = torch.eye(6, dtype=torch.float64).flip(0).requires_grad_()
        value = loss(inputs @ weight, teacher)
        value.backward()
        assert weight.grad is not None
        found[type(loss).__name__] = (value.detach(), weight.grad)
    return found


VALUES = torch.tensor([[1.0, 2.0, 3.0], [5.0, 8.0, 13.0]])
COUNTED = torch.tensor([[True, False, False], [True, True, True]])


def in_a_process(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = losses_and_gradients(slice(4 * rank, 4 * rank + 4))
    uneven, first = rows_of_all(torch.full((rank + 1, 2), float(rank)))
    values, counted = VALUES[rank].clone().requires_grad_(), COUNTED[rank]
    mean = mean_of_all(values, counted)
    mean.backward()
    nothing = mean_of_all(values, torch.zeros(3, dtype=torch.bool))
    means = (mean.detach(), values.grad, nothing.detach())
    torch.save((found, uneven, first, means), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_losses_of_a_whole_batch_are_those_of_one_process(tmp_path: Path) -> None:
    """Value and gradient after DDP's mean: of two processes with four rows, of one with eight."""
    spawn(in_a_process, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, (value, gradient) in losses_and_gradients(slice(0, 8)).items():
        values, gradients = zip(*(found[name] for found, *_ in parts), strict=True)
        assert torch.allclose(sum(values) / 2, value, atol=1e-6), name
        assert torch.allclose(sum(gradients) / 2, gradient, atol=1e-6), name
        assert gradient.abs().max() > 1e-3
    for rank, (_, uneven, first, _) in enumerate(parts):
        assert uneven.tolist() == [[0, 0], [1, 1], [1, 1]] and first == rank
    means, gradients, nothing = zip(*(part[-1] for part in parts), strict=True)
    assert sum(means) / 2 == VALUES[COUNTED].mean() and not any(nothing)
    assert torch.allclose(torch.stack(gradients) / 2, COUNTED / 4)
