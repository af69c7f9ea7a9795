"""``spk``: its verbs, each with its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import speechbrain_ext
from speechbrain_ext.cli import about, decide, embed, gallery, service, trials
from speechbrain_ext.errors import friendly_exit

#: Of a command that could not do what it was asked; 1 is a "no", or not all of many files.
FAILED = 2

app = typer.Typer(
    name="spk",
    help="Who speaks: embeddings, verification and identification of speakers.",
    epilog="A verb ends with 0 for yes or done, 1 for no or not all files, 2 for a mistake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
#: What each verb does, and an example of it.
VERBS: dict[str, tuple[Callable[..., None], str]] = {
    "verify": (decide.verify, "spk verify a.wav b.mp3 --false-alarm 0.001"),
    "enroll": (gallery.enroll, "spk enroll ann a1.wav a2.wav --gallery team.gallery"),
    "identify": (gallery.identify, "spk identify who.wav --gallery team.gallery"),
    "list": (gallery.list_speakers, "spk list --gallery team.gallery"),
    "remove": (gallery.remove, "spk remove ann --gallery team.gallery"),
    "embed": (embed.embed, "spk embed recordings --out recordings.npz"),
    "score": (trials.score, "spk score trials.txt --root recordings --out scores.txt"),
    "calibrate": (trials.calibrate, "spk calibrate trials.txt --root calls --out calls.json"),
    "info": (about.info, "spk info --model exp/mine/v6/seed_1/export"),
    "benchmark": (about.benchmark, "spk benchmark --seconds 2 --seconds 60 --threads 2"),
    "export": (about.export, "spk export exp/mine/v6/seed_1 --manifests data/mine/manifests"),
    "serve": (service.serve_http, "spk serve --gallery team.gallery"),
    "demo": (service.show_demo, "spk demo --gallery team.gallery"),
}
for _verb, (_do, _example) in VERBS.items():
    app.command(_verb, epilog=f"Example: {_example}")(_do)


def _version(wanted: bool) -> None:
    if wanted:
        print(speechbrain_ext.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command."""
    with friendly_exit(FAILED):
        try:
            app()
        except SystemExit as stop:
            # Typer makes a status of Ctrl-C and of a closed pipe, by which a loop in a shell goes
            # on and a verb says no.
            for cause in (stop.__context__, stop.__context__ and stop.__context__.__cause__):
                if isinstance(cause, (KeyboardInterrupt, BrokenPipeError)):
                    raise cause from None
            raise
