"""``spk serve`` and ``spk demo``: the model over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ext.cli.options import DecisionsFile, Model, Precision, Threads, open_model
from speechbrain_ext.runtime import Gallery, SpeakerModel

Host = Annotated[str, typer.Option(help="The address to listen on; others need a --key.")]
Port = Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)]
Speakers = Annotated[
    Path | None,
    typer.Option("--gallery", "-g", envvar="SPK_GALLERY", help="The file of enrolled speakers."),
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    gallery: Speakers = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="SPK_KEY", help="What clients have to send, 16 characters or more."),
    ] = None,
    model: Model = None,
    decisions: DecisionsFile = None,
    precision: Precision = None,
    threads: Threads = 1,
) -> None:
    """Answer over HTTP until Ctrl-C. Only this machine can ask, where there is no key."""
    _run(open_model(model, precision, threads, decisions), host, port, gallery, key, False)


def demo(
    port: Port = 8000,
    gallery: Speakers = None,
    model: Model = None,
    decisions: DecisionsFile = None,
    precision: Precision = None,
    threads: Threads = 1,
) -> None:
    """Open a page that compares two recordings, from files or the microphone."""
    speaker_model = open_model(model, precision, threads, decisions)
    _run(speaker_model, "127.0.0.1", port, gallery, None, True)


def _run(
    model: SpeakerModel, host: str, port: int, gallery: Path | None, key: str | None, browser: bool
) -> None:
    from speechbrain_ext.serve.run import run

    opened = None if gallery is None else Gallery.open(gallery, model)
    run(model, host, port, opened, key, browser=browser)
