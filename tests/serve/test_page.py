"""The page of ``spk demo`` in a browser; without Chromium and playwright nothing is tested here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import sync_playwright

from tests.serve.servers import Server, serving
from tests.serve.sounds import tone

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
]
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}
# What is wider than the window, or has no name that a screen reader could say.
TOO_WIDE = """() => [...document.querySelectorAll("main *")]
  .filter(each => !each.closest("svg") && each.getClientRects().length)
  .filter(each => each.getBoundingClientRect().right > innerWidth - 15)
  .map(each => each.outerHTML.slice(0, 80))"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, audio, [role=img]")]
  .filter(each => !each.ariaLabel && !each.labels?.length && !each.textContent.trim())
  .map(each => each.outerHTML.slice(0, 80))"""

# On how many lines each of some texts stands.
LINES = """texts => texts.map(text => {
  const range = document.createRange();
  range.selectNodeContents(text);
  return range.getClientRects().length;
})"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for name, hertz in (("ann", 200), ("again", 205), ("bob", 1900)):
        (folder / f"{name}.wav").write_bytes(tone(hertz, 3.5))
    return folder


@pytest.fixture(scope="module")
def browser(files: Path) -> Iterator[Any]:
    """A browser whose microphone hears Ann."""
    arguments = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={files / 'ann.wav'}",
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("--gallery", str(tmp_path_factory.mktemp("gallery") / "speakers")) as server:
        yield server


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Any, server: Server) -> Iterator[Any]:
    """The page, which may complain of nothing and load nothing from elsewhere."""
    width, height = SIZES[request.param]
    scheme = "dark" if request.param == "phone" else "light"
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda told: complaints.append(f"{told.type}: {told.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.extend(elsewhere(asked.url, server.url)))
    page.goto(f"{server.url}/")
    page.wait_for_selector("#rate option", state="attached")
    yield page
    assert page.evaluate(TOO_WIDE) == [] and page.evaluate(NAMELESS) == []
    page.close()
    assert [each for each in complaints if "status of 422" not in each] == []  # of a refusal


def elsewhere(url: str, server: str) -> list[str]:
    return [] if url.startswith((server, "data:", f"blob:{server}")) else [f"loads {url}"]


def choose(page: Any, recorder: str, *files: Path) -> None:
    page.set_input_files(f"#{recorder}-file", files)
    page.wait_for_selector(f"#{recorder}-state:has-text('3.5 s')")


def press(page: Any, name: str) -> None:
    """With the keyboard."""
    button = page.get_by_role("button", name=name, exact=True)
    button.focus()
    page.keyboard.press("Enter")


def test_two_recordings(page: Any, files: Path) -> None:
    choose(page, "a", files / "ann.wav")
    assert page.get_by_role("img", name="Waveform of ann.wav, 3.5 s").is_visible()
    for other, words in (("again.wav", "Same speaker"), ("bob.wav", "Different speakers")):
        choose(page, "b", files / other)
        press(page, "Compare")
        page.wait_for_selector(f"#compare-result:has-text('{words}')")
        decision = page.get_by_role("status", name="Decision").inner_text()
        for fact in ("cosine, from \u22121 to 1", "0.700", "3.5 s, 3.5 s", "threshold"):
            assert fact in decision
        assert page.locator("#compare-result [role=img]").get_attribute("aria-label")
    page.get_by_label("Pairs of different speakers that may pass").select_option("0.001")
    press(page, "Compare")
    page.wait_for_selector("#compare-result:has-text('0.800')")


def test_a_decision_goes_with_what_it_was_about(page: Any, files: Path) -> None:
    """Beside another recording or another rate it would be taken for the decision on that."""

    def decide() -> None:
        press(page, "Compare")
        page.wait_for_selector("#compare-result:has-text('Same speaker')")

    choose(page, "a", files / "ann.wav")
    choose(page, "b", files / "again.wav")
    decide()
    page.get_by_label("Pairs of different speakers that may pass").select_option("0.001")
    page.wait_for_selector("#compare-result:empty", state="attached")
    decide()
    choose(page, "b", files / "bob.wav")
    page.wait_for_selector("#compare-result:empty", state="attached")
    page.evaluate("""() => {
        const ask = fetch;
        window.fetch = async (...asked) => {
            await new Promise(done => {
                window.goOn = done;
                document.body.classList.add("asked");
            });
            return ask(...asked);
        };
    }""")
    press(page, "Compare")
    page.wait_for_selector("body.asked")
    choose(page, "b", files / "again.wav")
    page.evaluate("goOn()")
    page.wait_for_selector("#compare-wrong:has-text('changed meanwhile')")
    # Screen readers hear what appears in a place that was there before.
    shown = page.locator("#compare-result").evaluate("each => getComputedStyle(each).display")
    assert shown != "none"


def test_the_file_chosen_last_is_compared(page: Any, files: Path) -> None:
    """Also where an earlier one takes longer to decode, and while it is decoded."""
    page.evaluate("""() => {
        const decode = AudioContext.prototype.decodeAudioData;
        let first = true;
        AudioContext.prototype.decodeAudioData = async function (content) {
            const slow = first;
            first = false;
            if (slow) await new Promise(done => {
                window.goOn = done;
                document.body.classList.add("slow");
            });
            return decode.call(this, content);
        };
    }""")
    page.set_input_files("#b-file", files / "bob.wav")
    page.wait_for_selector("body.slow")
    page.set_input_files("#b-file", files / "again.wav")
    choose(page, "a", files / "ann.wav")
    press(page, "Compare")
    page.evaluate("goOn()")
    page.wait_for_selector("#compare-result:has-text('Same speaker')")
    assert page.locator("#b-state").inner_text() == "again.wav, 3.5 s"
    assert page.locator("[data-recorder=b] [role=img]").count() == 1


def test_what_stands_before_the_service_may_answer(browser: Any, files: Path) -> None:
    with serving("--demo") as server:
        page = browser.new_page()
        page.goto(server.url)
        page.route("**/verify", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway"))
        choose(page, "a", files / "ann.wav")
        choose(page, "b", files / "again.wav")
        press(page, "Compare")
        page.wait_for_selector("#compare-wrong:has-text('502')")
        page.close()


def test_the_keyboard_reaches_everything_in_order(page: Any) -> None:
    wanted = ["a-file", "a-record", "b-file", "b-record", "rate", "compare"]
    wanted += ["enroll-file", "enroll-record", "name", "enroll", "identify-file", "identify-record"]
    reached = []
    for _ in [*wanted, "identify"]:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        outline = page.evaluate(
            "getComputedStyle(document.activeElement.type === 'file' ? "
            "document.activeElement.nextSibling : document.activeElement).outlineStyle"
        )
        assert outline == "solid", reached
    assert reached == [*wanted, "identify"]


def test_what_is_missing_is_said(page: Any, files: Path) -> None:
    press(page, "Compare")
    page.wait_for_selector("#compare-wrong:has-text('Recording A is missing')")
    assert page.locator("#compare-wrong").get_attribute("role") == "alert"
    assert page.evaluate("document.activeElement.id") == "compare"
    choose(page, "enroll", files / "ann.wav")
    press(page, "Enrol")
    page.wait_for_selector("#enroll-wrong:has-text('name is missing')")
    assert page.evaluate("document.activeElement.id") == "name"


def test_more_speech_is_added_to_what_is_too_little(page: Any, files: Path, tmp_path: Path) -> None:
    (tmp_path / "short.wav").write_bytes(tone(200, 2.0))
    page.set_input_files("#enroll-file", tmp_path / "short.wav")
    page.wait_for_selector("#enroll-state:has-text('2.0 s')")
    page.get_by_label("Name").fill("Cleo")
    press(page, "Enrol")
    page.wait_for_selector("#enroll-wrong:has-text('1.0 s more')")
    page.set_input_files("#enroll-file", files / "ann.wav")
    page.wait_for_selector("#enroll-state:has-text('2 recordings')")
    press(page, "Speaker to enrol: start over")
    assert page.evaluate("document.activeElement.id") == "enroll-record"
    page.set_input_files("#enroll-file", [tmp_path / "short.wav", files / "ann.wav"])
    page.wait_for_selector("#enroll-state:has-text('2 recordings')")
    press(page, "Enrol")
    page.wait_for_selector("#enroll-result:has-text('Cleo is enrolled with 2 recordings, 5.5 s')")
    press(page, "Remove Cleo")
    page.get_by_role("button", name="Remove Cleo", exact=True).wait_for(state="detached")
    page.wait_for_selector("#names-title:focus")


def test_a_file_without_speech_is_refused(page: Any, files: Path, tmp_path: Path) -> None:
    (tmp_path / "silent.wav").write_bytes(tone(0, 3.5))
    choose(page, "a", files / "ann.wav")
    choose(page, "b", tmp_path / "silent.wav")
    press(page, "Compare")
    page.wait_for_selector("#compare-wrong:has-text('B cannot be used')")
    page.set_input_files("#b-file", [{"name": "b.txt", "mimeType": "text/plain", "buffer": b"no"}])
    page.wait_for_selector("#b-state:has-text('b.txt cannot be read')")


def test_enrol_identify_and_remove(page: Any, files: Path) -> None:
    long = "Bob of a long house in Somewhere, and of Elsewhere before that"
    for name in ("Ann <b>Example</b>", long):
        choose(page, "enroll", files / f"{name[:3].lower()}.wav")
        page.get_by_label("Name").fill(name)
        press(page, "Enrol")
        page.wait_for_selector(f"#enroll-result:has-text('{name} is enrolled')")
    choose(page, "identify", files / "again.wav")
    press(page, "Identify")
    page.wait_for_selector("#identify-result:has-text('Ann <b>Example</b>')")
    ranked = page.get_by_role("list", name="Most similar first").inner_text()
    assert ranked.index("Ann") < ranked.index("Bob")
    beside = page.locator("#identify-result li > :last-child, #names button")  # what is one word
    assert beside.evaluate_all(LINES) == [1, 1, 1, 1]
    for name in ("Ann <b>Example</b>", long):
        press(page, f"Remove {name}")
        page.get_by_role("button", name=f"Remove {name}", exact=True).wait_for(state="detached")
    assert "Nobody yet." in page.locator("#names").inner_text()


def test_the_microphone(page: Any, files: Path) -> None:
    choose(page, "a", files / "ann.wav")
    press(page, "Recording B: record")
    page.wait_for_selector("#b-record:has-text('Stop (2 s)')")
    press(page, "Recording B: stop")
    page.wait_for_selector("#b-state:has-text('microphone, ')")
    press(page, "Compare")
    page.wait_for_selector("#compare-result:has-text('Same speaker')")


def test_a_model_without_thresholds_asks_for_one(browser: Any, files: Path) -> None:
    with serving("--demo", "--undecided") as server:
        page = browser.new_page()
        page.goto(server.url)
        choose(page, "a", files / "ann.wav")
        choose(page, "b", files / "again.wav")
        press(page, "Compare")
        page.wait_for_selector("#compare-wrong:has-text('threshold is missing')")
        page.get_by_label("Threshold of your own").fill("0.25")
        press(page, "Compare")
        page.wait_for_selector("#compare-result:has-text('0.250 (cosine; from it on')")
        page.close()


def test_the_page_of_paths(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/docs")
    page.wait_for_selector("text=POST /identify")
    assert f'curl -F a=@a.wav -F b=@b.wav "{server.url}/verify"' in page.inner_text("main")


def test_the_page_of_paths_tells_of_the_key(browser: Any) -> None:
    with serving("--key", "sixteen letters!") as server:
        page = browser.new_page()
        page.goto(f"{server.url}/docs")
        page.wait_for_selector("text=POST /identify")
        told = page.inner_text("main")
        key = '-H "Authorization: Bearer $SPK_KEY"'
        assert f'curl {key} -F file=@file.wav "{server.url}/embed"' in told
        assert f'curl "{server.url}/health"' in told
        page.close()
