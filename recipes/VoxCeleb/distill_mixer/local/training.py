"""From a command line to a finished training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import speechbrain as sb
from speechbrain.utils.distributed import ddp_barrier, ddp_init_group, if_main_process

from local.brain import SpeakerBrain
from local.hparams import claim_folder, load_hparams
from local.processes import leave_together


def run_training(
    make_brain: Callable[[dict[str, Any], Any], SpeakerBrain], argv: list[str]
) -> None:
    """Parse the command line, make the experiment folder, train.

    Arguments
    ---------
    make_brain : callable
        Given the hyperparameters and SpeechBrain's run options, makes the Brain.
    argv : list of str
        ``hparams/x.yaml --key value …`` and SpeechBrain's own options.
    """
    _train(make_brain, argv)
    leave_together()


def _train(make_brain: Callable[[dict[str, Any], Any], SpeakerBrain], argv: list[str]) -> None:
    path, run_opts, overrides = sb.parse_arguments(argv)
    ddp_init_group(run_opts)
    given = {name: run_opts[name] for name in sorted(run_opts.overridden_args)}
    hparams, resolved = load_hparams(path, overrides, given)
    if if_main_process():
        claim_folder(hparams["output_folder"], resolved)
    ddp_barrier()
    sb.create_experiment_directory(hparams["output_folder"])
    make_brain(hparams, run_opts).train()
