"""What is noted of a training: sums of an epoch, its figures and error rates, and their logs."""

from __future__ import annotations

import inspect
import json
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process, main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger, TrainLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from speechbrain_ext.distill.objective import DistillationObjective
from speechbrain_ext.errors import UserError, told_apart
from speechbrain_ext.files import atomic_path
from speechbrain_ext.inference.extraction import gather_embeddings
from speechbrain_ext.systems.train_log import CORRECT, COUNTS, LABELLED
from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.metrics import equal_error_rate, min_dcf
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import TrialList

logger = get_logger(__name__)
# Before the name of a term in the meter: its weight, and the term times its weight; before that of
# a part of a step: its seconds.
WEIGHT, WEIGHTED, SECONDS = "weight/", "weighted/", "seconds/"


@partial(register_checkpoint_hooks, save_on_main_only=False)
class EpochMeter:
    """Sums of the figures of an epoch so far; saved with a checkpoint made inside an epoch.

    A checkpoint has the sums of every process, and each gets its own back. Seconds are summed as
    well: of every batch, of the wait for it, and of the parts of a step that have a :meth:`watch`.

    Example
    -------
    >>> meter = EpochMeter()
    >>> meter.add(weight=2, loss=torch.tensor(1.0))
    >>> meter.add(weight=2, loss=torch.tensor(3.0))
    >>> meter.averages()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self.watches: dict[str, Stopwatch] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums: dict[str, Tensor | float] = defaultdict(float)
        self.weight = 0.0

    def add(self, weight: float, **figures: Tensor | float) -> None:
        """Add a batch's averages. Tensors stay where they are: no waiting for a GPU."""
        self.weight += weight
        for name, value in figures.items():
            self.sums[name] = self.sums[name] + weight * (
                value.detach() if isinstance(value, Tensor) else value
            )

    def count(self, **counts: Tensor | float) -> None:
        """Add numbers of crops."""
        for name, value in counts.items():
            self.sums[name] = self.sums[name] + value

    def watch(self, part: str, device: torch.device) -> Stopwatch:
        """A stopwatch around a part of each step."""
        self.watches[part] = Stopwatch(device)
        return self.watches[part]

    def await_batch(self) -> None:
        """Count time from now on, and forget what parts of a step took when they were tried."""
        for watch in self.watches.values():
            watch.take()
        self.batch_end = time.perf_counter()

    def batch_read(self) -> None:
        """Note the wait for a batch."""
        self.wait = time.perf_counter() - self.batch_end

    def batch_done(self) -> None:
        """Note what a batch cost; the next one is waited for."""
        now = time.perf_counter()
        self.sums["seconds"] += now - self.batch_end
        self.sums["waited"] += self.wait
        for part, watch in self.watches.items():
            self.sums[SECONDS + part] += watch.take()
        self.batch_end = now

    def count_unreadable(self, files: list[str], epoch: int, planned: int, allowed: float) -> None:
        """Count crops that could not be read.

        Arguments
        ---------
        files : list of str
            Those of a batch, each with the reason.
        epoch : int
            Its number.
        planned : int
            Crops of the epoch in this process.
        allowed : float
            The share of them that may be missing.

        Raises
        ------
        UserError
            When more are missing by now.
        """
        if not files:
            return
        for count in ("unreadable", "skipped"):
            self.sums[count] += len(files)
        logger.warning(f"Skipped, could not be read: {', '.join(files)}")
        unreadable = int(self.sums["unreadable"])
        if unreadable > allowed * planned:
            raise UserError(
                f"{unreadable} of {planned} crops of epoch {epoch} could not be read, last "
                f"{files[-1]}, more than the share max_unreadable {allowed}: mend the files or run "
                "stage 1 again",
                code="unusable-audio",
            )

    def state(self) -> dict[str, float]:
        """Sums of this process, with the ``weight``."""
        return {"weight": self.weight} | {name: float(value) for name, value in self.sums.items()}

    def totals(self) -> dict[str, float]:
        """Sums over all processes, with the ``weight``."""
        return _joined(self._states())

    def _states(self) -> list[dict[str, float]]:
        states = [self.state()]
        if torch.distributed.is_initialized():
            states *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, self.state())
        return states

    def averages(self) -> dict[str, float]:
        """Averages over the batches of this process."""
        return _averages(self.state())

    @mark_as_saver
    def _save(self, path: str) -> None:
        states = self._states()
        if if_main_process():
            with open(path, "w", encoding="utf-8") as file:
                json.dump(states, file)

    @mark_as_loader
    def _load(self, path: str, end_of_epoch: bool) -> None:
        self.reset()
        if end_of_epoch:
            return
        with open(path, encoding="utf-8") as file:
            states = json.load(file)
        if torch.distributed.is_initialized():  # by other processes than before, perhaps
            states = states[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        joined = _joined(states)
        self.weight = joined.pop("weight", 0.0)
        self.sums.update(joined)


def _joined(states: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for state in states for name in state)
    return {name: sum(state.get(name, 0.0) for state in states) for name in names}


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


def averages_of(totals: dict[str, float], epoch: int) -> dict[str, float]:
    """Averages over the utterances of what :meth:`EpochMeter.totals` gives; no times or counts.

    Raises
    ------
    UserError
        When nothing was learnt from.
    """
    if not totals["weight"]:
        nonfinite, skipped = (int(totals.get(name, 0)) for name in ("nonfinite", "skipped"))
        raise UserError(
            f"no batch of epoch {epoch} had a finite loss ({nonfinite} had another, and {skipped} "
            "crops were skipped): lower --lr, or look at the audio",
            code="diverged",
        )
    return _averages(totals)


def _averages(totals: dict[str, float]) -> dict[str, float]:
    left_out = ("seconds", "waited", "weight", LABELLED, CORRECT, *COUNTS)
    averages = {
        name: total / totals["weight"]
        for name, total in totals.items()
        if name not in left_out and not name.startswith(SECONDS)
    }
    if labelled := totals.get(LABELLED):
        averages["accuracy"] = totals[CORRECT] / labelled
    return averages


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


def warn_of_low_share(
    stats: dict[str, float], objective: DistillationObjective, least: float, epoch: int
) -> None:
    """Warn when the distillation hardly counts in the loss.

    Arguments
    ---------
    stats : dict
        Figures of the epoch: ``share``, and the terms by name.
    objective : DistillationObjective
        Says which terms listen to the teacher.
    least : float
        The share that they should have.
    epoch : int
        Its number.
    """
    if stats["share"] >= least:
        return
    names = [*objective.teacher_terms, "classification"]
    terms = ", ".join(f"{name} {stats[name]:.6f}" for name in names if name in stats)
    weights = "alpha" if objective.distillation else "term_weights"
    logger.warning(
        f"Distillation was {told_apart(100 * stats['share'], 100 * least)} % of the loss in epoch "
        f"{epoch}, under {100 * least:g} % ({terms}): raise {weights} or choose another "
        "distillation"
    )


def valid_scores(trials: TrialList, mine: dict[str, np.ndarray]) -> np.ndarray | None:
    """Cosines (N,) of N trials; None when an embedding is not finite.

    Arguments
    ---------
    trials : TrialList
        Between utterances that are held out of training.
    mine : dict
        Embedding (D,) by utterance, those of this process; all processes' are joined.
    """
    vectors = gather_embeddings(mine)
    embeddings = Embeddings(list(vectors), np.stack(list(vectors.values())), "")
    if not np.isfinite(embeddings.vectors).all():
        return None
    return cosine_scores(trials, embeddings)


def valid_figures(
    scores: np.ndarray, labels: np.ndarray, teacher: np.ndarray | None = None, of: str = ""
) -> dict[str, float]:
    """EER (%) and minDCF of an epoch, and how far the student scores as its teacher does.

    ``rank_correlation`` is Spearman's, in [-1, 1]; scores that are all the same have none, which is
    0. ``agreement`` is the share of trials on which both decide alike, when each accepts as many
    trials as there are targets.

    Arguments
    ---------
    scores, labels : np.ndarray
        (N,) scores and (N,) bool labels, True for a target.
    teacher : np.ndarray, optional
        (N,) scores of the teacher.
    of : str
        Before the names of the error rates, where they are none of speakers: ``halves_``.

    Example
    -------
    >>> labels = np.array([True, True, False, False])
    >>> scores, teacher = np.array([0.9, 0.3, 0.5, 0.1]), np.array([0.8, 0.7, 0.2, 0.1])
    >>> figures = valid_figures(scores, labels, teacher)
    >>> figures["eer"], round(figures["rank_correlation"], 3), figures["agreement"]
    (50.0, 0.8, 0.5)
    """
    # Plain numbers: a checkpoint that holds others cannot be loaded.
    figures = {
        f"{of}eer": float(100 * equal_error_rate(scores, labels)[0]),
        f"{of}min_dcf_0.01": float(min_dcf(scores, labels, 0.01)[0]),
        f"{of}min_dcf_0.05": float(min_dcf(scores, labels, 0.05)[0]),
    }
    if teacher is not None:
        both = (scores, teacher)
        varied = all(np.ptp(each) > 0 for each in both)
        figures["rank_correlation"] = float(spearmanr(*both).statistic) if varied else 0.0
        targets = int(np.count_nonzero(labels))
        ours, theirs = (each >= np.partition(each, -targets)[-targets] for each in both)
        figures["agreement"] = float(np.mean(ours == theirs))
    return figures


class JSONLinesLogger(TrainLogger):
    """One JSON object a line, one line an epoch.

    Arguments
    ---------
    save_file : str
        The file.
    """

    def __init__(self, save_file: str) -> None:
        self.path = Path(save_file)

    @main_process_only
    def log_stats(
        self,
        stats_meta: dict[str, Any],
        train_stats: dict[str, Any] | None = None,
        valid_stats: dict[str, Any] | None = None,
        test_stats: dict[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        """See ``TrainLogger.log_stats``."""
        figures = {**stats_meta, "train": train_stats, "valid": valid_stats}
        line = json.dumps(figures, allow_nan=False)  # JSON has no such number
        _end_with(self.path, line, lambda line: json.loads(line)["epoch"])


class TextLogger(FileTrainLogger):
    """SpeechBrain's line of text an epoch.

    Arguments
    ---------
    save_file : str
        The file.
    precision : int
        Decimals.
    """

    @main_process_only
    def log_stats(
        self,
        stats_meta: dict[str, Any],
        train_stats: dict[str, Any] | None = None,
        valid_stats: dict[str, Any] | None = None,
        test_stats: dict[str, Any] | None = None,
        verbose: bool = True,
    ) -> None:
        """See ``TrainLogger.log_stats``."""
        parts = [self._stats_to_string(stats_meta)]
        for name, stats in (("train", train_stats), ("valid", valid_stats)):
            parts.append(self._stats_to_string(stats or {}, name))
        line = " - ".join(filter(None, parts))
        _end_with(Path(self.save_file), line, lambda line: int(line.split(",")[0].split(":")[1]))
        if verbose:
            logger.info(line)


class TensorboardLogger(TrainLogger):
    """One point an epoch. SpeechBrain's counts from 1 again when a training goes on.

    Arguments
    ---------
    save_dir : str
        The folder for TensorBoard.
    """

    def __init__(self, save_dir: str) -> None:
        self.save_dir = save_dir
        self.writer: SummaryWriter | None = None

    @main_process_only
    def log_stats(
        self,
        stats_meta: dict[str, Any],
        train_stats: dict[str, Any] | None = None,
        valid_stats: dict[str, Any] | None = None,
        test_stats: dict[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        """See ``TrainLogger.log_stats``."""
        epoch = stats_meta["epoch"]
        self.writer = self.writer or SummaryWriter(self.save_dir, purge_step=epoch)
        for name, value in stats_meta.items():
            self.writer.add_scalar(name, value, epoch)
        for kind, stats in (("train", train_stats), ("valid", valid_stats)):
            for name, value in (stats or {}).items():
                self.writer.add_scalar(f"{name}/{kind}", value, epoch)
        self.writer.flush()


class TrainLoggers(TrainLogger):
    """Several loggers as one, made when there is something to log.

    Reading a YAML file must not leave files behind, and TensorBoard's logger opens its own at once.

    Arguments
    ---------
    loggers : list of callables
        Each makes a logger, which is given every epoch's figures.
    """

    def __init__(self, loggers: list[Callable[[], TrainLogger]]) -> None:
        for make in loggers:
            try:
                inspect.signature(make).bind()
            except (TypeError, ValueError):
                raise ValueError(f"{make} has other arguments than it takes") from None
        self.makers = loggers
        self.loggers: list[TrainLogger] = []

    def log_stats(self, *args: Any, **kwargs: Any) -> None:
        """See ``TrainLogger.log_stats``."""
        self.loggers = self.loggers or [make() for make in self.makers]
        for logger in self.loggers:
            logger.log_stats(*args, **kwargs)


def _end_with(path: Path, line: str, epoch_of: Callable[[str], int]) -> None:
    """End a file with an epoch's line; lines of that epoch, of later ones and of none go."""

    def is_before(old: str) -> bool:
        try:
            return epoch_of(old) < epoch_of(line)
        except (ValueError, LookupError, TypeError):
            return False

    kept = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = list(filter(is_before, kept))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*kept, line]) + "\n", encoding="utf-8")
