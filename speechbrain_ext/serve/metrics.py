"""What the service has done, as the text that Prometheus reads."""

from __future__ import annotations

from collections import Counter


class Metrics:
    """Counts, kept by the event loop alone.

    Example
    -------
    >>> metrics = Metrics()
    >>> metrics.answered("/embed", 200, seconds=0.25)
    >>> print(metrics.text())
    # HELP spk_requests_total Requests that were answered.
    # TYPE spk_requests_total counter
    spk_requests_total{path="/embed",status="200"} 1
    # HELP spk_request_seconds_total Time from a request's head to its answer's end.
    # TYPE spk_request_seconds_total counter
    spk_request_seconds_total{path="/embed"} 0.250000
    # HELP spk_audio_seconds_total Audio that was decoded.
    # TYPE spk_audio_seconds_total counter
    spk_audio_seconds_total 0.000
    # HELP spk_requests_in_flight Requests with a body that are at work or wait.
    # TYPE spk_requests_in_flight gauge
    spk_requests_in_flight 0
    <BLANKLINE>
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.audio_seconds = 0.0
        self._answers: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[str] = Counter()

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer.

        Arguments
        ---------
        path : str
            One of the service's own; a client's would be a new line each.
        status : int
            Of HTTP.
        seconds : float
            That it took.
        """
        self._answers[path, status] += 1
        self._seconds[path] += seconds  # type: ignore[assignment]

    def text(self) -> str:
        """All counts, a line each."""
        lines = _head("spk_requests_total", "counter", "Requests that were answered.")
        for (path, status), number in sorted(self._answers.items()):
            lines.append(f'spk_requests_total{{path="{path}",status="{status}"}} {number}')
        lines += _head(
            "spk_request_seconds_total",
            "counter",
            "Time from a request's head to its answer's end.",
        )
        for path, seconds in sorted(self._seconds.items()):
            lines.append(f'spk_request_seconds_total{{path="{path}"}} {seconds:.6f}')
        lines += _head("spk_audio_seconds_total", "counter", "Audio that was decoded.")
        lines.append(f"spk_audio_seconds_total {self.audio_seconds:.3f}")
        lines += _head(
            "spk_requests_in_flight", "gauge", "Requests with a body that are at work or wait."
        )
        return "\n".join([*lines, f"spk_requests_in_flight {self.in_flight}", ""])


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
