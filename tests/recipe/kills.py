"""Kill a training at random moments, let it go on, and compare its end with an undisturbed one's.

    cd recipes/VoxCeleb/distill_mixer
    PYTHONPATH=../../.. python -m tests.recipe.kills --seed 0 --count 30

A moment is a call, never a time: a batch that is about to be learnt from or embedded, a file or
folder of the experiment that is about to be written, renamed or removed, a file of a checkpoint
half-written. Each kill draws a place in the code, and then one of its moments in an undisturbed
training. A killed training goes on, to be killed again or to end.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import Tensor

from speechbrain_ext.files import LOCK
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.tiny import RECIPE, TEACHER, make_corpus

# Two batches a step, six an epoch; a checkpoint is due after each, and waits for a step.
SETTINGS = [*TEACHER, "--number_of_epochs", "3", "--crops_per_utterance", "2"]
SETTINGS += ["--grad_accumulation_factor", "2", "--ckpt_interval_minutes", "0"]
SETTINGS += ["--ckpt_interval_steps", "1", "--keep_checkpoints", "1", "--average_checkpoints", "2"]
SETTINGS += ["--spec_augment", "True", "--mixup", "0.2"]
COSTS = {"seconds", "data_wait"}


class Moment(NamedTuple):
    """The so-manieth time that a training comes to a place."""

    place: str
    number: int


class Moments:
    """Counts how often a process comes to each place, and kills it at one moment.

    Arguments
    ---------
    folder : Path
        Of the experiment; only files below it count.
    fatal : Moment, optional
        When to end.
    tell : callable
        Given the place, just before the end.
    """

    def __init__(self, folder: Path, fatal: Moment | None, tell: Callable[[str], object]) -> None:
        self.folder, self.fatal, self.tell = str(folder), fatal, tell
        self.counts: Counter[str] = Counter()

    def reached(self, place: str, last_act: Callable[[], object] = lambda: None) -> None:
        """Count, or die."""
        self.counts[place] += 1
        if self.fatal == (place, self.counts[place]):
            self.fatal = None
            last_act()
            self.tell(place)
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """See ``sys.addaudithook``: called before Python asks the system for something."""
        if threading.current_thread() is not threading.main_thread():
            return  # when TensorBoard's writes is not ours to say
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._file(path, "writing")
        elif event in ("os.mkdir", "os.rename"):
            self._file(args[1] if event == "os.rename" else args[0], "writing")
        elif event in ("os.remove", "os.rmdir"):
            path, handle = args
            # What lies in a folder that is removed has its name alone.
            self._file(self.folder + "/CKPT" if handle >= 0 else path, "removing")

    def _file(self, path: Any, act: str) -> None:
        if not isinstance(path, (str, os.PathLike)) or not str(path).startswith(self.folder):
            return
        below = str(path)[len(self.folder) :]
        if "CKPT" in below or ".unfinished" in below:
            self.reached(f"{act} a checkpoint")
        elif "safetensors" in below:
            self.reached("writing the final weights")
        elif "train_log" in below or "tensorboard" in below:
            self.reached("logging")
        else:
            self.reached("starting")


def train(corpus: Path, folder: Path, fatal: Moment | None, said: Path) -> str | dict[str, int]:
    """Train in a process of its own: the place where it was killed, or how often it came to each.

    Arguments
    ---------
    corpus, folder : Path
        Of the training.
    fatal : Moment, optional
        When to kill it.
    said : Path
        File for what it prints.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with open(said, "w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            _train_here(corpus, folder, fatal, lambda text: os.write(writer, text.encode()))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return told
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"a training failed:\n{said.read_text()}")
    return json.loads(told)


def _train_here(
    corpus: Path, folder: Path, fatal: Moment | None, tell: Callable[[str], object]
) -> None:
    moments = Moments(folder, fatal, tell)

    class Watched(TeacherBrain):
        def fit_batch(self, batch: Any) -> Tensor:
            moments.reached("learning")
            return super().fit_batch(batch)

        def evaluate_batch(self, batch: Any, stage: Any) -> Tensor:
            moments.reached("validation")
            return super().evaluate_batch(batch, stage)

    save = torch.save

    def watched_save(state: Any, path: Path) -> None:
        def write_half() -> None:
            whole = io.BytesIO()
            save(state, whole)
            path.write_bytes(whole.getvalue()[: whole.tell() // 2])

        moments.reached("writing a checkpoint", write_half)
        save(state, path)

    torch.save = watched_save  # type: ignore[assignment]
    os.chdir(RECIPE)
    sys.addaudithook(moments.audit)
    run_training(Watched, [*SETTINGS, "--corpus_dir", str(corpus), "--output_folder", str(folder)])
    tell(json.dumps(moments.counts))


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same at the end of two trainings, bit for bit, but for times."""
    found = []
    for name in ("embedding_model", "classifier"):
        mine, its = (load_file(each / "save" / f"{name}.safetensors") for each in (one, other))
        if mine.keys() != its.keys() or any(not torch.equal(mine[key], its[key]) for key in mine):
            found.append(f"{name}.safetensors")
    for what in (_labels, _figures, _epochs_of_text, _checkpoints):
        if what(one) != what(other):
            found.append(f"{what.__name__.strip('_')}: {what(one)} and {what(other)}")
    if left := {path.name for path in (other / "save").glob(".*")} - {LOCK}:
        found.append(f"left over: {left}")
    return found


def _labels(folder: Path) -> str:
    return (folder / "save" / "label_encoder.txt").read_text()


def _figures(folder: Path) -> list[dict[str, Any]]:
    epochs = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    for epoch in epochs:
        for part in ("train", "valid"):
            epoch[part] = {name: x for name, x in epoch[part].items() if name not in COSTS}
    return epochs


def _epochs_of_text(folder: Path) -> list[str]:
    return [line.split(",")[0] for line in (folder / "train_log.txt").read_text().splitlines()]


def _checkpoints(folder: Path) -> list[tuple[int, float]]:
    metas = [YAML(typ="safe").load(path) for path in (folder / "save").glob("CKPT*/CKPT.yaml")]
    return sorted((meta["epoch"], meta["eer"]) for meta in metas)


def kill(seed: int, count: int, place: Path) -> dict[str, Any]:
    """Kill trainings so many times, in the folder ``place``; tell where they were.

    Raises
    ------
    SystemExit
        When a training fails when it is run again, or ends elsewhere than an undisturbed one.
    """
    corpus, whole = make_corpus(place / "corpus"), place / "whole"
    counts = train(corpus, whole, None, place / "said.txt")
    assert isinstance(counts, dict)
    draw, kills, early, trainings = random.Random(seed), Counter[str](), 0, 0
    while kills.total() < count:
        trainings += 1
        folder = place / f"killed_{trainings}"
        history: list[str] = []
        while True:
            # Rare places more often than their share, but not as often as those with many moments.
            (at,) = draw.choices(list(counts), [math.sqrt(counts[each]) for each in counts])
            moment = Moment(at, draw.randint(1, counts[at]))
            fatal = moment if kills.total() < count else None
            ended = train(corpus, folder, fatal, place / "said.txt")
            if isinstance(ended, dict):
                break
            history.append(f"{ended} ({moment.number})")
            kills[ended] += 1
            early += not [*folder.glob("save/CKPT*")]
        if found := differences(whole, folder):
            raise SystemExit(f"killed while {', '.join(history)}, it differs in {'; '.join(found)}")
    return {
        "moments": counts,
        "kills": dict(kills),
        "before the first checkpoint": early,
        "trainings": trainings,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(kill(given.seed, given.count, Path(temporary)), indent=1))
