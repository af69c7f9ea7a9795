#!/usr/bin/env python3
"""Embed every audio file below a folder.

    python embed.py exp/voxceleb/v2/seed_1 /data/recordings embeddings/recordings

`recordings/a/b/c.flac` becomes `embeddings/recordings/a/b/c.flac.npy`, an array that NumPy loads.
Audio has any sample rate and number of channels. Its format is one of libsndfile's (wav, flac, ogg,
opus, mp3, aiff, au, sph, ...) or, where ffmpeg is on PATH, m4a and the like.

All embeddings together are in `embeddings.npz`, which score.py reads: its trials name the files by
their paths below the folder, without the ending.

Run again, it embeds the files that are missing or whose audio has changed. It removes embeddings
whose file is gone or cannot be embedded any more, so what is there is true of the audio as it is.
Files that cannot be embedded are listed in `failures.tsv`, and the exit status is then 1.

The model is the folder of a finished training, or one that export.py made. Its YAML is executed and
can run any code: load a folder only from somebody you trust.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.failures import FAILURES, tell_failures
from speechbrain_ext.inference.embed_folder import FolderReport, embed_folder
from speechbrain_ext.inference.options import add_model_options, check_options
from speechbrain_ext.inference.provenance import model_facts
from speechbrain_ext.inference.views import VIEWS
from speechbrain_ext.systems.pretrained import least_samples, load_pretrained


def main() -> int:
    """Embed the folder; 1 when a file failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder of a training or of export.py")
    parser.add_argument("audio", type=Path, help="folder to look through, at any depth")
    parser.add_argument("out", type=Path, help="folder for the embeddings")
    add_model_options(parser)
    args = parser.parse_args()
    device = check_options(args)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "embed.py is one process: start it for each GPU, --device cuda:0, cuda:1 and so on, on "
            "a folder of its own",
            code="bad-command",
        )

    encoder = load_pretrained(args.model, args.trust)
    facts = model_facts(encoder, args.model, args.view, "embed.py")
    least = least_samples(encoder)
    report = embed_folder(
        VIEWS[args.view](encoder.to(device)),
        args.audio,
        args.out,
        facts,
        least,
        args.max_batch_seconds,
        args.num_workers,
        device,
        progress=sys.stderr.isatty(),
    )
    tell(report, args.out)
    return 1 if report.failures else 0


def tell(report: FolderReport, out: Path) -> None:
    """Say what was done, and what failed."""
    ignored = ", ".join(f"{count} {ending}" for ending, count in report.ignored.most_common())
    print(
        f"{out}: {report.written} embeddings written, {report.present} were there, "
        f"{len(report.failures)} failed, {sum(report.ignored.values())} other files ignored"
        + (f" ({ignored})" if ignored else "")
    )
    if report.removed:
        print(f"{report.removed} embeddings removed: their audio is gone or cannot be embedded now")
    tell_failures(report.failures, out / FAILURES)
    if any(failure.cause == "memory" for failure in report.failures):
        print(
            "for the memory too long: --view segments, into another folder, hears some seconds at "
            "a time; or give a machine with more",
            file=sys.stderr,
        )


if __name__ == "__main__":
    with friendly_exit():
        sys.exit(main())
