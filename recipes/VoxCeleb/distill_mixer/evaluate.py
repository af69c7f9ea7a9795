#!/usr/bin/env python3
"""Evaluate a trained model on any number of trial lists, embedding each audio file once.

    python evaluate.py exp/voxceleb/v2/seed_1 --out exp/voxceleb/v2/seed_1/evaluation \\
        --trials /data/vox1/wav veri_test2.txt list_test_hard2.txt \\
        --trials /data/voices/audio voices_eval.txt
    torchrun --standalone --nproc_per_node 4 evaluate.py ...

`--trials` is given a folder and the lists whose paths are below it. A list has one trial a line,
`label enrol test` or `enrol test label`, or is a table whose header names these columns. Labels are
1 and 0, target and nontarget, tgt and imp, or true and false. Paths may lack the ending of an audio
format; of an utterance in several formats the first that can be used is taken, wav before flac.

Where the enrolment side names models of several utterances, `--enrol ROOT FILE` has a line
`model utterance utterance ...` for each, and the mean of their embeddings is scored.

With `--conditions hparams/conditions/card.yaml` the audio is changed as well: cut, in noise and
rooms, through telephones and codecs, on both sides of the trials and on the test side alone. The
error rates, and the decisions at the model's own threshold of 1 % false alarms, are in
`CONDITIONS.md`.

With `--score_norm asnorm --cohort FILE` the scores are normalised as well, as `<list>_normalized`,
by embeddings of others that extract.py --cohort or embed.py made with the same model and view.

Audio is of any format, sample rate and number of channels. Everything is checked before anything
is embedded, except the sound of what ffmpeg decodes. Run again, with the same lists or others, it
embeds only what is not there yet.

Where the recipe has calibrated the model (score.py), the log-likelihood ratios and the stored
threshold of 1 % false alarms are measured too.

The folder of `--out` gets `RESULTS.md` and, for each list, `results/<list>.json`,
`scores/<list>.txt`, and `plots/<list>_det`, `_scores` and `_reliability`. Its `embeddings/` holds
what a later run need not compute.

The model is the folder of a finished training, or one that export.py made. Its YAML is executed and
can run any code: load a folder only from somebody you trust.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from speechbrain.utils.distributed import if_main_process

from speechbrain_ext.corpora.evaluation_lists import (
    Audio,
    EvaluationList,
    Files,
    check_audio,
    read_evaluation_lists,
)
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.inference.evaluation import FileEmbedder
from speechbrain_ext.inference.options import (
    add_model_options,
    add_norm_options,
    check_norm_options,
    check_options,
)
from speechbrain_ext.inference.provenance import claim_for_model, model_facts, system_name
from speechbrain_ext.inference.store import EmbeddingStore
from speechbrain_ext.inference.views import VIEWS
from speechbrain_ext.measure.condition_card import ConditionRun
from speechbrain_ext.measure.conditions import read_conditions
from speechbrain_ext.processes import first_decides, join_processes, leave_together
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.systems.pretrained import least_samples, load_pretrained
from speechbrain_ext.terminal import print_table
from speechbrain_ext.verification.calibrated import measure_calibrated
from speechbrain_ext.verification.conditions import (
    CARD,
    CardThreshold,
    card_notes,
    conditions_table,
    read_cards,
    write_conditions_page,
)
from speechbrain_ext.verification.embeddings import Embeddings, load_embeddings
from speechbrain_ext.verification.fitted import Fitted, exported_decisions, kept_decisions
from speechbrain_ext.verification.lists import NORMALIZED
from speechbrain_ext.verification.quality import values_of
from speechbrain_ext.verification.results import remove_result, write_result
from speechbrain_ext.verification.score_norm import COSINE, Cohort, normalized_scores
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.tables import (
    NO_INTERVAL,
    calibrated_table,
    calibration_note,
    check_earlier,
    read_results,
    terminal_table,
    write_results_page,
)


def main() -> None:
    """Evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder of a training or of export.py")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    parser.add_argument(
        "--trials",
        action="append",
        nargs="+",
        required=True,
        metavar=("ROOT", "LIST"),
        help="folder that the names are below, then one list or more; may be given several times",
    )
    parser.add_argument(
        "--enrol",
        nargs=2,
        metavar=("ROOT", "FILE"),
        help="folder that the utterances of models are below, and the file that lists them",
    )
    parser.add_argument(
        "--conditions",
        type=Path,
        metavar="YAML",
        help="try the model under these conditions too; hparams/conditions/card.yaml has many; its "
        "classes are made",
    )
    add_model_options(parser)
    add_norm_options(parser)
    args = parser.parse_args()
    device = check_options(args)
    check_norm_options(args)
    conditions = read_conditions(args.conditions) if args.conditions else []
    join_processes(device)

    encoder = load_pretrained(args.model, args.trust)
    facts = model_facts(encoder, args.model, args.view, "evaluate.py")
    cohort = read_cohort(args, facts)
    fitted = fitted_of(args.model, facts)
    store = EmbeddingStore(args.out / "embeddings", facts["weights_sha256"])
    lists: list[EvaluationList] = []
    used: dict[Files, Audio] = {}

    def prepare() -> list[Audio]:
        lists.extend(read_evaluation_lists(args.trials, args.enrol))
        utterances = list(
            dict.fromkeys(each for some in lists for own in some.files for each in own)
        )
        checked = check_audio(utterances, least_samples(encoder), max(args.num_workers, 1))
        used.update(zip(utterances, checked, strict=True))
        if fitted is not None and "duration" in fitted.measures:
            check_lengths(args.model, checked)
        audio = list({each.path: each for each in checked}.values())
        claim_for_model(args.out, facts)
        check_earlier(args.out, [each.path for each in lists])
        missing = store.missing(audio)
        announce(lists, audio, missing)
        return missing

    missing = first_decides(prepare)
    heard = VIEWS[args.view](encoder.to(device))
    embedder = FileEmbedder(heard, device, args.max_batch_seconds, args.num_workers)
    embedder.embed(missing, store)
    if if_main_process():
        file = os.path.abspath(args.cohort) if args.cohort else ""
        score(lists, used, store, args.out, facts, system_name(args.model), cohort, file, fitted)
    if conditions:
        given = {"system": system_name(args.model), **facts}
        threshold = None if fitted is None else CardThreshold.of(fitted.decisions)
        run = ConditionRun(args.out, store, embedder, least_samples(encoder), given, threshold)
        show_conditions(args.out, run.measure(conditions, lists, used))
    leave_together()


def read_cohort(args: argparse.Namespace, facts: Mapping[str, Any]) -> Cohort | None:
    """Those who normalise the scores, where that is asked for."""
    if args.score_norm == "none":
        return None
    if args.cohort is None:
        raise UserError(
            f"--score_norm {args.score_norm} needs --cohort, a file of embeddings by this model: "
            "extract.py --cohort makes one of the training speakers, embed.py of any folder.",
            code="missing-option",
        )
    members = load_embeddings(args.cohort)
    try:
        cohort = Cohort.of(members, args.score_norm, args.top_n)
        cohort.check(facts["weights_sha256"], facts["view"])
        return cohort
    except UserError as error:
        raise UserError(f"{args.cohort}: {error}", code=error.code) from None


def fitted_of(model: Path, facts: Mapping[str, Any]) -> Fitted | None:
    """What the model decides by, fitted when its recipe scored it; of whole utterances alone."""
    fitted = kept_decisions(model, facts["weights_sha256"]) or exported_decisions(model)
    if fitted is not None and facts["view"] != "full":
        if if_main_process():
            print(f"Nothing is calibrated: what {model} decides by is of --view full.")
        return None
    return fitted


def check_lengths(model: Path, audio: Sequence[Audio]) -> None:
    """Refuse audio whose length nobody knows before it is decoded."""
    unknown = [each.path for each in audio if each.seconds == math.inf]
    if unknown:
        raise UserError(
            f"{unknown[0]}: its header does not say how long it is, and the calibration of {model} "
            "weighs durations: convert it to FLAC, or score the experiment again by score.py "
            "--calibration score.",
            code="unusable-audio",
        )


def announce(
    lists: Sequence[EvaluationList], audio: Sequence[Audio], missing: Sequence[Audio]
) -> None:
    """Say what there is to do."""
    all_of_it, to_embed = _time(audio, " of audio"), _time(missing)
    print(
        f"{len(lists)} list{'s' if len(lists) > 1 else ''}, "
        f"{sum(len(each.trials) for each in lists):,} trials, {len(audio):,} utterances, "
        f"{all_of_it}; {len(missing):,} utterances, {to_embed}, are to be embedded",
        flush=True,
    )


def _time(audio: Sequence[Audio], of_what: str = "") -> str:
    known = [each.seconds for each in audio if each.seconds < math.inf]
    seconds, others = sum(known), len(audio) - len(known)
    text = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
    return text + of_what + (f" and {others} of unknown length" if others else "")


def show_conditions(out: Path, names: Sequence[str]) -> None:
    """Write the page of all lists that were tried under conditions, and show these."""
    if not names:  # not the first process
        return
    cards = read_cards(out)
    write_conditions_page(out, cards)
    for card in cards:
        if card["trials"] in names:
            print_table(conditions_table(card))
            Console().print(" ".join(card_notes(card)))
    print(out / CARD)


def score(
    lists: Sequence[EvaluationList],
    used: Mapping[Files, Audio],
    store: EmbeddingStore,
    out: Path,
    facts: dict[str, Any],
    system: str,
    cohort: Cohort | None,
    cohort_file: str,
    fitted: Fitted | None,
) -> None:
    """Score the lists, write everything and print the table."""
    seconds = {audio.path: audio.seconds for audio in used.values()}
    files = list(seconds)
    rows = {file: str(row) for row, file in enumerate(files)}
    row_of = {own: rows[audio.path] for own, audio in used.items()}
    # By number: a path for each of a million trials' names would be most of the memory.
    embeddings = Embeddings(
        list(rows.values()),
        store.matrix(files),
        str(facts["weights_sha256"]),
        {"view": facts["view"]},
    )
    for each in progress_bar(lists, desc="scoring", unit=" lists"):
        trials = each.by_row(row_of)
        scores = cosine_scores(trials, embeddings)
        header = {
            "system": system,
            "trials": each.name,
            "title": each.title,
            "list": os.path.abspath(each.path),
            "root": os.path.abspath(each.root),
            "view": facts["view"],
            "utterances": len(trials.utterances),
        }
        more = (each.speakers, embeddings.weights_sha256, f"view: {facts['view']}")
        header["scores"] = COSINE
        calibrated = None
        if fitted is not None and fitted.decisions.calibration is not None:
            values = values_of(
                trials,
                scores,
                embeddings,
                fitted.measures,
                lambda row: seconds[files[int(row)]],
                fitted.cohort,
            )
            llr = fitted.decisions.calibration.llr(values)
            calibrated = measure_calibrated(
                fitted.decisions, llr, each.trials, scores, each.speakers
            )
        write_result(out, each.name, header, each.trials, scores, *more, calibrated=calibrated)
        if cohort is None:
            remove_result(out, each.name + NORMALIZED)
            continue
        scores = normalized_scores(trials, scores, embeddings, cohort)
        header |= {"title": f"{each.title}, {cohort.norm}", "scores": cohort.described}
        header["cohort"] = cohort_file
        write_result(out, each.name + NORMALIZED, header, each.trials, scores, *more)
    results = read_results(out)
    write_results_page(out, results, facts, system)
    shown = [result for result in results if result["trials"] in {each.name for each in lists}]
    print_table(terminal_table(shown, f"{system}, view {facts['view']}"))
    if any(result["eer_interval_95"] is None for result in shown):
        Console().print(NO_INTERVAL)
    if note := calibration_note(shown):
        print_table(calibrated_table(shown, {"trials": "title"}))
        Console().print(note)
    print(out / "RESULTS.md")


if __name__ == "__main__":
    with friendly_exit():
        main()
