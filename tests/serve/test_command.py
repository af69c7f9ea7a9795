"""``spk serve`` and ``spk demo`` with a model folder."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
import httpx2 as httpx
import soundfile

from tests.processes import ROOT, environment
from tests.runtime.models import RATE, make_model, voice
from tests.serve.servers import SPK, serving


def wav(speaker: int, take: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, voice(speaker, take, seconds=6), RATE, format="WAV")
    return file.getvalue()


def test_the_service_decides_as_the_model_does(tmp_path: Path) -> None:
    model, gallery = make_model(tmp_path / "tones"), tmp_path / "gallery"
    options = ["serve", "--port", "0", "--model", str(model), "--gallery", str(gallery)]
    with serving(*options, program=SPK) as server, httpx.Client(base_url=server.url) as client:
        for speaker in (0, 1):
            files = {"files": wav(speaker, 0)}
            client.post("/enroll", data={"name": f"speaker {speaker}"}, files=files)
        told = client.post("/identify", files={"file": wav(1, 1)}).json()
        assert told["name"] == "speaker 1" and told["threshold"] == 0.7
        for other, same in ((0, True), (1, False)):
            files = {"a": wav(0, 0), "b": wav(other, 1)}
            told = client.post("/verify", files=files).json()
            assert told["same"] is same and (told["llr"] > 0) is same
            told = client.post("/verify", files=files, data={"p_target": "0.5"}).json()
            assert (told["scale"], told["threshold"]) == ("log-likelihood ratio", 0)
            assert told["same"] is same
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait() == -signal.SIGINT  # a shell's loop ends with it
    with serving("demo", "--no-browser", program=SPK, SPK_MODEL=str(model)) as server:
        assert httpx.get(f"{server.url}/speakers").json() == {"names": []}
        assert "Who speaks?" in httpx.get(server.url).text


def test_limits_are_options(tmp_path: Path) -> None:
    options = ["serve", "--port", "0", "--model", str(make_model(tmp_path / "tones"))]
    options += ["--max-mib", "1", "--max-seconds", "5", "--max-requests", "1"]
    with serving(*options, program=SPK) as server, httpx.Client(base_url=server.url) as client:
        told = client.get("/health").json()
        assert (told["upload_bytes"], told["seconds"]) == (1 << 20, 5)
        answer = client.post("/embed", files={"file": bytes(1 << 20)})
        assert answer.json()["code"] == "too-large" and "1 MiB" in answer.json()["message"]
        answer = client.post("/embed", files={"file": wav(0, 0)})
        assert answer.json()["code"] == "too-long" and "5 s" in answer.json()["message"]
        with socket.create_connection(("127.0.0.1", client.base_url.port or 80)) as other:
            other.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")
            other.sendall(b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b")
            while "in_flight 1" not in client.get("/metrics").text:
                pass
            answer = client.post("/embed", files={"file": wav(0, 0)})
            assert (answer.status_code, answer.json()["code"]) == (429, "busy")


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["--host", "0.0.0.0"], "--key"),
        (["--key", "short"], "16"),
        (["--max-requests", "0"], "--max-requests"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    tmp_path: Path, options: list[str], fact: str
) -> None:
    model = make_model(tmp_path / "tones")
    done = subprocess.run(
        [sys.executable, *SPK, "serve", "--model", str(model), *options],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert fact in done.stderr and "Traceback" not in done.stderr
