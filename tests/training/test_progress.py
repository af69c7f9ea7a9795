"""Sums of an epoch, across processes and across an interruption."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from speechbrain_ext.training import progress
from speechbrain_ext.training.progress import EpochMeter, warn_of_low_share


def test_sums_of_an_interrupted_epoch_are_each_process_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters = [EpochMeter(), EpochMeter()]
    for number, meter in enumerate(meters):
        meter.add(2, loss=torch.tensor(1.0 + number))
    rank = 0

    def gather(into: list[Any], mine: Any) -> None:
        into[:] = [meter.state() for meter in meters]

    distributed = "torch.distributed"
    monkeypatch.setattr(f"{distributed}.is_initialized", lambda: True)
    monkeypatch.setenv("RANK", "0")  # who writes
    monkeypatch.setattr(f"{distributed}.get_world_size", lambda: len(meters))
    monkeypatch.setattr(f"{distributed}.get_rank", lambda: rank)
    monkeypatch.setattr(f"{distributed}.all_gather_object", gather)
    whole = meters[0].totals()
    meters[0]._save(str(tmp_path / "meter.ckpt"))
    for size in (2, 1, 3):  # in as many processes, or in others
        meters[:] = [EpochMeter() for _ in range(size)]
        for number, meter in enumerate(meters):
            rank = number
            meter._load(str(tmp_path / "meter.ckpt"), end_of_epoch=False)
        assert meters[0].totals() == whole == {"weight": 4.0, "loss": 6.0}
        if size == 2:
            assert [meter.averages()["loss"] for meter in meters] == [1.0, 2.0]


@pytest.mark.parametrize(("share", "least"), [(0.19996, 0.2), (0.2044, 0.2045), (0.0, 1e-9)])
def test_a_share_that_is_warned_of_reads_as_less_than_the_least(
    share: float, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress, "logger", SimpleNamespace(warning=told.append))
    objective: Any = SimpleNamespace(teacher_terms=["distillation"], distillation=None)
    warn_of_low_share({"share": least}, objective, least, 1)
    assert not told
    warn_of_low_share({"share": share}, objective, least, 1)
    found, limit = map(float, re.findall(r"([\d.e-]+) ?%", told[0]))
    assert found < limit and limit == pytest.approx(100 * least)


def test_importing_it_warns_of_nothing() -> None:
    """torchvision, which draws figures that nobody asks for, is not missed."""
    program = "import sys; sys.modules['torchvision'] = None; import speechbrain_ext.training.brain"
    program += "; import speechbrain.utils.train_logger as own; own.logger.warning('another')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr.split()) == ("", ["another"])


def test_a_part_of_a_step_is_counted_from_the_first_step_on() -> None:
    """Before training the teacher is tried on noise."""
    meter = EpochMeter()
    watch = meter.watch("teacher", torch.device("cpu"))
    watch.seconds = 1000.0  # as if that had taken long
    meter.await_batch()
    meter.batch_read()
    with watch:
        torch.ones(10).sum()
    meter.batch_done()
    assert 0 < meter.sums["seconds/teacher"] <= meter.sums["seconds"] < 1000
