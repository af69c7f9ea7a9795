"""What several processes do together: batch normalisation on CPUs, rows of a whole batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F


class CPUSyncBatchNorm(nn.Module):
    """What ``torch.nn.SyncBatchNorm`` does on GPUs, on CPUs; takes over a BatchNorm1d or 2d.

    Parameters and buffers are the original's own and keep its names in a state dict.

    Arguments
    ---------
    norm : BatchNorm1d or BatchNorm2d
        The layer to take over.

    Example
    -------
    >>> layer = CPUSyncBatchNorm(nn.BatchNorm1d(4)).eval()
    >>> layer(torch.randn(3, 4)).shape, sorted(layer.state_dict())[:2]
    (torch.Size([3, 4]), ['bias', 'num_batches_tracked'])
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.momentum is not None
        self.eps, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...) by the statistics of all processes' inputs together."""
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        others = [dim for dim in range(x.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        count = all_reduce(torch.tensor([float(x.numel() / x.shape[1])]))
        mean = all_reduce(x.sum(dim=others)) / count
        centred = x - mean.view(shape)
        variance = all_reduce(centred.square().sum(dim=others)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)


def rows_of_all(x: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, and the place among them of this one's first.

    Each process has gradients of its own rows, summed over what all of them made of these: so a
    loss of the whole batch, which each computes, is after DDP's mean what one process would have.
    Processes may have different numbers of rows.

    Arguments
    ---------
    x : Tensor
        This process's rows (B, D).

    Returns
    -------
    (Tensor, int)
        Rows (sum of all B, D) in the order of the processes; ``x`` itself where there is one.

    Example
    -------
    >>> rows, first = rows_of_all(torch.eye(2))
    >>> rows.shape, first
    (torch.Size([2, 2]), 0)
    """
    if not torch.distributed.is_initialized():
        return x, 0
    rank = torch.distributed.get_rank()
    counts = torch.zeros(torch.distributed.get_world_size(), dtype=torch.long, device=x.device)
    counts[rank] = len(x)
    torch.distributed.all_reduce(counts)
    before, after = int(counts[:rank].sum()), int(counts[rank + 1 :].sum())
    return all_reduce(F.pad(x, (0, 0, before, after))), before


def mean_of_all(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of the values that count, of all processes: this one's part of it.

    The mean of the processes' parts, as DDP takes it of their gradients, is the mean of all values
    that count, however many there are in each process. It is 0 where none do.

    Arguments
    ---------
    values : Tensor
        Finite, (B,).
    counted : Tensor
        Booleans (B,).

    Example
    -------
    >>> values = torch.tensor([1.0, 2.0, 6.0])
    >>> mean_of_all(values, torch.tensor([True, False, True])), mean_of_all(values, values > 9)
    (tensor(3.5000), tensor(0.))
    """
    total, processes = counted.sum().to(values), 1
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
        processes = torch.distributed.get_world_size()
    return processes * (values * counted).sum() / total.clamp(min=1)


def sync_batch_norm_on_cpu(module: nn.Module) -> None:
    """Replace every BatchNorm1d and BatchNorm2d inside ``module`` in place.

    Example
    -------
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    >>> sync_batch_norm_on_cpu(model)
    >>> type(model[1]).__name__
    'CPUSyncBatchNorm'
    """
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(module, name, CPUSyncBatchNorm(child))
        else:
            sync_batch_norm_on_cpu(child)
