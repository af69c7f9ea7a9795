"""Processes that read ahead where there is little shared memory, and their end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.workers import in_threads, reading_options
from tests.processes import HANG, environment
from tests.recipe.tiny import RECIPE, TEACHER, command, make_corpus
from tests.refusals import refused

pytestmark = pytest.mark.slow

# A user's own view of the file system, with as much shared memory as a test wants.
SMALL = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=$0 tmpfs /dev/shm && exec "$@"']
can_mount = subprocess.run([*SMALL, "1m", "true"], capture_output=True).returncode == 0
needs_mount = pytest.mark.skipif(not can_mount, reason="/dev/shm cannot be made smaller here")


class Waves(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((1000,), float(index))


class Killed(Waves):
    """As a process ends that takes too much memory."""

    def __getitem__(self, index: int) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return torch.empty(0)


def stack(waves: list[Tensor]) -> dict[str, Tensor]:
    return {"wavs": torch.stack(waves)}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_and_in_no_shared_memory(workers: int) -> None:
    loader = DataLoader(Waves(), batch_size=2, **reading_options(workers, stack))
    batches = [batch["wavs"] for batch in loader]
    assert not any(batch.is_shared() for batch in batches)
    expected = torch.arange(6.0)[:, None].expand(6, 1000)
    assert torch.equal(torch.cat(batches), expected)


def test_a_killed_reader_ends_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, friendly_exit():
        list(DataLoader(Killed(), batch_size=None, **reading_options(1)))
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: a process that reads files ahead was killed, most likely")


def test_no_room_for_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing, "Lock", full)
    assert reading_options(0)["num_workers"] == 0
    with refused("system-error", "No space left on device", "--num_workers 0"):
        reading_options(1)


def in_small(size: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SMALL, size, *arguments], cwd=RECIPE, env=environment(), capture_output=True, text=True,
        timeout=HANG,
    )  # fmt: skip


@needs_mount
@pytest.mark.parametrize(
    ("size", "words"), [("128k", ""), ("4k", "error: no process can be started to read ahead")]
)
def test_a_training_in_a_small_container(size: str, words: str, tmp_path: Path) -> None:
    """A batch is larger than all of /dev/shm; PyTorch alone would wait for it for ever."""
    corpus = make_corpus(tmp_path)
    arguments = [*TEACHER, "--corpus_dir", corpus, "--output_folder", tmp_path / "out"]
    arguments += ["--number_of_epochs", "1", "--num_workers", "1"]
    done = in_small(size, command("train_teacher.py", *arguments))
    assert words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.returncode == (1 if words else 0)


@needs_mount
def test_whole_utterances_in_a_small_container(tmp_path: Path) -> None:
    code = (
        "import sys, csv\n"
        "from speechbrain_ext.inference.extraction import utterance_loader\n"
        "rows = list(csv.DictReader(open(sys.argv[1])))\n"
        "print(sum(len(batch.ids) for batch in utterance_loader(rows, num_workers=2)))\n"
    )
    manifest = make_corpus(tmp_path) / "manifests" / "train.csv"
    done = in_small("128k", [sys.executable, "-c", code, str(manifest)])
    assert done.stdout == "24\n", done.stderr


@needs_mount
def test_threads_need_no_shared_memory() -> None:
    code = "from speechbrain_ext.workers import in_threads\n"
    code += "with in_threads(abs, [-1, 2], 2) as results: print(*results)"
    done = in_small("4k", [sys.executable, "-c", code])
    assert done.stdout == "1 2\n", done.stderr


def test_an_error_begins_no_further_item() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)

    with pytest.raises(ValueError, match="stop"), in_threads(work, range(10**5), 1):
        raise ValueError("stop")
    assert len(begun) < 10**5
