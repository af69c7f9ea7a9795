"""Processes that share the work on a corpus."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from threading import Thread


@contextlib.contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes; when the block ends, what has not begun is not done.

    They are spawned: a fork of a process with threads, such as that of a progress bar, may hang.
    They leave Ctrl-C to this process, and end with it even if it is killed.

    Arguments
    ---------
    jobs : int
        Number of processes.

    Yields
    ------
    ProcessPoolExecutor
        It raises ``BrokenProcessPool`` where one of them is killed.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
