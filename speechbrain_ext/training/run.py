"""From a command line to a finished training."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path, claimed
from speechbrain_ext.processes import first_decides, join_processes, leave_together
from speechbrain_ext.systems.command_line import check_keys, read_command_line
from speechbrain_ext.systems.devices import check_device
from speechbrain_ext.systems.yaml import load_hparams
from speechbrain_ext.training.brain import SpeakerBrain
from speechbrain_ext.training.identity import claim_experiment, made_from


def run_training(brain_class: type[SpeakerBrain], argv: list[str]) -> None:
    """Parse the command line, make the experiment folder, train.

    Arguments
    ---------
    brain_class : class
        Of the Brain; its ``keys`` say what it reads.
    argv : list of str
        ``hparams/x.yaml --key value …`` and SpeechBrain's own options.
    """
    _train(brain_class, argv)
    leave_together()


def _train(brain_class: type[SpeakerBrain], argv: list[str]) -> None:
    line = read_command_line(argv)
    path, run_opts, overrides = line
    join_processes(run_opts["device"], run_opts["distributed_backend"])
    check_device(run_opts["device"])
    check_keys(line, brain_class.keys)
    hparams, resolved = load_hparams(path, overrides, line.given)
    with contextlib.ExitStack() as held:

        def claim() -> None:
            held.enter_context(
                claimed(
                    hparams["save_folder"],
                    f"{hparams['output_folder']}: another training is at work there: wait for its "
                    "end, or choose another --output_folder or --seed",
                )
            )
            claim_experiment(hparams["output_folder"], resolved, made_from(hparams))

        first_decides(claim)
        sb.create_experiment_directory(hparams["output_folder"], save_env_desc=False)
        if if_main_process():
            with atomic_path(Path(hparams["output_folder"]) / "env.log") as temporary:
                temporary.write_text(environment(), encoding="utf-8")
        try:
            brain = brain_class(hparams, run_opts)
        except ValueError as error:  # of SpeechBrain's options, such as fp16 on a CPU
            raise UserError(" ".join(str(error).split()), code="bad-setting") from None
        brain.train()


def environment() -> str:
    """What a training runs with: Python, its packages, the code's revision and CUDA.

    SpeechBrain writes the same, but asks the ``pip`` that the PATH has, which may be that of
    another Python.

    Example
    -------
    >>> f"torch=={metadata.version('torch')}" in environment().splitlines()
    True
    """
    # A folder of which half is left has no name.
    found = {each.name: each.version for each in metadata.distributions() if each.name}
    packages = "\n".join(f"{name}=={found[name]}" for name in sorted(found, key=str.lower))
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        revision = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    parts = {
        "Python": sys.version,
        "Packages": packages,
        "Git revision": revision,
        "CUDA": torch.version.cuda if torch.cuda.is_available() else "none",
    }
    return "\n\n".join(f"{title}:\n{text}" for title, text in parts.items()) + "\n"
