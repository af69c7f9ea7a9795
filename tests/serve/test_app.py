"""Each path of the service, and each refusal, without a socket."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="the extra serve is not installed")
from fastapi.testclient import TestClient

from speechbrain_ext.decisions import Decisions
from speechbrain_ext.runtime import Gallery
from speechbrain_ext.serve.app import create_app
from speechbrain_ext.service_limits import ServiceLimits
from tests.serve.sounds import tone
from tests.serve.stand_in import DECISIONS, StandIn

KEY = "correct horse battery"


def client_of(
    gallery: Path | None = None,
    key: str | None = None,
    limits: ServiceLimits | None = None,
    decisions: Decisions | None = DECISIONS,
) -> TestClient:
    model = StandIn(decisions=decisions)
    kept = Gallery.open(gallery, model) if gallery else None
    app = create_app(model, kept, key, limits)
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(tmp_path / "gallery") as client:
        yield client


def refused(answer: Any, status: int, code: str, *facts: str) -> None:
    """Expect a refusal: one sentence and its code."""
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), told
    assert set(told) == {"code", "message"} and "\n" not in told["message"]
    for fact in facts:
        assert fact in told["message"]


def test_embed(client: TestClient) -> None:
    told = client.post("/embed", files={"file": tone(300, 2, rate=8000)}).json()
    assert len(told["embedding"]) == 32 and told["model"] == "5" * 64
    assert told["seconds"] == pytest.approx(2, abs=0.01)
    assert told["seconds_of_speech"] == pytest.approx(2, abs=0.01) and told["vad"] == "energy"


def test_verify(client: TestClient) -> None:
    files = {"a": tone(300), "b": tone(300, 2)}
    told = client.post("/verify", files=files).json()
    assert told["same"] and told["score"] > 0.9 and told["threshold"] == 0.7
    assert (told["scale"], told["operating_point"]) == ("cosine", "false_alarm_0.01")
    assert told["seconds_of_speech"] == pytest.approx([1, 2], abs=0.01)
    files["b"] = tone(2300)
    told = client.post("/verify", files=files, data={"false_alarm": "0.001"}).json()
    assert not told["same"] and told["threshold"] == 0.8


@pytest.mark.parametrize(
    "written",
    [
        {"format": "FLAC"},
        {"format": "OGG", "subtype": "OPUS", "rate": 48000},
        {"format": "OGG", "subtype": "VORBIS"},
        {"format": "MP3"},
        {"format": "AIFF", "rate": 44100},
        {"subtype": "FLOAT", "rate": 96000},
        {"subtype": "ALAW", "rate": 8000},
    ],
    ids=lambda written: "-".join(map(str, written.values())),
)
def test_formats_are_told_by_their_content(client: TestClient, written: dict[str, Any]) -> None:
    files = {"a": ("a.txt", tone(300)), "b": ("b.txt", tone(300, **written))}
    assert client.post("/verify", files=files).json()["score"] > 0.8


def test_gallery(client: TestClient, tmp_path: Path) -> None:
    refused(client.post("/identify", files={"file": tone(700)}), 404, "unknown-name")
    for name, hertz in (("Ann", 200), ("Bob", 700)):
        files = [("files", tone(hertz)), ("files", tone(hertz, 2.5))]
        told = client.post("/enroll", data={"name": name}, files=files).json()
        assert (told["name"], told["recordings"]) == (name, 2)
        assert told["seconds_of_speech"] == pytest.approx(3.5, abs=0.01)
    assert client.get("/speakers").json() == {"names": ["Ann", "Bob"]}
    told = client.post("/identify", files={"file": tone(700)}).json()
    assert told["name"] == "Bob" == told["ranked"][0]["name"] and len(told["ranked"]) == 2
    assert (told["scale"], told["threshold"], told["speakers"]) == ("cosine", 0.7, 2)
    told = client.post("/identify", files={"file": tone(3000)}, data={"top": "1"}).json()
    assert told["name"] is None and len(told["ranked"]) == 1
    assert client.delete("/speakers", params={"name": "Bob"}).status_code == 204
    answer = client.delete("/speakers", params={"name": "Bob"})
    refused(answer, 404, "unknown-name", "the gallery")
    assert str(tmp_path) not in answer.text
    assert client.get("/speakers").json() == {"names": ["Ann"]}


def test_what_a_gallery_is_called_stays_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is its name taken for a part of the sentence."""
    monkeypatch.chdir(tmp_path)
    with client_of(Path("s")) as client:
        client.post("/enroll", data={"name": "Ann"}, files={"files": tone(200, 4)})
        answer = client.delete("/speakers", params={"name": "/s"})
        told = "the gallery has no speaker '/s': give one that it has"
        assert answer.json()["message"] == told
        (tmp_path / "s").write_bytes(b"no gallery at all")
        told = client.get("/speakers").json()["message"]
        assert told.startswith("the gallery is no gallery (")


def test_too_little_speech_to_enroll(client: TestClient) -> None:
    answer = client.post("/enroll", data={"name": "Ann"}, files={"files": tone(200)})
    refused(answer, 422, "little-speech", "2.0 s more")
    answer = client.post("/enroll", data={"name": "a\nb"}, files={"files": tone(200, 4)})
    refused(answer, 422, "bad-name")
    assert client.get("/speakers").json() == {"names": []}


def test_without_a_gallery_nobody_is_enrolled() -> None:
    with client_of() as client:
        answer = client.post("/enroll", data={"name": "Ann"}, files={"files": tone(200)})
        refused(answer, 409, "no-gallery", "--gallery")
        refused(client.get("/speakers"), 409, "no-gallery")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\\b", "C:\\x", "%2e"])
def test_names_are_no_paths(client: TestClient, tmp_path: Path, name: str) -> None:
    """Neither those of speakers nor those of files: nothing appears but the gallery."""
    before = client.get("/").status_code, sorted(tmp_path.parent.rglob("*"))
    files = {"files": (name, tone(200, 4))}
    assert client.post("/enroll", data={"name": name}, files=files).status_code == 200
    assert client.get("/speakers").json() == {"names": [name]}
    assert client.delete("/speakers", params={"name": name}).status_code == 204
    assert {*tmp_path.parent.rglob("*")} - {*before[1]} == {tmp_path / "gallery"}


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "0 bytes"),
        (b"This is no sound at all, whatever it is called.", "file cannot be used"),
        (tone(300)[:9000], "file cannot be used"),
        (tone(300, seconds=0), "no samples"),
        (tone(300, seconds=1 / 16000), "all samples are the same"),
        (tone(300, seconds=0.05), "0.050 s"),
        (tone(0), "all samples are the same"),
        (tone(300, rate=1000), "1000 samples a second"),
        (tone(300, rate=400_000), "400000 samples a second"),
    ],
    ids=["empty", "text", "cut", "no samples", "one sample", "short", "silent", "slow", "fast"],
)
def test_unusable_recordings(client: TestClient, content: bytes, fact: str) -> None:
    answer = client.post("/embed", files={"file": ("../../a.wav", content)})
    refused(answer, 422, "unusable-audio", fact)
    assert "/dev/fd" not in answer.text and "a.wav" not in answer.text


def test_not_a_number(client: TestClient) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.array([0.1, np.nan] * 800), 16000, format="WAV", subtype="FLOAT")
    answer = client.post("/embed", files={"file": file.getvalue()})
    refused(answer, 422, "unusable-audio", "nan")


def test_many_channels(client: TestClient) -> None:
    for channels, status in ((6, 200), (100, 422)):
        file = io.BytesIO()
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1600, channels))
        soundfile.write(file, noise, 16000, format="WAV")
        answer = client.post("/embed", files={"file": file.getvalue()})
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("path", "data", "files", "fact"),
    [
        ("/verify", {}, ["a"], "b cannot be used"),
        ("/verify", {"false_alarm": "often"}, ["a", "b"], "false_alarm"),
        ("/enroll", {}, ["files"], "name"),
        ("/identify", {"top": "0"}, ["file"], "top"),
    ],
)
def test_forms_that_lack_something(
    client: TestClient, path: str, data: dict[str, str], files: list[str], fact: str
) -> None:
    answer = client.post(path, data=data, files={name: tone(300) for name in files})
    refused(answer, 422, "bad-request", fact)


def test_a_form_that_is_none(client: TestClient) -> None:
    answer = client.post("/enroll", data={"name": "A" * 2**21}, files={"files": tone(300)})
    refused(answer, 400, "bad-request", "/docs")
    answer = client.post("/embed", content=b"x", headers={"Content-Type": "multipart/form-data"})
    refused(answer, 400, "bad-request", "/docs")
    answer = client.post("/embed", json={"file": "../../etc/passwd"})
    refused(answer, 422, "bad-request", "file")
    answer = client.post("/embed", data={"file": "/etc/passwd"})
    refused(answer, 422, "bad-request", "file")


def test_paths_that_are_none(client: TestClient) -> None:
    refused(client.get("/nothing"), 404, "bad-request")
    refused(client.get("/embed"), 405, "bad-request")
    refused(client.get("/../../etc/passwd"), 404, "bad-request")
    refused(client.get("/speakers/"), 404, "bad-request")  # and leads to no host of the client's


def test_a_rate_without_a_threshold(client: TestClient) -> None:
    answer = client.post(
        "/verify", files={"a": tone(300), "b": tone(300)}, data={"false_alarm": "0.02"}
    )
    refused(answer, 409, "no-threshold", "0.02")


def test_a_model_without_thresholds_takes_one(tmp_path: Path) -> None:
    files = {"a": tone(300, 4), "b": tone(300, 4)}
    with client_of(tmp_path / "gallery", decisions=None) as client:
        assert client.get("/health").json()["operating_points"] == []
        refused(client.post("/verify", files=files), 409, "no-threshold", "threshold")
        client.post("/enroll", data={"name": "Ann"}, files={"files": files["a"]})
        for path, sent in (("/verify", files), ("/identify", {"file": files["b"]})):
            told = client.post(path, files=sent, data={"threshold": "0.25"}).json()
            assert (told["threshold"], told["scale"]) == (0.25, "cosine")
            assert told["operating_point"] == "given"
            refused(client.post(path, files=sent, data={"threshold": "7"}), 422, "bad-request")


def test_a_fault_of_ours_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(StandIn, "embed", broken)
    with client_of() as client:
        answer = client.post("/embed", files={"file": tone(300)})
        refused(answer, 500, "failed-request")
        assert "secret" not in answer.text
        assert 'path="/embed",status="500"} 1' in client.get("/metrics").text


def test_a_key(tmp_path: Path) -> None:
    with client_of(tmp_path / "gallery", KEY) as client:

        def embed(key: str | None, host: str = "voices.example.org") -> Any:
            headers = {b"Host": host.encode()}
            if key is not None:
                headers[b"Authorization"] = key.encode()
            return client.post("/embed", files={"file": tone(300)}, headers=headers)

        for given in (None, "Basic " + KEY, "Bearer", "Bearer "):
            refused(embed(given), 401, "unauthorized", "Authorization")
        for wrong in (KEY + "x", KEY[:-1], KEY.upper(), "ü"):
            refused(embed(f"Bearer {wrong}"), 403, "wrong-key")
        for path in ("/speakers", "/metrics"):
            refused(client.get(path), 401, "unauthorized")
        refused(client.delete("/speakers", params={"name": "Ann"}), 401, "unauthorized")
        assert embed(f"Bearer {KEY}").status_code == 200
        for path in ("/", "/docs", "/openapi.json", "/health"):
            assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
    ],
)
def test_without_a_key_pages_of_others_are_refused(
    client: TestClient, headers: dict[str, str]
) -> None:
    answer = client.post("/embed", files={"file": tone(300)}, headers=headers)
    refused(answer, 403, "foreign-page")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:1", "localhost", "[::1]:8000"])
def test_without_a_key_its_own_page_may_ask(client: TestClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    answer = client.post("/embed", files={"file": tone(300)}, headers=headers)
    assert answer.status_code == 200


def test_two_lengths_are_refused() -> None:
    """A proxy may go by the other one, and take the rest for another client's request."""
    parts = iter([b"x"])  # sent in chunks
    headers = {"Content-Length": "1", "Transfer-Encoding": "chunked"}
    with client_of() as client:
        answer = client.post("/embed", content=parts, headers=headers)
        refused(answer, 400, "bad-request", "Content-Length")
        assert answer.headers["connection"] == "close"


def test_answers_are_not_kept_and_not_taken_for_pages(client: TestClient) -> None:
    """By the browser, or by a proxy on the way; the pages themselves may be asked for again."""
    client.post("/enroll", data={"name": "<b>Ann"}, files={"files": tone(200, 4)})
    for path in ("/speakers", "/health", "/metrics", "/openapi.json", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    for path in ("/", "/docs"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers.get_list("cache-control") == ["no-cache"]


def test_a_large_upload(tmp_path: Path) -> None:
    with client_of(limits=ServiceLimits(upload_bytes=40_000)) as client:
        assert client.post("/embed", files={"file": tone(300)}).status_code == 200
        told = client.post("/embed", files={"file": tone(300, 2)})
        refused(told, 413, "too-large", "0.0381")
        parts = (b"x" * 1000 for _ in range(100))  # of which no header tells the length
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        refused(client.post("/embed", content=parts, headers=headers), 413, "too-large")


def test_a_long_recording() -> None:
    with client_of(limits=ServiceLimits(seconds=3)) as client:
        assert client.post("/embed", files={"file": tone(300, 2.9)}).status_code == 200
        refused(client.post("/embed", files={"file": tone(300, 3.1)}), 413, "too-long", "3 s")
        files = {"a": tone(300, 2), "b": tone(300, 2)}
        refused(client.post("/verify", files=files), 413, "too-long", "b is too long")


def test_health_and_metrics(client: TestClient) -> None:
    told = client.get("/health").json()
    assert (told["status"], told["model"], told["dim"]) == ("ok", "5" * 64, 32)
    assert [point["supported"] for point in told["operating_points"]] == [True, True, True, False]
    assert told["gallery"] and not told["key"] and told["fitted_on"] == "tones"
    client.post("/embed", files={"file": tone(300)})
    client.get("/one-of-many")
    text = client.get("/metrics").text
    assert 'spk_requests_total{path="/embed",status="200"} 1' in text
    assert 'spk_requests_total{path="other",status="404"} 1' in text
    assert "spk_audio_seconds_total 1.000" in text
    assert "spk_requests_in_flight 0" in text


def test_the_description_of_its_paths(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        *("/embed", "/verify", "/enroll", "/identify", "/speakers", "/health", "/metrics")
    }


def test_the_description_tells_of_the_key(client: TestClient) -> None:
    assert "security" not in client.get("/openapi.json").text
    with client_of(key=KEY) as client:
        told = client.get("/openapi.json").json()
    (scheme,) = told["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    wanted = {path for path, methods in told["paths"].items() if "security" in str(methods)}
    assert wanted == {"/embed", "/verify", "/enroll", "/identify", "/speakers", "/metrics"}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    page = client.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "sha256-" in policy
    assert "http://" not in page.text.replace("http://www.w3.org/", "")
    assert "https://" not in page.text
