#!/usr/bin/env python3
"""Embed the utterances of a corpus, each once.

    python extract.py exp/mini/v2/seed_1 --manifests data/mini/manifests
    torchrun --standalone --nproc_per_node 4 extract.py exp/mini/v2/seed_1 --manifests ...

The sets are those that have trial lists: the validation speakers' and the test's. Their embeddings
are written into `embeddings/<set>.npz` of the experiment, where score.py reads them. With
`--cohort` the means of ten utterances of each training speaker are written into
`embeddings/cohort.npz`, for score normalisation.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from speechbrain.utils.distributed import if_main_process

from speechbrain_ext.corpora.cohort import cohort_rows
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.corpora.manifest import Manifest, read_manifest
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.inference.extraction import embed_batch, gather_embeddings, utterance_loader
from speechbrain_ext.processes import join_processes, leave_together
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.systems.devices import check_device
from speechbrain_ext.systems.experiment import load_encoder, weights_sha256
from speechbrain_ext.verification.embeddings import COHORT, Embeddings, save_embeddings


def main() -> None:
    """Write ``embeddings/<set>.npz`` into the experiment folder."""
    parser = argparse.ArgumentParser(description="Embed the utterances of a corpus, each once.")
    parser.add_argument("experiment", type=Path, help="folder of a finished training")
    parser.add_argument("--manifests", type=Path, required=True, help="folder made by stage 1")
    parser.add_argument(
        "--sets", nargs="+", metavar="SET", help="those to embed; by default all with trial lists"
    )
    parser.add_argument(
        "--cohort",
        type=int,
        nargs="?",
        const=10,
        default=0,
        metavar="N",
        help="embed so many utterances of each training speaker too, %(const)s without a number",
    )
    parser.add_argument("--max_batch_seconds", type=float, default=60.0, help="speech in a batch")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that read files")
    parser.add_argument("--device", help="cpu, cuda:0, ...; the best there is by default")
    args = parser.parse_args()
    if args.cohort < 0:
        raise UserError(f"--cohort {args.cohort}: give 0 or more.", code="bad-option")

    device = check_device(args.device)
    join_processes(device)
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

    sets = args.sets or Corpus.read(args.manifests).sets
    for name in sets:
        if not (args.manifests / f"{name}.csv").is_file():
            there = ", ".join(sorted(path.stem for path in args.manifests.glob("*.csv")))
            raise UserError(
                f"--sets {name}: {args.manifests} has no {name}.csv but {there or 'no manifest'}; "
                "stage 1 makes them, test.csv of the lists given with --trials.",
                code="unknown-name",
            )
    training = read_manifest(args.manifests / "train.csv") if args.cohort else None
    encoder = load_encoder(args.experiment).to(device)
    weights = weights_sha256(encoder.embedding_model)

    def embed(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        loader = utterance_loader(rows, args.max_batch_seconds, args.num_workers, rank, world_size)
        vectors: dict[str, np.ndarray] = {}
        for batch in progress_bar(loader, desc=f"embedding {name}", disable=not if_main_process()):
            vectors.update(embed_batch(encoder, batch, device))
        return gather_embeddings(vectors)

    def keep(name: str, ids: list[str], vectors: np.ndarray, manifest: Manifest) -> None:
        path = args.experiment / "embeddings" / f"{name}.npz"
        made_of = {"manifest_sha256": manifest.sha256}
        save_embeddings(path, Embeddings(ids, vectors, weights, made_of))
        print(f"{len(ids)} embeddings of {args.experiment} in {path}")

    for name in sets:
        utterances = read_manifest(args.manifests / f"{name}.csv")
        vectors = embed(name, utterances)
        if if_main_process():
            ids = list(utterances.ids)
            keep(name, ids, np.stack([vectors[i] for i in ids]), utterances)
    if training is not None:
        rows, members = cohort_rows(training, args.cohort)
        vectors = embed(COHORT, [training[row] for row in rows])
        if if_main_process():
            names, place = np.unique(members, return_inverse=True)
            means = np.zeros((len(names), len(next(iter(vectors.values())))))
            np.add.at(means, place, np.stack([vectors[training.ids[row]] for row in rows]))
            means /= np.bincount(place)[:, None]
            keep(COHORT, names.tolist(), means.astype(np.float32), training)
    leave_together()


if __name__ == "__main__":
    with friendly_exit():
        main()
