"""The page of a run in a browser without a window: both themes, any width, nothing on the console.

Wants Chromium or Chrome on the PATH and is skipped where there is none, as `test_page_browser`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from run_files import scored, trl
from test_page_browser import BROWSER, COLOURS, Browser, contrast, luminance, numbers
from test_run_page import BAD, hostile_run

from rankreward.report import write_run_page
from rankreward.runs import read_run

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")


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
    running.call("Emulation.clearDeviceMetricsOverride")
    assert running.noise == []
    assert [u for u in running.requests if not u.startswith(("file:", "data:", "about:"))] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of one run, of two, and of one whose every name is markup."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "trl").mkdir()
    scored(folder / "scored")
    trl(folder / "trl")
    one, other = read_run(folder / "scored"), read_run(folder / "trl")
    return {
        "run": write_run_page(folder / "one.html", [one]),
        "runs": write_run_page(folder / "two.html", [one, other]),
        "hostile": write_run_page(folder / "three.html", [hostile_run()], title=BAD),
    }


def open_all(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")


def width(browser: Browser, pixels: int) -> None:
    metrics = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **metrics)


def test_hostile_text_does_nothing(browser: Browser, files: dict[str, Path]) -> None:
    """No name and no completion runs or loads: there is no script, no image, and the title stays."""
    browser.open(files["hostile"])
    assert browser.run("document.title").startswith("</script>")
    assert browser.run("document.scripts.length + document.images.length") == 0
    assert browser.run("document.querySelectorAll('.card').length") == 6


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_can_be_read(browser: Browser, files: dict[str, Path], theme: str) -> None:
    """In both themes texts stand out by 4.5 to 1 and lines by 3 to 1 (WCAG 2.2, 1.4.3, 1.4.11)."""
    browser.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
    )
    width(browser, 1400)
    for name, file in files.items():
        browser.open(file)
        open_all(browser)
        colours = browser.run(COLOURS)
        worst = min(colours, key=lambda entry: contrast(entry[1], entry[2]))
        assert contrast(worst[1], worst[2]) >= 4.5, worst
        fills = browser.run(
            "[...document.querySelectorAll('svg text')].map(e => [getComputedStyle(e).fill,"
            "getComputedStyle(e.closest('figure')).backgroundColor])"
        )
        lines = browser.run(
            "[...document.querySelectorAll('path.line')].map(e => [getComputedStyle(e).stroke,"
            "getComputedStyle(e.closest('figure')).backgroundColor])"
        )
        assert min(contrast(*pair) for pair in fills) >= 4.5
        assert min(contrast(*pair) for pair in lines) >= 3
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (luminance(numbers(ground)) > 0.5) == (theme == "light")
        browser.shot(f"report-{name}-{theme}")


def test_lines_differ_by_more_than_their_colour(browser: Browser, files: dict[str, Path]) -> None:
    """No two neighbours in a legend have the same dash, and each line looks like its key."""
    browser.open(files["run"])
    charts = browser.run(
        "[...document.querySelectorAll('.chart')].map(f => [[...f.querySelectorAll('.key .line')],"
        "[...f.querySelectorAll(':scope > svg .line')]].map(es => es.map(e => {"
        "const s = getComputedStyle(e); return [s.stroke, s.strokeDasharray, s.strokeWidth] })))"
    )
    several = [keys for keys, _ in charts if len(keys) > 1]
    assert len(several) > 6
    for keys, lines in charts:
        dashes = [dash for _, dash, _ in keys]
        assert all(a != b for a, b in pairwise(dashes))
        assert keys in ([], lines)


def test_no_window_scrolls_sideways(browser: Browser, files: dict[str, Path]) -> None:
    """From 320 to 1600 pixels nothing lies beyond the right edge, all tables open, names hostile."""
    for pixels in (320, 480, 800, 1200, 1600):
        width(browser, pixels)
        for file in files.values():
            browser.open(file)
            open_all(browser)
            assert browser.run("document.documentElement.scrollWidth") <= pixels
            beyond = browser.run(
                "[...document.querySelectorAll('.chart > svg')].filter(e =>"
                "e.getBoundingClientRect().right > innerWidth).length"
            )
            assert beyond == 0
        browser.shot(f"report-{pixels}")


OVERLAPS = """[...document.querySelectorAll('.chart > svg')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text:not(.name)')].map(e => [e.textContent, e.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
    p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1
  ).map(([b]) => [svg.getAttribute('aria-labelledby'), a, b])) })"""


def test_labels_do_not_overlap(browser: Browser, files: dict[str, Path]) -> None:
    """On narrow and wide screens no number or label of an axis stands on another."""
    for pixels in (320, 700, 1400):
        width(browser, pixels)
        for name in ("run", "runs"):
            browser.open(files[name])
            assert browser.run(OVERLAPS) == []
            sizes = browser.run(
                "[...document.querySelectorAll('.chart > svg')].map(e => e.getBoundingClientRect().width"
                "/ 420 * parseFloat(getComputedStyle(e.querySelector('text')).fontSize))"
            )
            assert min(sizes) >= 9  # pixels


def test_numbers_open_and_columns_speak(browser: Browser, files: dict[str, Path]) -> None:
    """A press opens a chart's numbers; a column under the pointer says the values of its steps."""
    width(browser, 1400)
    browser.open(files["run"])
    assert not browser.run("document.querySelector('.chart table').checkVisibility()")
    browser.click(".chart summary")
    assert browser.run("document.querySelector('.chart table').checkVisibility()")
    said = browser.run("document.querySelector('.pointed title').textContent")
    assert said.startswith("step 1\nreward: ")
    at = browser.run(
        "(() => { const e = document.querySelectorAll('.pointed rect')[3]; e.scrollIntoView({block:"
        "'center'}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + 20] })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1])
    browser.until("document.querySelectorAll('.pointed rect')[3].matches(':hover')")


def test_without_scripts_nothing_is_missing(browser: Browser, files: dict[str, Path]) -> None:
    """Where scripts are off, the page is the same to the pixel."""
    width(browser, 800)
    browser.open(files["run"])
    usual = browser.shot("report-scripts-on")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(files["run"])
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.shot("report-scripts-off") == usual


def test_links_and_skip_link_lead_somewhere(browser: Browser, files: dict[str, Path]) -> None:
    """Every link in the head brings its section into sight."""
    browser.open(files["run"])
    count = browser.run("document.querySelectorAll('nav a').length")
    assert count == 9
    for place in range(count):
        browser.run(f"document.querySelectorAll('nav a')[{place}].click()")
        assert browser.run(
            "(() => { const r = document.getElementById(location.hash.slice(1))"
            ".getBoundingClientRect(); return r.top >= -1 && r.top < innerHeight })()"
        )
    browser.run("document.querySelector('.skip').click()")
    assert browser.run("document.activeElement.id") == "main"


def test_readers_for_the_blind_hear_names(browser: Browser, files: dict[str, Path]) -> None:
    """In the browser's own accessibility tree every chart and table has a name, every chart a word on it."""
    browser.open(files["run"])
    open_all(browser)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles: Counter[str] = Counter()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in {"image", "table", "region", "figure", "navigation"}:
            roles[role] += 1
            if role != "figure":
                assert node["name"]["value"].strip(), node
            if role == "image":
                assert node["description"]["value"].strip(), node
    charts = browser.run("document.querySelectorAll('.chart').length")
    assert roles["image"] == charts > 15
    assert roles["table"] == charts + 1
