"""What an epoch's sums come to: averages of the loss and its terms, and where the time went."""

from __future__ import annotations

import torch

from speechbrain_ext.systems.train_log import COUNTS

# Before the name of a term in the meter: its weight, and the term times its weight; before that of
# a part of a step: its seconds.
WEIGHT, WEIGHTED, SECONDS = "weight/", "weighted/", "seconds/"


def averages_of(totals: dict[str, float]) -> dict[str, float]:
    """Averages over the utterances of what :meth:`EpochMeter.totals` gives; no times or counts."""
    left_out = ("seconds", "waited", "weight", *COUNTS)
    return {
        name: total / totals["weight"]
        for name, total in totals.items()
        if name not in left_out and not name.startswith(SECONDS)
    }


def costs_of(totals: dict[str, float], world_size: int) -> dict[str, float]:
    """Seconds of an epoch, the shares of them that waiting and parts of a step took, counts.

    Example
    -------
    >>> totals = {"seconds": 8.0, "waited": 2.0, "seconds/teacher": 4.0, "weight": 64.0}
    >>> costs_of(totals | {"skipped": 1.0}, world_size=2)  # doctest: +NORMALIZE_WHITESPACE
    {'data_wait': 0.25, 'teacher_time': 0.5, 'seconds': 4.0, 'utterances': 64, 'unreadable': 0,
     'skipped': 1, 'nonfinite': 0}
    """
    parts = {
        f"{name.removeprefix(SECONDS)}_time": total / totals["seconds"]
        for name, total in totals.items()
        if name.startswith(SECONDS)
    }
    return {
        "data_wait": totals["waited"] / totals["seconds"],
        **parts,
        "seconds": totals["seconds"] / world_size,
        "utterances": int(totals["weight"]),
        **{name: int(totals.get(name, 0)) for name in COUNTS},
    }


def peak_memory(device: torch.device | str) -> dict[str, float]:
    """The most memory that was allocated on a GPU by this process, in GB; nothing on a CPU."""
    if torch.device(device).type != "cuda":
        return {}
    return {"peak_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}


def share(part: float, total: float) -> float:
    """The share of a part in the total; of nothing, 0."""
    return part / total if total else 0.0
