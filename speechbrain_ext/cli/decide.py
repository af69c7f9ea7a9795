"""``spk verify``: are two recordings of one speaker?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from speechbrain_ext.cli.options import (
    Audio,
    DecisionsFile,
    FalseAlarm,
    Json,
    Model,
    Precision,
    Threads,
    Threshold,
    given_audio,
    number,
    open_model,
    percent,
    tell,
)
from speechbrain_ext.runtime import Decision


def verify(
    one: Audio,
    other: Audio,
    model: Model = None,
    false_alarm: FalseAlarm = 0.01,
    p_target: Annotated[
        float | None,
        typer.Option(
            help="Prior probability of one speaker: decides by the likelihood ratio.",
            parser=number,
        ),
    ] = None,
    c_miss: Annotated[
        float, typer.Option(help="With a prior: cost of refusing one speaker.", parser=number)
    ] = 1.0,
    c_fa: Annotated[
        float, typer.Option(help="With a prior: cost of accepting two speakers.", parser=number)
    ] = 1.0,
    threshold: Threshold = None,
    decisions: DecisionsFile = None,
    precision: Precision = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Say whether two recordings are of one speaker. Ends with 0 for yes, 1 for no."""
    speaker_model = open_model(model, precision, threads, decisions)
    with given_audio(one, other) as (first, second):
        decision = speaker_model.verify(
            first,
            second,
            false_alarm,
            p_target=p_target,
            c_miss=c_miss,
            c_fa=c_fa,
            threshold=threshold,
        )
    tell(as_json, asdict(decision), *_lines(decision, false_alarm))
    raise typer.Exit(0 if decision.same else 1)


def _lines(decision: Decision, false_alarm: float) -> list[str]:
    point = decision.operating_point
    if point.startswith("false_alarm"):
        point = f"for {percent(false_alarm)} of false alarms"
    verdict = "one speaker" if decision.same else "two speakers"
    value = decision.score if decision.scale == "cosine" else decision.llr
    beside = "at or above" if decision.same else "below"
    lines = [
        f"{verdict}: {decision.scale} {value:.3f}, {beside} {decision.threshold:.3f} ({point})"
    ]
    if decision.scale != "cosine":
        lines.append(f"cosine {decision.score:.3f}, between -1 and 1")
    elif decision.llr is not None:
        lines.append(f"log-likelihood ratio {decision.llr:.2f}, natural logarithm")
    if not decision.supported:
        lines.append("few false alarms stand behind this threshold: other speech may give more")
    one, other = decision.seconds_of_speech
    lines.append(f"speech: {one:.1f} s and {other:.1f} s (by {decision.vad})")
    return lines
