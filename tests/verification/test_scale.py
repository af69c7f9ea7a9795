"""Memory of the largest usual list: as many trials as VoxCeleb1-E has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechbrain_ext.verification.embeddings import Embeddings, save_embeddings
from speechbrain_ext.verification.trials import TrialList, write_trials

STATUS = Path("/proc/self/status")
TRIALS, UTTERANCES = 580_000, 5_000
LIMIT_MB = 300

# In a process of its own, whose peak of resident memory is that of this work and of Python itself.
# (getrusage would not do: a child starts with the peak of the process it was forked from.)
SCRIPT = """
import sys, time
import numpy as np
from speechbrain_ext.verification.embeddings import load_embeddings
from speechbrain_ext.verification.metrics import ErrorRates
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import read_trials

start = time.perf_counter()
trials = read_trials(sys.argv[1])
scores = cosine_scores(trials, load_embeddings(sys.argv[2]))
rates = ErrorRates.from_scores(scores, trials.labels)
eer = rates.equal_error_rate()[0]
rates.min_dcf(0.01), rates.min_dcf(0.05)
seconds = time.perf_counter() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) / 1000
print(len(trials), eer, peak, seconds)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="the peak is read from Linux's /proc")
def test_memory_of_580_000_trials(tmp_path: Path) -> None:
    """Reading the list and the embeddings, scoring and measuring stay below the limit."""
    rng = np.random.default_rng(7)
    names = np.array([f"id{n // 20:05d}/abcdefghijk/{n % 20:05d}" for n in range(UTTERANCES)])
    enrol, test = rng.integers(0, UTTERANCES, (2, TRIALS), dtype=np.int32)
    half = TRIALS // 2  # as in VoxCeleb1-E, half of the trials are targets
    test[:half] = enrol[:half] // 20 * 20 + rng.integers(0, 20, half, dtype=np.int32)
    write_trials(tmp_path / "e.txt", TrialList(names, enrol, test, enrol // 20 == test // 20))
    speakers = np.repeat(rng.standard_normal((UTTERANCES // 20, 512)), 20, axis=0)
    vectors = (speakers + 2.0 * rng.standard_normal((UTTERANCES, 512))).astype(np.float32)
    save_embeddings(tmp_path / "e.npz", Embeddings(names.tolist(), vectors, ""))

    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "e.txt"), str(tmp_path / "e.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, eer, peak, seconds = done.stdout.split()
    print(f"{count} trials: {float(seconds):.2f} s, {float(peak):.0f} MB")
    assert int(count) == TRIALS
    assert 0.0 < float(eer) < 0.1
    assert float(peak) < LIMIT_MB
