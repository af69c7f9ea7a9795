"""``spk serve`` and ``spk demo``: the model over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ext.cli.options import DecisionsFile, Model, Precision, Threads, open_model
from speechbrain_ext.runtime import Gallery, SpeakerModel
from speechbrain_ext.service_limits import ServiceLimits

_LIMITS = ServiceLimits()
Host = Annotated[str, typer.Option(help="The address to listen on; others need a --key.")]
Port = Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)]
Speakers = Annotated[
    Path | None,
    typer.Option("--gallery", "-g", envvar="SPK_GALLERY", help="The file of enrolled speakers."),
]


def serve_http(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    gallery: Speakers = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="SPK_KEY", help="What clients have to send, 16 characters or more."),
    ] = None,
    max_mib: Annotated[
        int, typer.Option("--max-mib", help="MiB of a request at most.", min=1)
    ] = _LIMITS.upload_bytes >> 20,
    max_seconds: Annotated[
        int, typer.Option(help="Seconds of audio in a request at most.", min=1)
    ] = int(_LIMITS.seconds),
    max_requests: Annotated[
        int, typer.Option(help="Requests at once; more are answered with 429.", min=1)
    ] = _LIMITS.requests,
    model: Model = None,
    decisions: DecisionsFile = None,
    precision: Precision = None,
    threads: Threads = 1,
) -> None:
    """Answer over HTTP until Ctrl-C. Only this machine can ask, where there is no key."""
    from speechbrain_ext.serve.run import run

    speaker_model = open_model(model, precision, threads, decisions)
    limits = ServiceLimits(upload_bytes=max_mib << 20, seconds=max_seconds, requests=max_requests)
    run(speaker_model, host, port, _opened(gallery, speaker_model), key, limits)


def show_demo(
    port: Port = 0,
    gallery: Speakers = None,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    model: Model = None,
    decisions: DecisionsFile = None,
    precision: Precision = None,
    threads: Threads = 1,
) -> None:
    """Open a page that compares two recordings, from files or the microphone."""
    from speechbrain_ext.serve.run import demo

    speaker_model = open_model(model, precision, threads, decisions)
    demo(speaker_model, port, _opened(gallery, speaker_model), browser)


def _opened(gallery: Path | None, model: SpeakerModel) -> Gallery | None:
    return None if gallery is None else Gallery.open(gallery, model)
