"""Where the figures of every epoch go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.train_logger import TrainLogger

from speechbrain_ext.files import atomic_path


class JSONLinesLogger(TrainLogger):
    """One JSON object a line, one line an epoch; an epoch that is run again replaces its line.

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
        kept = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        lines = [line for line in kept if json.loads(line)["epoch"] < stats_meta["epoch"]]
        lines.append(json.dumps({**stats_meta, "train": train_stats, "valid": valid_stats}))
        with atomic_path(self.path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


class TrainLoggers(TrainLogger):
    """Several loggers as one, made when there is something to log.

    Reading a YAML file must not leave files behind, and TensorBoard's logger opens its own at once.

    Arguments
    ---------
    loggers : list of callables
        Each makes a logger, which is given every epoch's figures.
    """

    def __init__(self, loggers: list[Callable[[], TrainLogger]]) -> None:
        self.makers = loggers
        self.loggers: list[TrainLogger] = []

    def log_stats(self, *args: Any, **kwargs: Any) -> None:
        """See ``TrainLogger.log_stats``."""
        self.loggers = self.loggers or [make() for make in self.makers]
        for logger in self.loggers:
            logger.log_stats(*args, **kwargs)
