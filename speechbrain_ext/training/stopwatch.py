"""What a part of a training step costs."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Seconds spent inside ``with`` blocks; a GPU is not waited for.

    On CUDA it is measured by events in the stream; what has not ended when the seconds are taken is
    counted with those of a later time.

    Arguments
    ---------
    device : torch.device
        Where the work is done.

    Example
    -------
    >>> watch = Stopwatch(torch.device("cpu"))
    >>> with watch:
    ...     _ = torch.ones(1000).sum()
    >>> watch.take() > 0, watch.take()
    (True, 0.0)
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.seconds = 0.0
        self.running: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> None:
        if self.cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.running.append((begin, end))
            begin.record()
        else:
            self.begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            self.running[-1][1].record()
        else:
            self.seconds += time.perf_counter() - self.begin

    def take(self) -> float:
        """The seconds since they were last taken, of all that has ended."""
        while self.running and self.running[0][1].query():
            begin, end = self.running.pop(0)
            self.seconds += begin.elapsed_time(end) / 1000
        taken, self.seconds = self.seconds, 0.0
        return taken
