"""Where the figures of every epoch go. An epoch that is run again takes the place of itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger, TrainLogger
from torch.utils.tensorboard import SummaryWriter

from speechbrain_ext.files import atomic_path

logger = get_logger(__name__)


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
