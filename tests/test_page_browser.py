"""Pages in a browser without a window: clicks, keys, links, both themes, nothing on the console.

Wants Chromium or Chrome on the PATH and is skipped where there is none; what the page holds is
tested without it in ``test_page.py``. The browser is spoken to over a pipe, in its DevTools
protocol (https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_runs import HOSTILE, write, write_pair

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")
SHOTS = os.environ.get("PAGE_SHOTS")  # a folder that keeps pictures of the pages


AS_3_AND_4 = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def high_pipe() -> list[int]:
    """A pipe whose ends are clear of 3 and 4, where the browser reads commands and answers."""
    low = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low]
    for end in low:
        os.close(end)
    return high


class Browser:
    """One tab."""

    def __init__(self, profile: Path) -> None:
        (reads, self.tell), (self.hear, writes) = high_pipe(), high_pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags += ["--disable-dev-shm-usage", "--disable-background-networking"]
        command = [str(BROWSER), *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_3_AND_4, str(reads), str(writes), *command, "about:blank"],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self.rest, self.number, self.session = b"", 0, None
        self.noise: list[Any] = []
        self.requests: list[str] = []

    def start(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self.tell)
        os.close(self.hear)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.tell, data) :]
        while (answer := self._next()).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while b"\0" not in self.rest:
            ready = select.select([self.hear], [], [], max(deadline - time.monotonic(), 0))[0]
            assert ready, "the browser says nothing"
            part = os.read(self.hear, 1 << 20)
            assert part, "the browser has gone"
            self.rest += part
        text, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(text)
        if message.get("method") in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled"}:
            self.noise.append(message["params"])
        if message.get("method") == "Log.entryAdded":
            self.noise.append(message["params"]["entry"])
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        return message

    def run(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, file: Path, fragment: str = "") -> None:
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=file.as_uri() + fragment)
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def until(self, script: str) -> None:
        deadline = time.monotonic() + 30
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """A press of the mouse in the middle of an element, wherever that is."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def key(self, key: str, text: str = "", code: int = 0) -> None:
        pressed = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def choose(self, name: str, value: str) -> None:
        """What a user's choice in a field does; lists of choices open outside the page."""
        self.run(
            f"(() => {{ const e = document.forms[0].elements[{json.dumps(name)}];"
            f"e.value = {json.dumps(value)};"
            "e.dispatchEvent(new Event('input', {bubbles: true})) })()"
        )

    def places(self) -> list[int]:
        """The samples that can be seen, in their order."""
        return self.run(
            "[...document.querySelectorAll('.card')].filter(e => e.checkVisibility())"
            ".map(e => JSON.parse(e.dataset.facts).place)"
        )

    def facts(self) -> list[dict[str, Any]]:
        return self.run(
            "[...document.querySelectorAll('.card')].map(e => JSON.parse(e.dataset.facts))"
        )

    def shot(self, name: str) -> bytes:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if SHOTS:
            (Path(SHOTS) / f"{name}.png").write_bytes(data)
        return data


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    try:
        browser.start()
        yield browser
    finally:
        browser.close()


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """Whatever a test does, the console stays empty and nothing is asked of a network."""
    running.noise.clear()
    running.requests.clear()
    yield running
    assert running.noise == []
    assert [
        url for url in running.requests if not url.startswith(("file:", "data:", "about:"))
    ] == []


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("one"), 24, title=f"One {HOSTILE}")


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("two"), 24)


def ordered(facts: list[dict[str, Any]], key: str, sign: int) -> list[int]:
    """The oracle of sorting: what is unknown comes last, ties in the order of the data."""
    known = sorted(
        (f for f in facts if f[key] is not None), key=lambda f: (sign * f[key], f["place"])
    )
    return [f["place"] for f in known] + [f["place"] for f in facts if f[key] is None]


def test_hostile_text_does_nothing(browser: Browser, file: Path, pair_file: Path) -> None:
    """No text of a policy runs: the title stays, and there is no image but the pictures."""
    for each, title, images in ((file, "One </script>", 24), (pair_file, "Comparison", 48)):
        browser.open(each)
        for image in range(images):  # those below are loaded as they come into sight
            browser.run(f"document.images[{image}].scrollIntoView()")
            browser.until(f"document.images[{image}].complete")
        assert browser.run("document.title").startswith(title)
        assert browser.run("document.images.length") == images
        assert browser.run("[...document.images].every(i => i.naturalWidth > 0)")
        assert browser.run("document.scripts.length") == 1


def test_page_policy_would_stop_what_slips_through(browser: Browser, file: Path) -> None:
    """Even an element put into the page as it stands gets no handler of its own to run."""
    browser.open(file)
    inner = "<img src=data:,x onerror=\"document.body.dataset.owned = '1'\">"
    browser.run(f"document.querySelector('pre').innerHTML = {json.dumps(inner)}")
    browser.until("document.querySelector('pre img').complete")
    time.sleep(0.2)
    assert browser.run("document.body.dataset.owned ?? 'no'") == "no"
    assert browser.noise
    assert all("Content Security Policy" in str(entry) for entry in browser.noise)
    browser.noise.clear()


def test_every_choice_shows_its_cards(browser: Browser, file: Path, pair_file: Path) -> None:
    """Each choice of each filter shows the cards whose facts say so, and the page counts them."""
    for each in (file, pair_file):
        browser.open(each)
        facts = browser.facts()
        fields = browser.run(
            "[...document.querySelectorAll('select')].filter(e => e.name !== 'sort')"
            ".flatMap(e => [...e.options].map(o => [e.name, o.value]))"
        )
        assert len(fields) == 3 + 3 + 3 + (2 if each == file else 1)
        for name, value in fields:
            browser.choose(name, value)
            want = {f["place"] for f in facts if fits(f, name, value)}
            assert set(browser.places()) == want, (name, value)
            assert len(want) > 0
            said = browser.run("document.getElementById('shown').textContent")
            assert said == f"{len(want)} of 24 samples"
            browser.choose(name, "")


def fits(fact: dict[str, Any], name: str, value: str) -> bool:
    """The oracle of filters."""
    if value == "":
        return True
    if name != "failure":
        return f"={dict(fact['strata'])[name.removeprefix('stratum:')]}" == value
    codes = [f"={code}" for code in fact["failures"]]
    return {"any": codes != [], "none": codes == []}.get(value, value in codes)


def test_every_order(browser: Browser, file: Path, pair_file: Path) -> None:
    """Each sort puts the cards in its order, those without a score last."""
    keys = {"worst": ("score", 1), "best": ("score", -1), "data": ("place", 1)}
    pair = {"change": ("size_of_change", -1), "gain": ("change", -1), "loss": ("change", 1)}
    for each, orders in ((file, keys), (pair_file, {**keys, **pair})):
        browser.open(each)
        facts = sorted(browser.facts(), key=lambda fact: fact["place"])
        offered = browser.run("[...document.forms[0].elements.sort.options].map(o => o.value)")
        assert sorted(offered) == sorted(orders)
        for name, (key, sign) in orders.items():
            browser.choose("sort", name)
            assert browser.places() == ordered(facts, key, sign), name


def test_clicks_keys_and_reset(browser: Browser, file: Path, pair_file: Path) -> None:
    """Typing a bound, a press on "only changed" and on Reset do what they say."""
    browser.open(file)
    scores = {fact["place"]: fact["score"] for fact in browser.facts()}
    browser.click("input[name=low]")
    for letter in "0.5":
        browser.key(letter, letter)
    above = {place for place, score in scores.items() if score is not None and score >= 0.5}
    assert set(browser.places()) == above
    assert 0 < len(above) < 23
    browser.key("Tab", code=9)
    assert browser.run("document.activeElement.name") == "high"
    for letter in "0.9":
        browser.key(letter, letter)
    assert set(browser.places()) == {place for place in above if scores[place] <= 0.9}
    assert browser.run("location.hash") == "#low=0.5&high=0.9&sort=data"
    browser.click("button")
    assert browser.places() == list(range(24))
    assert browser.run("location.hash") == "#sort=data"

    browser.open(pair_file)
    changed = {fact["place"] for fact in browser.facts() if fact["changed"]}
    browser.click("input[name=changed]")
    assert set(browser.places()) == changed
    assert 0 < len(changed) < 24
    browser.key(" ", " ", 32)
    assert len(browser.places()) == 24


def test_address_sets_the_filters(browser: Browser, file: Path) -> None:
    """A link shows what it names; a choice that does not exist is none; the skip link keeps all."""
    browser.open(file, "#failure=%3Dbad_number&sort=best")
    facts = sorted(browser.facts(), key=lambda fact: fact["place"])
    bad = [
        place for place in ordered(facts, "score", -1) if "bad_number" in facts[place]["failures"]
    ]
    assert browser.places() == bad != []
    browser.run("location.hash = '#failure=none&stratum:size=%3Dsmall'")
    small = [f["place"] for f in facts if not f["failures"] and ["size", "small"] in f["strata"]]
    browser.until("document.forms[0].elements.failure.value === 'none'")
    assert browser.places() == small
    browser.run("document.querySelector('.skip').click()")
    assert browser.places() == small
    assert browser.run("document.activeElement.id") == "cards"
    browser.open(file, "#failure=never&sort=nonsense&low=x&unknown=1")
    assert browser.places() == list(range(24))


def test_without_scripts_all_is_there(browser: Browser, file: Path) -> None:
    """Where scripts are off, every card is shown and no filter that would do nothing."""
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(file)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.places() == list(range(24))
    assert not browser.run("document.forms[0].checkVisibility()")


def test_files_beside_the_page_are_loaded(browser: Browser, tmp_path: Path) -> None:
    """Pictures in the folder beside the page are seen, under a name with spaces and signs."""
    browser.open(write(tmp_path / "a run #1" / "my page #1.html", 12, embed=0))
    for image in range(12):
        browser.run(f"document.images[{image}].scrollIntoView()")
        browser.until(f"document.images[{image}].complete")
    assert browser.run("[...document.images].every(i => i.naturalWidth === 640)")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_can_be_read(browser: Browser, file: Path, pair_file: Path, theme: str) -> None:
    """In both themes every text stands out from its ground by 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    browser.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
    )
    for name, each in (("one", file), ("two", pair_file)):
        browser.open(each)
        browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
        colours = browser.run(COLOURS)
        worst = min(colours, key=lambda entry: contrast(entry[1], entry[2]))
        assert contrast(worst[1], worst[2]) >= 4.5, worst
        assert len({entry[0] for entry in colours}) > 12
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (luminance(numbers(ground)) > 0.5) == (theme == "light")
        browser.run("document.querySelectorAll('details').forEach(e => e.open = false)")
        browser.run("scrollTo(0, 0)")
        browser.shot(f"{name}-{theme}")
        browser.run("document.getElementById('samples').scrollIntoView()")
        browser.shot(f"{name}-{theme}-cards")


# Every text with its own colour and the nearest ground that is not transparent.
COLOURS = """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() &&
  [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== 'OPTION').map(e => {
  let at = e, ground = getComputedStyle(at).backgroundColor;
  while (/, 0\\)$/.test(ground)) { at = at.parentElement; ground = getComputedStyle(at).backgroundColor }
  return [e.tagName + '.' + e.className, getComputedStyle(e).color, ground] })"""


def numbers(colour: str) -> list[float]:
    assert colour.startswith("rgb("), colour
    return [float(part) for part in colour[4:-1].split(",")]


def luminance(colour: list[float]) -> float:
    """WCAG's relative luminance."""
    linear = [c / 255 / 12.92 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted(luminance(numbers(each)) for each in (first, second))
    return (high + 0.05) / (low + 0.05)


def test_narrow_windows_do_not_scroll_sideways(
    browser: Browser, file: Path, pair_file: Path
) -> None:
    """Down to 320 pixels (WCAG 2.2, 1.4.10) nothing lies beyond the right edge."""
    for width in (320, 800, 1600):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.call("Emulation.setDeviceMetricsOverride", **metrics)
        for each in (file, pair_file):
            browser.open(each)
            assert browser.run("document.documentElement.scrollWidth") <= width
    browser.shot("two-wide")
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_readers_for_the_blind_hear_names(browser: Browser, file: Path) -> None:
    """In the browser's own accessibility tree no picture, field, button or table lacks a name."""
    browser.open(file)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    wanted = {"image", "combobox", "spinbutton", "button", "table", "article", "region", "form"}
    roles = Counter()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in wanted:
            roles[role] += 1
            assert node["name"]["value"].strip(), node
    assert roles["combobox"] == 4
    assert roles["spinbutton"] == 2
    assert roles["table"] == 2
    assert roles["article"] == 24
