"""The service under load, hostile files and SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import select
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
import httpx2 as httpx

from speechbrain_ext.runtime import Gallery
from speechbrain_ext.serve.app import create_app
from speechbrain_ext.service_limits import ServiceLimits
from tests.processes import HANG
from tests.serve.servers import serving
from tests.serve.sounds import opus_silence, tone
from tests.serve.stand_in import StandIn

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
HUNG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)  # Linux's
LOCAL = "http://127.0.0.1:8000"


async def send(client: httpx.AsyncClient, recording: bytes) -> int:
    answer = await client.post("/embed", files={"file": recording})
    if answer.status_code != 200:
        assert set(answer.json()) == {"code", "message"}
    return answer.status_code


def in_process(limits: ServiceLimits, gate: Path | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(StandIn(gate), limits=limits))
    return httpx.AsyncClient(transport=transport, base_url=LOCAL)


def test_beyond_the_places_requests_are_refused(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def ask() -> list[int]:
        async with in_process(ServiceLimits(requests=3), gate) as client:
            sent = [asyncio.ensure_future(send(client, tone(300))) for _ in range(10)]
            while sum(each.done() for each in sent) < 7:
                await asyncio.sleep(0.01)
            assert (await client.get("/health")).status_code == 200
            assert "in_flight 3" in (await client.get("/metrics")).text
            gate.touch()
            first = await asyncio.gather(*sent)
            return [*first, await send(client, tone(300))]

    statuses = asyncio.run(ask())
    assert Counter(statuses[:-1]) == {429: 7, 200: 3} and statuses[-1] == 200


def test_an_upload_that_never_ends_gives_its_place_back() -> None:
    async def ask() -> tuple[httpx.Response, int]:
        async def dripping() -> Any:
            yield b"--b\r\n"
            await asyncio.sleep(3600)

        limits = ServiceLimits(requests=1, upload_seconds=0.1)
        async with in_process(limits) as client:
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            answer = await client.post("/embed", content=dripping(), headers=headers)
            return answer, await send(client, tone(300))

    answer, after = asyncio.run(ask())
    assert (answer.status_code, answer.json()["code"], after) == (408, "slow-upload", 200)


@needs_proc
@pytest.mark.slow
def test_500_at_once_are_all_answered_in_bounded_memory(tmp_path: Path) -> None:
    """The work begins when all that found no place have been answered."""
    gate, places = tmp_path / "gate", ServiceLimits().requests

    async def ask(url: str) -> list[int]:
        limits = httpx.Limits(max_connections=500)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=None) as client:
            sent = [asyncio.ensure_future(send(client, recording)) for _ in range(500)]
            while sum(each.done() for each in sent) < 500 - places:
                await asyncio.sleep(0.05)
            gate.touch()
            return await asyncio.gather(*sent)

    recording, peaks = tone(300, 4), []
    with serving("--gate", str(gate)) as server:
        for _ in range(2):
            gate.unlink(missing_ok=True)
            assert Counter(asyncio.run(ask(server.url))) == {429: 500 - places, 200: places}
            peaks.append(server.peak())
        text = httpx.get(f"{server.url}/metrics").text
    assert f'status="200"}} {2 * places}' in text and "in_flight 0" in text
    assert peaks[-1] - peaks[0] < 50, peaks  # MiB; a round of uploads is 61 MiB
    assert peaks[0] < 400, peaks


@needs_proc
def test_an_hour_in_a_small_file_is_refused_in_bounded_memory() -> None:
    """Decoded it would be 690 MB."""
    bomb = opus_silence(3600)
    assert len(bomb) < 130_000
    with serving() as server:
        url = f"{server.url}/verify"
        assert httpx.post(url, files={"a": tone(300), "b": tone(300)}).status_code == 200
        before = server.peak()
        for files in ({"a": bomb, "b": bomb}, {"a": tone(300), "b": bomb}):
            answer = httpx.post(url, files=files, timeout=None)
            assert (answer.status_code, answer.json()["code"]) == (413, "too-long")
        assert server.peak() - before < 150


def test_a_large_upload_is_answered_and_not_kept() -> None:
    """By a real server, to a client that goes on sending."""
    with serving() as server:
        for _ in range(2):
            answer = httpx.post(
                f"{server.url}/embed", files={"file": bytes(40 << 20)}, timeout=None
            )
            assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_clients_that_hang_up_give_their_places_back() -> None:
    head = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    with serving() as server:
        host, _, port = server.url.rpartition("/")[2].partition(":")
        for _ in range(2 * ServiceLimits().requests):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(head)
        while "in_flight 0" not in httpx.get(f"{server.url}/metrics").text:
            pass
        answer = httpx.post(f"{server.url}/embed", files={"file": tone(300)})
        assert answer.status_code == 200


def test_clients_that_keep_the_service_waiting_are_hung_up_on(tmp_path: Path) -> None:
    """A process has so many connections and no more; one whose answer is being made stays."""
    gate, local = tmp_path / "gate", b"HTTP/1.1\r\nHost: localhost\r\n"
    waiting = {
        "silent": (b"", b""),
        "a head without an end": (b"GET /health " + local, b"X: y\r\n"),
        "a body after its answer": (
            b"POST /nothing " + local + b"Transfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
        ),
        "answers that nobody reads": (4000 * (b"GET / " + local + b"\r\n"), b""),
    }
    options = "--gate", str(gate), "--idle-seconds", "1"
    with ThreadPoolExecutor() as threads, serving(*options) as server:
        host, _, port = server.url.rpartition("/")[2].partition(":")
        answer = threads.submit(
            httpx.post, f"{server.url}/embed", files={"file": tone(300)}, timeout=HANG
        )
        while "in_flight 1" not in httpx.get(f"{server.url}/metrics").text:
            pass
        for name, (first, again) in waiting.items():
            with socket.create_connection((host, int(port)), timeout=60) as client:
                assert hung_up(client, first, again), name
        gate.touch()
        assert answer.result().status_code == 200


@needs_proc
def test_connections_beyond_the_limit_are_hung_up_on(capfd: pytest.CaptureFixture[str]) -> None:
    """So soon that a process with few files has one for each, and logs nothing."""
    most, clients = 100, 400
    with serving("--connections", str(most), "--idle-seconds", str(HANG)) as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        host, _, port = server.url.rpartition("/")[2].partition(":")
        with contextlib.ExitStack() as kept:
            ended = select.poll()
            for _ in range(clients):
                client = kept.enter_context(socket.create_connection((host, int(port))))
                ended.register(client, HUNG_UP)
            gone: set[int] = set()
            while len(gone) < clients - most:
                found = {number for number, _ in ended.poll(60_000)}
                assert found, len(gone)
                for number in found:
                    ended.unregister(number)
                gone |= found
        while True:  # until it has seen that the others have gone
            with contextlib.suppress(httpx.TransportError):
                assert httpx.get(f"{server.url}/health").status_code == 200
                break
    assert capfd.readouterr().err == ""


def hung_up(client: socket.socket, first: bytes, again: bytes) -> bool:
    """Whether the other side ends a connection that goes on and on, within a minute."""
    ended, end = select.poll(), time.monotonic() + 60
    ended.register(client, HUNG_UP)
    threading.Thread(target=send_all, args=(client, first), daemon=True).start()
    while time.monotonic() < end:
        if ended.poll(100):
            return True
        if again:
            send_all(client, again)
    return False


def send_all(client: socket.socket, content: bytes) -> None:
    with contextlib.suppress(OSError):  # of which poll tells
        client.sendall(content)


@pytest.mark.slow
def test_sigkill_while_1000_speakers_are_enrolled(tmp_path: Path) -> None:
    """The gallery is always one of the states between two enrolments."""
    gallery, kills, chance = tmp_path / "gallery", 0, random.Random(7)
    done = 0
    while done < 1000:
        with serving("--gallery", str(gallery)) as server, httpx.Client(timeout=None) as client:
            last = done + chance.randint(100, 200)
            while done < 1000:
                if done == last:
                    threading.Timer(chance.uniform(0, 0.02), server.process.kill).start()
                try:
                    client.post(
                        f"{server.url}/enroll",
                        data={"name": f"speaker {done:04}"},
                        files={"files": tone(100 + done / 2, 3.1, rate=4000)},
                    ).raise_for_status()
                except httpx.TransportError:
                    kills += 1
                    break
                done += 1
        kept = Gallery.open(gallery, StandIn()).names()
        assert len(kept) - done in (0, 1)
        assert kept == [f"speaker {number:04}" for number in range(len(kept))]
        done = len(kept)
    assert kills > 4
