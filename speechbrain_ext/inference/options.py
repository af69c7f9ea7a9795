"""Options that evaluate.py has in common with embed.py or with score.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from speechbrain_ext.decisions import QUALITIES, SCORE
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.views import VIEWS
from speechbrain_ext.systems.devices import check_device
from speechbrain_ext.verification.score_norm import NORMS, SNORM


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add whether a model is trusted, how it hears utterances and on what.

    Example
    -------
    >>> parser = argparse.ArgumentParser()
    >>> add_model_options(parser)
    >>> parser.parse_args([]).view
    'full'
    """
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let the model's YAML run code beside SpeechBrain's, PyTorch's and this package's",
    )
    parser.add_argument(
        "--view",
        choices=list(VIEWS),
        default="full",
        help="the whole utterance, five segments of 3 s averaged, or both (default: %(default)s)",
    )
    parser.add_argument("--device", help="cpu, cuda:0, ...; the best there is by default")
    parser.add_argument(
        "--num_workers",
        type=int,
        default=2,
        help="how many read files ahead; 0 reads when needed (default: %(default)s)",
    )
    parser.add_argument(
        "--max_batch_seconds",
        type=float,
        default=60.0,
        help="speech in a batch; a longer file is one of its own (default: %(default)s)",
    )


def check_options(args: argparse.Namespace) -> str:
    """Refuse what cannot be, and choose the device.

    Returns
    -------
    str
        The device given, or the best there is.

    Raises
    ------
    UserError
        When a number is out of range or there is no such device.
    """
    if args.num_workers < 0:
        raise UserError(f"--num_workers {args.num_workers}: give 0 or more.", code="bad-option")
    if not args.max_batch_seconds > 0:
        raise UserError(
            f"--max_batch_seconds {args.max_batch_seconds}: give more than 0.", code="bad-option"
        )
    return check_device(args.device)


def add_norm_options(parser: argparse.ArgumentParser, own: str = "") -> None:
    """Add by which cohort scores are normalised.

    Arguments
    ---------
    parser : ArgumentParser
        Gets the options.
    own : str
        Which cohort is taken where none is given, for the help.

    Example
    -------
    >>> parser = argparse.ArgumentParser()
    >>> add_norm_options(parser)
    >>> parser.parse_args(["--score_norm", "asnorm", "--cohort", "a.npz"]).cohort.name
    'a.npz'
    """
    parser.add_argument(
        "--score_norm",
        choices=[*NORMS, "none"],
        default="none",
        help="normalise the scores by a cohort as well (default: %(default)s)",
    )
    parser.add_argument(
        "--cohort",
        type=Path,
        metavar="FILE",
        help="embeddings of others by the same model, as extract.py --cohort and embed.py write "
        f"them (.npz){own}",
    )
    parser.add_argument(
        "--top_n",
        type=int,
        metavar="N",
        help="members of the cohort that count for asnorm (default: a fifth, from 10 to 300)",
    )


def add_calibration_option(parser: argparse.ArgumentParser) -> None:
    """Add which measures a calibration has.

    Example
    -------
    >>> parser = argparse.ArgumentParser()
    >>> add_calibration_option(parser)
    >>> parser.parse_args(["--calibration", "score", "norm"]).calibration
    ['score', 'norm']
    """
    parser.add_argument(
        "--calibration",
        nargs="+",
        choices=[SCORE, *QUALITIES, "none"],
        default=[SCORE],
        help="what log-likelihood ratios are made of: the score, always, and of each trial the "
        "shorter duration, the smaller norm of the embeddings and their likeness to a cohort of "
        "training speakers; none fits nothing (default: score)",
    )


def calibration_qualities(args: argparse.Namespace) -> tuple[str, ...] | None:
    """The measures beside the score; None where nothing is to be fitted.

    Raises
    ------
    UserError
        When none is given together with others.

    Example
    -------
    >>> calibration_qualities(argparse.Namespace(calibration=["score", "norm"]))
    ('norm',)
    """
    if "none" not in args.calibration:
        return tuple(name for name in QUALITIES if name in args.calibration)
    if len(args.calibration) > 1:
        raise UserError(
            f"--calibration {' '.join(args.calibration)}: give none alone, or leave it out.",
            code="bad-command",
        )
    return None


def check_norm_options(args: argparse.Namespace) -> None:
    """Refuse options of the cohort that say nothing.

    Raises
    ------
    UserError
        When one needs another, or the number is too small.
    """
    for option in ("cohort", "top_n"):
        if getattr(args, option) is not None and args.score_norm == "none":
            raise UserError(
                f"--{option} {getattr(args, option)} does nothing without --score_norm: give "
                "--score_norm asnorm too.",
                code="missing-option",
            )
    if args.top_n is not None and args.score_norm == SNORM:
        raise UserError(
            f"--top_n {args.top_n} does nothing with --score_norm snorm, for which all of the "
            "cohort count: give --score_norm asnorm.",
            code="bad-command",
        )
    if args.top_n is not None and args.top_n < 2:
        raise UserError(f"--top_n {args.top_n}: give 2 or more.", code="bad-option")
