"""Connections that are so many and no more, and do not wait for ever."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class ImpatientProtocol(H11Protocol):
    """HTTP that hangs up on clients which do nothing, and those that only seem to do something.

    uvicorn ends those that are silent after an answer. This also ends those that never ask, send
    the head of a request byte by byte, go on with a body that was answered, or take no answer.
    While an answer is made, they can wait. h11 bounds the head of a request; httptools, which
    uvicorn takes where it is installed, does not.

    A connection beyond ``most`` is ended at once: where the system has no file for one, asyncio
    logs that a thousand times a second.
    """

    most: int

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._look()

    def _look(self, before: object = None) -> None:
        """Hang up where the client was waited for at the look before as well."""
        asked = self.cycle
        waits = asked is None or asked.response_complete or self.flow.write_paused
        now = (waits or self.transport.is_closing(), asked)
        if now[0] and now == before:
            self.transport.abort()
        else:
            self.loop.call_later(self.timeout_keep_alive, self._look, now)
