#!/usr/bin/env python3
"""Mirror speech so that every file in the mirror is mono and of 16 kHz, as training reads it.

    python local/convert_audio.py --src /data/speech --dst data/speech/dev

`src` is laid out as <speaker>/<session>/<utterance>.{wav,flac,mp3,m4a,...} or, without sessions, as
<speaker>/<utterance>; or it is a list of files: a folder with Kaldi's wav.scp and utt2spk, a CSV of
SpeechBrain's (ID, wav, start, stop, spk_id), or JSON lines (key, wav, spk, or audio_filepath,
label). With --unlabelled it is any folder of recordings, at any depth. Nothing below `src` is
written to.

WAV and FLAC files that are mono and of 16 kHz are linked to, those of a speaker who has no others
with one link; of all else, FLAC files are made, with ffmpeg where libsndfile cannot read it. Where
a WAV or FLAC file is used as it is, files of the same name in other formats are passed over.

Run again, it follows what has changed: what is gone is removed, what is another file is made again,
the rest is kept. A run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from speechbrain_ext.corpora.mirror.make import MAX_FAILED_OPTION, mirror_source, print_outcome
from speechbrain_ext.errors import friendly_exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``arguments`` are those of the command line unless given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--src", type=Path, required=True, help="the speech; it stays as it is")
    parser.add_argument("--dst", type=Path, required=True, help="the mirror")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="speakers at a time (default: one for each CPU)",
    )
    parser.add_argument("--max_failed", **MAX_FAILED_OPTION)
    parser.add_argument(
        "--unlabelled", action="store_true", help="whether src says nothing of who speaks"
    )
    given = parser.parse_args(arguments)
    with friendly_exit():
        labelled = not given.unlabelled
        outcome = mirror_source(given.src, given.dst, given.jobs, given.max_failed, labelled)
        print_outcome(outcome, given.dst)


if __name__ == "__main__":
    main()
