"""Processes and threads that read, without the shared memory that containers have little of."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from speechbrain_ext.errors import UserError, brought_by

with brought_by("train"):
    from torch.utils.data import get_worker_info

Item = TypeVar("Item")
Result = TypeVar("Result")


def reading_options(
    num_workers: int, collate: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """What every ``DataLoader`` here is made with, so that none needs room in ``/dev/shm``.

    PyTorch hands tensors over in ``/dev/shm``, of which containers have 64 MB; when it is full, a
    batch is lost and its reader waits for ever. Here a worker gives its batches by value, through
    its pipe.

    Arguments
    ---------
    num_workers : int
        Processes that read; 0 reads in this one.
    collate : callable, optional
        Makes a batch of what the loader collects; by default that is the batch.

    Returns
    -------
    dict
        ``num_workers`` and ``collate_fn``.

    Raises
    ------
    UserError
        When there is not even room for the processes' locks.

    Example
    -------
    >>> import torch
    >>> from torch.utils.data import DataLoader
    >>> list(DataLoader(range(4), batch_size=2, **reading_options(1, torch.tensor)))
    [tensor([0, 1]), tensor([2, 3])]
    """
    if num_workers:
        _try_locks(num_workers)
    return {"num_workers": num_workers, "collate_fn": _ByValue(collate)}


@contextlib.contextmanager
def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Iterator[Result]]:
    """Give what a function makes of each item, in their order, some at a time.

    ``multiprocessing``'s ``ThreadPool`` has locks in ``/dev/shm``. Leaving the block, by an error
    or Ctrl-C too, begins no further item.

    Arguments
    ---------
    function : callable
        Maps an item.
    items : iterable
        The items.
    threads : int
        How many at a time; fewer than 1 are 1.

    Yields
    ------
    iterator
        The results.

    Example
    -------
    >>> with in_threads(abs, [-1, 2], threads=2) as results:
    ...     list(results)
    [1, 2]
    """
    pool = ThreadPoolExecutor(max(threads, 1))
    try:
        yield pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


class _ByValue:
    """Makes batches; in a worker, wraps them up."""

    def __init__(self, collate: Callable[[Any], Any] | None) -> None:
        self.collate = collate

    def __call__(self, collected: Any) -> Any:
        batch = collected if self.collate is None else self.collate(collected)
        return batch if get_worker_info() is None else _Parcel(batch)


class _Parcel:
    """A batch as bytes, which is a batch again once it has been handed over."""

    def __init__(self, batch: Any) -> None:
        # By pickle itself: multiprocessing's own pickler is what moves tensors to shared memory.
        self.content = pickle.dumps(batch, protocol=5)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self.content,)


def _try_locks(num_workers: int) -> None:
    """Make as many locks as the queues of a loader need, and some more; they are in /dev/shm."""
    try:
        _ = [multiprocessing.Lock() for _ in range(8 * (num_workers + 1))]
    except OSError as error:
        raise UserError(
            f"no process can be started to read ahead ({error.strerror}; their locks are in "
            "/dev/shm): make room there, or read in the process itself, --num_workers 0",
            code="system-error",
        ) from None
