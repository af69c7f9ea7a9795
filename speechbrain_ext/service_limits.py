"""How much one client can ask of the service: ``spk`` tells it where no service is installed."""

from __future__ import annotations

from dataclasses import dataclass

#: Samples a second, and channels, of a recording that is still decoded.
MAX_RATE, MAX_CHANNELS = 192_000, 8


@dataclass(frozen=True)
class ServiceLimits:
    """What is refused beyond: memory and time stay bounded whatever is sent.

    Arguments
    ---------
    upload_bytes : int
        Of the body of a request.
    seconds : float
        Of audio, decoded, of all recordings of a request together.
    requests : int
        With a body, that are at work or wait at once; more are answered with 429.
    workers : int
        Threads that decode and embed.
    upload_seconds : float
        In which a body has to arrive.
    connections : int
        At once; of more the system may have no files for, of which a process has 1024 by default.
    idle_seconds : int
        After which a connection ends that waits for its client: to ask, or to take an answer. It
        may last twice as long.
    """

    upload_bytes: int = 32 << 20
    seconds: float = 300.0
    requests: int = 16
    workers: int = 2
    upload_seconds: float = 60.0
    connections: int = 900
    idle_seconds: int = 15
