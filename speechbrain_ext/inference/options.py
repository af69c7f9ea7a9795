"""Options that evaluate.py and embed.py have in common."""

from __future__ import annotations

import argparse

from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.views import VIEWS
from speechbrain_ext.systems.devices import check_device


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add how utterances are heard and on what.

    Example
    -------
    >>> parser = argparse.ArgumentParser()
    >>> add_model_options(parser)
    >>> parser.parse_args([]).view
    'full'
    """
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
