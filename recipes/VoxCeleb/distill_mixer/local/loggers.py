"""Where the figures of every epoch go."""

from __future__ import annotations

import json
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
    """Several loggers as one.

    Arguments
    ---------
    loggers : list of TrainLogger
        Each is given every epoch's figures.
    """

    def __init__(self, loggers: list[TrainLogger]) -> None:
        self.loggers = loggers

    def log_stats(self, *args: Any, **kwargs: Any) -> None:
        """See ``TrainLogger.log_stats``."""
        for logger in self.loggers:
            logger.log_stats(*args, **kwargs)
