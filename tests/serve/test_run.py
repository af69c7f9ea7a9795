"""What keeps a service from being started."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
import httpx2 as httpx

from speechbrain_ext.serve.run import check_key, run
from tests.processes import ROOT
from tests.refusals import refused
from tests.serve.servers import serving
from tests.serve.sounds import tone
from tests.serve.stand_in import StandIn


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "voices.example.org"])
def test_what_others_can_reach_wants_a_key(host: str) -> None:
    with refused("bad-option", host, "--key"):
        check_key(host, None)
    check_key(host, "sixteen letters!")


@pytest.mark.parametrize(
    "key", ["", "fifteen letters", " sixteen letters", "sechzehn Zeichen ü", "two lines\nof a key"]
)
def test_a_key_is_long_and_can_be_sent(key: str) -> None:
    with refused("bad-option", "16"):
        check_key("127.0.0.1", key)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with refused("bad-option", port, "127.0.0.1", "--port"):
            run(StandIn(), port=port)
    with refused("bad-option", 70000, "--port"):
        run(StandIn(), port=70000)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_forgets_those_enrolled(tmp_path: Path, end: signal.Signals) -> None:
    with serving("--demo", TMPDIR=str(tmp_path)) as server:
        files = {"files": tone(200, 4)}
        answer = httpx.post(f"{server.url}/enroll", data={"name": "Ann"}, files=files)
        assert answer.status_code == 200 and [*tmp_path.rglob("gallery")]
        server.process.send_signal(end)
        server.process.wait()
    assert [*tmp_path.rglob("*")] == []


@pytest.mark.slow
def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    """curl gets what the page of docs/ says, in its order."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    commands = re.findall(r"^curl -[FX].*$", page, re.MULTILINE)
    for name in ("a", "b", "a1", "a2"):
        (tmp_path / f"{name}.wav").write_bytes(tone(200, 4 if name == "a1" else 2))
    told = []
    with serving("--gallery", str(tmp_path / "gallery")) as server:
        for command in commands:
            words = shlex.split(command.replace("http://127.0.0.1:8000", server.url))
            words[1:1] = ["--silent", "--show-error", "--fail-with-body"]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            told.append(json.loads(done.stdout or "{}"))
    embedding, verification, enrolled, identified, removed = told
    assert len(embedding["embedding"]) == 32 and verification["threshold"] == 0.8
    assert enrolled["recordings"] == 2 and identified["name"] == "Ann" and removed == {}
