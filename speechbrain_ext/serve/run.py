"""The service on a port: ``spk serve`` and ``spk demo``."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.gallery import Gallery
from speechbrain_ext.runtime.model import SpeakerModel
from speechbrain_ext.serve.app import create_app
from speechbrain_ext.serve.connection import ImpatientProtocol
from speechbrain_ext.serve.guard import is_loopback
from speechbrain_ext.service_limits import ServiceLimits

#: A key that is shorter can be guessed.
MIN_KEY = 16
# Clients that may wait to be heard at all, for which the kernel has a limit of its own; and of whom
# so many are heard before any is counted.
_BACKLOG, _AT_ONCE = 2048, 20


def run(
    model: SpeakerModel,
    host: str = "127.0.0.1",
    port: int = 8000,
    gallery: Gallery | None = None,
    key: str | None = None,
    limits: ServiceLimits | None = None,
    browser: bool = False,
) -> None:
    """Serve a model until Ctrl-C.

    Arguments
    ---------
    model : SpeakerModel
        The model.
    host : str
        The address to listen on. Others than the machine itself can reach it where it is not one
        of loopback, and then there has to be a key.
    port : int
        0 takes a free one. The line that is printed says which.
    gallery : Gallery, optional
        Where speakers are enrolled.
    key : str, optional
        What clients have to send.
    limits : ServiceLimits, optional
        What is refused beyond.
    browser : bool
        Open the demo page.

    Raises
    ------
    UserError
        When a key is missing or short, or the port cannot be had.
    """
    check_key(host, key)
    limits = limits or ServiceLimits()
    app = create_app(model, gallery, key, limits)
    with _listening(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        print(f"{address} (page: {address}/, paths: {address}/docs; Ctrl-C ends it)", flush=True)
        if browser:
            webbrowser.open(address)
        config = uvicorn.Config(
            app,
            http=type("Protocol", (ImpatientProtocol,), {"most": limits.connections}),
            ws="none",
            backlog=_AT_ONCE,
            timeout_keep_alive=limits.idle_seconds,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        _Server(config).run(sockets=[listener])


def demo(
    model: SpeakerModel, port: int = 0, gallery: Gallery | None = None, browser: bool = True
) -> None:
    """Show a model's page until Ctrl-C; without a gallery those enrolled are forgotten then.

    Arguments
    ---------
    model : SpeakerModel
        The model.
    port : int
        0 takes a free one.
    gallery : Gallery, optional
        Where speakers are enrolled for longer.
    browser : bool
        Whether to open the page.
    """
    # Ended by another program, too, it leaves no voices behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory() as folder:
        kept = gallery or Gallery.open(Path(folder) / "gallery", model)
        run(model, port=port, gallery=kept, browser=browser)


def check_key(host: str, key: str | None) -> None:
    """Refuse a service that anybody could use.

    Raises
    ------
    UserError
        When there is no key and others can reach the host, or the key is not a good one.

    Example
    -------
    >>> check_key("127.0.0.1", None)
    >>> check_key("0.0.0.0", None)
    Traceback (most recent call last):
    speechbrain_ext.errors.UserError: others can reach 0.0.0.0: give a key of 16 characters or \
more (--key, or SPK_KEY in the environment), or --host 127.0.0.1
    """
    if key is None and not is_loopback(host):
        raise UserError(
            f"others can reach {host}: give a key of {MIN_KEY} characters or more (--key, or "
            "SPK_KEY in the environment), or --host 127.0.0.1",
            code="bad-option",
        )
    if key is not None and (
        len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or key != key.strip()
    ):
        raise UserError(
            f"the key cannot be used: give {MIN_KEY} printable ASCII characters or more, without "
            "spaces around them",
            code="bad-option",
        )


class _Server(uvicorn.Server):
    """Lets more clients wait than asyncio, by the same number, takes in one turn of its loop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"port {port} of {host} cannot be had ({error}): give another --port or --host",
            code="bad-option",
        ) from None
    with listener:
        yield listener
