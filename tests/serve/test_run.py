"""What keeps a service from being started."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
from speechbrain_ext.serve.run import check_key, run
from tests.refusals import refused
from tests.serve.stand_in import StandIn


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "voices.example.org"])
def test_what_others_can_reach_wants_a_key(host: str) -> None:
    with refused("bad-option", host, "--key"):
        check_key(host, None)
    check_key(host, "sixteen letters!")


@pytest.mark.parametrize("key", ["", "fifteen letters", " sixteen letters", "sechzehn Zeichen ü"])
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
