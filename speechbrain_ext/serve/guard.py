"""What stands before the service: who may ask, how much, and how many at once."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from speechbrain_ext.errors import UserError
from speechbrain_ext.serve.metrics import Metrics
from speechbrain_ext.service_limits import ServiceLimits

#: Paths that hold nobody's data, which are answered without the key.
OPEN = ("/", "/docs", "/health", "/openapi.json")
#: All paths of the service.
PATHS = (*OPEN, "/embed", "/enroll", "/identify", "/metrics", "/speakers", "/verify")

_STATUS = {
    "busy": 429,
    "foreign-page": 403,
    "no-gallery": 409,
    "no-threshold": 409,
    "slow-upload": 408,
    "too-large": 413,
    "too-long": 413,
    "unauthorized": 401,
    "unknown-name": 404,
    "wrong-key": 403,
}


def answer(error: UserError, status: int | None = None) -> JSONResponse:
    """Give what a client is told of a mistake: its code and its sentence."""
    status = status or _STATUS.get(error.code, 422)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(status)
    return JSONResponse({"code": error.code, "message": str(error)}, status, headers)


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is that of the machine itself.

    Example
    -------
    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "a.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Middleware that refuses before anything is read of a request, or while it is read.

    Without a key only the machine itself may ask, and only by its own pages: the address that a
    browser was sent to has to be one of the machine, and so has the page that asks.

    Arguments
    ---------
    app : ASGI application
        What it stands before.
    key : str or None
        What clients have to send as ``Authorization: Bearer KEY``.
    limits : ServiceLimits
        What is refused beyond.
    metrics : Metrics
        Where answers are counted.
    """

    def __init__(
        self, app: ASGIApp, key: str | None, limits: ServiceLimits, metrics: Metrics
    ) -> None:
        self._app, self._key, self._limits, self._metrics = app, key, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._admit(scope, receive, counted)
        except UserError as error:
            await answer(error)(scope, receive, counted)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self._metrics.answered(path, status, time.perf_counter() - start)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if self._key is None:
            _check_local(headers)
        elif scope["path"] not in OPEN:
            _check_key(headers, self._key)
        if "transfer-encoding" in headers and "content-length" in headers:
            error = UserError(
                "Content-Length and Transfer-Encoding cannot both be: send one", code="bad-request"
            )
            refusal = answer(error, 400)
            refusal.headers["Connection"] = "close"
            await refusal(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.upload_bytes:
            raise self._too_large()
        if self._metrics.in_flight >= self._limits.requests:
            raise UserError("all places are taken: send this again in a second", code="busy")
        self._metrics.in_flight += 1
        try:
            await self._app(scope, self._limited(receive), send)
        finally:
            self._metrics.in_flight -= 1

    def _limited(self, receive: Receive) -> Receive:
        """Receive a body of so many bytes, within so many seconds."""
        received, whole = 0, False
        end = time.monotonic() + self._limits.upload_seconds

        async def limited() -> Message:
            nonlocal received, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(end - time.monotonic(), 0))
            except asyncio.TimeoutError:
                raise UserError(
                    f"the recordings did not arrive within {self._limits.upload_seconds:g} s: send "
                    "shorter ones",
                    code="slow-upload",
                ) from None
            received += len(message.get("body", b""))
            if received > self._limits.upload_bytes:
                raise self._too_large()
            whole = not message.get("more_body", False)
            return message

        return limited

    def _too_large(self) -> UserError:
        return UserError(
            f"the request is too large: send at most {self._limits.upload_bytes / 2**20:g} MiB",
            code="too-large",
        )


def _check_local(headers: Headers) -> None:
    """Refuse pages of other places, also one whose name was made to lead here."""
    address = headers.get("host", "")
    host = address.rpartition(":")[0] if address.rpartition(":")[2].isdecimal() else address
    origin = headers.get("origin")
    if is_loopback(host.strip("[]")) and origin in (None, f"http://{address}"):
        return
    raise UserError(
        "a page or a name of another place asks: open the service by its own address, or start it "
        "with a key",
        code="foreign-page",
    )


def _check_key(headers: Headers, key: str) -> None:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise UserError(
            "this service wants a key: send the header Authorization: Bearer KEY",
            code="unauthorized",
        )
    if not hmac.compare_digest(given.strip().encode(), key.encode()):
        raise UserError("the key is not that of this service: send the right one", code="wrong-key")
