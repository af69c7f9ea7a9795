#!/usr/bin/env python3
"""Stage 1: check the audio files of a corpus and write its manifests and trial lists.

Example
-------
python local/prepare_manifests.py hparams/manifests.yaml --corpus_dir data/mini \
    --train data/mini/dev --trials data/mini/trials/test.txt --trials_root data/mini/test
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.corpora.maker import SentenceParser
from speechbrain_ext.corpora.manifest_folder import ManifestSources, make_manifests
from speechbrain_ext.corpora.manifest_settings import KEYS, ManifestSettings, load_manifest_settings
from speechbrain_ext.corpora.scan import CAUSES
from speechbrain_ext.errors import first_few, friendly_exit


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = SentenceParser(
        prog="prepare_manifests.py",
        description=(__doc__ or "").partition("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("hparams", help="hparams/manifests.yaml")
    parser.add_argument("--corpus_dir", required=True, type=Path, help="where manifests/ is made")
    parser.add_argument(
        "--train",
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of training speakers, <speaker>/[<session>/]<utterance>.{wav,flac,...}",
    )
    parser.add_argument(
        "--unlabelled",
        metavar="DIR",
        help="folder of training speech whose speakers nobody knows, at any depth",
    )
    parser.add_argument(
        "--trials", nargs="+", default=[], metavar="FILE", help="trial lists to score later"
    )
    parser.add_argument(
        "--trials_root", metavar="DIR", help="folder that the names in the lists are below"
    )
    parser.add_argument(
        "--enrol",
        metavar="FILE",
        help="where the lists name models: a model and its utterances, below --trials_root, a line",
    )
    parser.add_argument(
        "--exclude_speakers",
        metavar="FILE",
        help="speakers to leave out of training, one a line",
    )
    parser.add_argument(
        "--speaker_groups",
        metavar="FILE",
        help='a line "speaker group" for each, such as its corpus or sex: held-out speakers are '
        "compared within groups",
    )
    parser.add_argument(
        "--allow_overlap",
        action="store_true",
        help="go on although speakers of a test list are training speakers",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)"
    )
    settings = parser.add_argument_group("in place of the value in the YAML")
    for key, kind in KEYS.items():
        settings.add_argument(f"--{key}", type=kind)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}; it must be 1 or more")
    return options


def _report(manifest: dict[str, Any], folder: Path, settings: ManifestSettings) -> None:
    """Print what was made."""
    skipped = {cause: number for cause, number in manifest["skipped"].items() if number}
    if skipped:
        print(f"skipped {sum(skipped.values())} files, listed in {folder / 'skipped.tsv'}:")
        for cause, number in skipped.items():
            print(f"  {number:>9,} {cause:<11} {CAUSES[cause]}")
    if manifest["other_depth"]:
        print(f"passed over {manifest['other_depth']} audio files at another depth")
    if manifest["excluded_speakers"]:
        print(f"left out {manifest['excluded_speakers']} speakers of --exclude_speakers")
    unknown = manifest["exclusions_without_effect"]
    if unknown:
        print(
            f"warning: {len(unknown)} entries of --exclude_speakers name nobody below --train: "
            f"{first_few(unknown)}"
        )
    if manifest["overlap"]:
        print(
            f"warning: {manifest['overlap']} speakers are in training and in a test list: "
            "the error rates will look too good"
        )
    for name in ("train", "train_voices", "valid", "test"):
        part = manifest.get(name)
        if part is None:  # without trial lists there is no test set
            continue
        unlabelled = part.get("unlabelled", 0)
        print(
            f"{name:<12}{part['utterances']:>10,} utterances{part['speakers']:>8,} speakers"
            f"{part['hours']:>10.2f} h" + (f"{unlabelled:>10,} without label" * bool(unlabelled))
        )
    for item in manifest["trials"]:
        print(
            f"trials {item['name']}: {item['targets']:,} target, {item['nontargets']:,} non-target"
            f" ({item['title']})"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run stage 1."""
    with friendly_exit():
        options = _parse(arguments)
        settings = load_manifest_settings(
            options.hparams, {key: getattr(options, key) for key in KEYS}
        )
        sources = ManifestSources(
            options.train,
            options.trials,
            options.trials_root,
            options.enrol,
            options.exclude_speakers,
            options.speaker_groups,
            options.allow_overlap,
            options.unlabelled,
        )
        manifest, made = make_manifests(options.corpus_dir, sources, settings, options.jobs)
        folder = options.corpus_dir / "manifests"
        if made:
            _report(manifest, folder, settings)
            print(f"wrote {folder}")
        else:
            print(f"nothing has changed since {folder} was made: left as it is")


if __name__ == "__main__":
    main()
