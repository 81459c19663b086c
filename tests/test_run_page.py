"""The page of a run: its numbers are the run's, what was written stays text, and its size is bounded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from page_runs import HOSTILE
from run_files import STEPS, WRITERS, scored, trl
from test_page import Page

import rankreward.report as rp
from rankreward.cli import main
from rankreward.errors import InputError
from rankreward.report import chart, run_charts, write_run_page
from rankreward.report.frame import visible
from rankreward.report.run_page import EXAMPLES, summary
from rankreward.report.run_svg import ends, figure, numbers
from rankreward.runs import Example, Run, Window, read_run

BAD = f"{HOSTILE}\x00\u2028$\\alpha$"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "one"
    scored(folder)
    return read_run(folder)


@pytest.fixture(scope="module")
def hostile() -> Run:
    return hostile_run()


def hostile_run() -> Run:
    """Every name and text that a log may hold is markup."""
    prefixes = ("raw", "rank", "term", "ties", "failure", "variance_share", "rank_variance_share")
    entry = {f"rankreward/{prefix}/{BAD}": 0.5 for prefix in prefixes}
    entry |= {"reward": 1.0, "rankreward/failures": 0.1, "entropy": 1.0}
    return Run(
        name=BAD,
        source=BAD,
        entries=[{"step": step, **entry} for step in (1, 2)],
        windows=[Window(1, BAD, (BAD,), np.array([[0.5], [np.nan]]))],
        examples=[
            Example(1, BAD, BAD, BAD, BAD, BAD, position, 1.0)
            for position in (0, 5, len(BAD), None, -3, 10**9)
        ],
        recipe=BAD,
        notes=[BAD],
    )


@pytest.mark.parametrize("source", WRITERS)
def test_page_is_one_sound_file(tmp_path: Path, source: str) -> None:
    """Of every writer the page has closed tags, ids that are there once, and names that are there."""
    folder = tmp_path / "run"
    folder.mkdir()
    WRITERS[source](folder)
    check_sound(Page(write_run_page(tmp_path / "page.html", [read_run(folder)])))


def check_sound(page: Page) -> None:
    assert not page.open
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for key in ("aria-labelledby", "aria-describedby"):
        assert {a[key] for _, a in page.tags if key in a} <= set(ids)
    assert {(a["href"] or "")[1:] for a in page.of("a")} <= set(ids)
    assert len(page.of("title")) >= 1
    assert len(page.of("h1")) == len(page.of("main")) == len(page.of("style")) == 1
    drawings = [a for a in page.of("svg") if a.get("role") == "img"]
    assert drawings
    assert all(a["aria-labelledby"] and a["aria-describedby"] for a in drawings)
    assert all(a.get("aria-hidden") == "true" for a in page.of("svg") if a not in drawings)


def test_page_takes_nothing_and_runs_nothing(tmp_path: Path, run: Run) -> None:
    """No script, no address that leads out, and a policy that would allow neither."""
    page = Page(write_run_page(tmp_path / "page.html", [run]))
    assert not {"script", "iframe", "img", "object", "base"} & {tag for tag, _ in page.tags}
    links = [a[k] for _, a in page.tags for k in ("src", "href", "action", "srcset") if k in a]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not [a for _, a in page.tags for name in a if name.startswith("on") or name == "style"]
    style = page.texts["style"][0]
    assert not re.search(r"https?:|@import|url\(", style)
    policy = next(a["content"] or "" for a in page.of("meta") if "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'; script-src 'none'" in policy


def test_hostile_names_and_texts_are_text(tmp_path: Path, hostile: Run) -> None:
    """Markup in a name, a completion or a note makes no tag, and signs that hide are spelt out."""
    for runs in ([hostile], [hostile, hostile]):
        file = write_run_page(tmp_path / "page.html", runs, title=BAD)
        check_sound(Page(file))
        page = Page(file)
        assert not {"script", "img", "i", "b", "textarea"} & {tag for tag, _ in page.tags}
        assert page.texts["h1"] == [visible(BAD)]
        text = file.read_text(encoding="utf-8")
        assert not re.search("[\x00\u202e\u2028\ufffd]|&#0;", text)
    page = Page(write_run_page(tmp_path / "page.html", [hostile]))
    shown = "".join(page.texts["pre"])
    assert shown.count("[U+D800]") >= len(hostile.examples)
    assert visible(BAD)[:40] in "".join(page.texts["li"])


def test_failures_are_marked_where_they_are(tmp_path: Path) -> None:
    """What stands at the position is marked; at the end of the text that is said; else nothing is."""
    text = "x" * 5000 + "HERE is it" + "y" * 5000
    examples = [
        Example(1, "a", text, "", "bad_json", "m", 5000),
        Example(1, "b", "<answer>[", "", "bad_json", "m", 9),
        Example(1, "c", "plain", "", "bad_json", "m", None),
    ]
    run = Run("r", "TRL", [{"step": 1, "reward": 1.0}], examples=examples)
    page = Page(write_run_page(tmp_path / "page.html", [run]))
    assert page.texts["mark"] == ["HERE", "(here it ends)"]
    html = (tmp_path / "page.html").read_text()
    assert html.count("(3,500 more characters)") == 1
    assert html.count("more characters)") == 2
    assert "<mark>HERE</mark> is ityyy" in html
    assert "xxx<mark>" in html


def test_summary_is_the_runs(run: Run, tmp_path: Path) -> None:
    """The head of the page says first and last tenths, as a slow reading of the log gives them."""
    found = summary(run)
    assert (found["steps"], found["first_step"], found["last_step"]) == (STEPS, 1, STEPS)
    assert (found["rollouts"], found["windows"], found["recipe"]) == (STEPS * 12, 6, "dr_seg")
    values = [entry["rankreward/raw/iou"] for entry in run.entries]
    want = {"first": sum(values[:2]) / 2, "last": sum(values[-2:]) / 2}
    assert found["measures"]["rankreward/raw/iou"] == pytest.approx(want)
    text = write_run_page(tmp_path / "page.html", [run]).read_text()
    assert f">{want['last'] - want['first']:.4f}<" in text


def test_every_figure_that_was_logged_is_drawn(tmp_path: Path, run: Run) -> None:
    """Each section has its charts, and a figure that was not logged is said not to be."""
    page = Page(write_run_page(tmp_path / "page.html", [run]))
    for title in (
        "Reward",
        "Terms",
        "raw/iou",
        "Ranks",
        "Ties",
        "Failures",
        "Dead groups",
        "Window",
    ):
        assert title in page.texts["h3"], title
    assert page.texts["h3"].count("iou") == 1
    assert "Entropy" not in page.texts["h3"]
    bare = Run("r", "TRL", [{"step": 1, "reward": 1.0}])
    said = write_run_page(tmp_path / "bare.html", [bare]).read_text()
    assert said.count("The log has no figure of this.") == 6
    assert "No window was saved." in said


def test_runs_over_one_another(tmp_path: Path, run: Run) -> None:
    """Of two runs each figure is one chart with a line a run, and equal names are told apart."""
    folder = tmp_path / "trl"
    folder.mkdir()
    trl(folder)
    other = read_run(folder)
    charts = {each.title: each for each in run_charts.compared_charts([run, other])}
    assert [line.name for line in charts["raw/iou"].lines] == ["one", "trl"]
    assert [line.name for line in charts["Entropy"].lines] == ["trl"]
    np.testing.assert_array_equal(charts["raw/iou"].lines[0].y, run.figure("rankreward/raw/iou")[1])
    page = Page(write_run_page(tmp_path / "page.html", [run, run]))
    check_sound(page)
    assert "one (1)" in page.texts["li"]
    assert page.texts["h1"] == ["one (1) and one (2)"]
    for runs in ([], [run] * 13):
        with pytest.raises(InputError, match="runs: expected 1 to 12"):
            write_run_page(tmp_path / "page.html", runs)


def test_long_runs_make_small_pages(tmp_path: Path) -> None:
    """10,000 steps of 60 figures, full windows and hundreds of examples stay below 3 MB."""
    rng = np.random.default_rng(0)
    names = [
        f"{p}/m{k}"
        for p in ("raw", "rank", "ties", "term", "failure", "variance_share", "rank_variance_share")
        for k in range(8)
    ]
    names = [f"rankreward/{name}" for name in names] + [
        "reward",
        "reward_std",
        "entropy",
        "kl",
        "grad_norm",
    ]
    table = rng.normal(100, 30, (10_000, len(names)))
    entries = [
        {"step": s, **dict(zip(names, row.tolist(), strict=True))} for s, row in enumerate(table)
    ]
    windows = [
        Window(s, "", tuple(f"m{k}" for k in range(8)), rng.normal(size=(2048, 8)))
        for s in range(6)
    ]
    examples = [
        Example(1, "p", "<" * 100_000, "<" * 100_000, f"c{k}", "m" * 10_000, 50_000)
        for k in range(300)
    ]
    file = write_run_page(tmp_path / "page.html", [Run("r", "TRL", entries, windows, examples)])
    assert file.stat().st_size < 3_000_000
    text = file.read_text()
    assert text.count('class="card"') == EXAMPLES
    assert "240 more are not shown." in text


def test_more_lines_than_a_chart_takes_are_counted(tmp_path: Path) -> None:
    """Of 20 terms 12 are drawn, and the chart says that 8 are not."""
    entry = {f"rankreward/term/t{k}": 1.0 for k in range(20)}
    run = Run("r", "TRL", [{"step": 1, **entry}])
    terms = run_charts.terms_chart(run)
    assert (len(terms.lines), terms.left_out) == (12, tuple(f"t{k}" for k in range(12, 20)))
    assert "8 more not drawn: t12, t13," in figure(terms, 0)


values = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=700)


@given(values, st.integers(1, 40))
def test_running_mean_and_thinning(found: list[float], count: int) -> None:
    """The running mean is that of a plain loop; thinning keeps the first and last steps and means."""
    y = np.array([value / 1e290 for value in found])
    slow = [np.mean(y[max(k - count, 0) : k]) for k in range(1, len(y) + 1)]
    np.testing.assert_allclose(
        chart.running_mean(y, count), slow, rtol=1e-9, atol=1e-12 * np.abs(y).max()
    )
    x = np.arange(len(y), dtype=float)
    at, thin = chart.thinned(x, y)
    assert len(at) == len(thin) == min(len(y), chart.POINTS)
    assert (at[0], at[-1]) == (x[0], x[-1])
    assert (np.diff(at) > 0).all()
    slack = 1e-12 * np.abs(y).max()
    assert y.min() - slack <= thin.min() <= thin.max() <= y.max() + slack


def test_thinning_takes_means_of_neighbours() -> None:
    """Three times as many points as are drawn become the means of threes."""
    y = np.random.default_rng(0).normal(size=3 * chart.POINTS)
    thin = chart.thinned(np.arange(len(y), dtype=float), y)[1]
    np.testing.assert_allclose(thin, y.reshape(-1, 3).mean(axis=1))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=600))
def test_distribution_is_the_shares_not_above(found: list[float]) -> None:
    """A drawn distribution is within a thinned step of the share of values at or below each value."""
    window = Window(1, "", ("m",), np.array(found)[:, None])
    (line,) = run_charts.ecdf_chart(Run("r", "TRL", [], windows=[window]), "m").lines
    exact = np.array([np.mean(np.array(found) <= value) for value in line.x])
    np.testing.assert_allclose(line.y, exact)
    assert (line.x[0], line.x[-1], line.y[-1]) == (min(found), max(found), 1.0)
    if len(set(found)) > chart.POINTS:
        biggest = max(found.count(value) for value in found) / len(found)
        assert np.diff(line.y).max() <= 1 / chart.POINTS + biggest + 1e-9


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.floats(-1e100, 1e100)),
        min_size=1,
        max_size=40,
        unique_by=lambda p: p[0],
    )
)
def test_any_numbers_can_be_drawn(points: list[tuple[int, float]]) -> None:
    """Whatever the numbers, every coordinate is finite and inside the drawing."""
    entries = [{"step": float(s), "reward": v} for s, v in sorted(points)]
    html = figure(run_charts.reward_chart(Run("r", "TRL", entries)), 0)
    assert not re.search(
        r"nan|inf", html.split("<details>")[0].split("<svg", 1)[1].split("<title>")[0]
    )
    for path in re.findall(r'class="line[^"]*" d="M([^"]*)"', html):
        pairs = [tuple(map(float, pair.split())) for pair in path.split("L")]
        assert all(0 <= x <= 420 for x, _ in pairs)
        assert all(-0.2 <= y <= 250.2 for _, y in pairs)


def test_shares_stand_on_one_another() -> None:
    """Areas reach 1 where shares add up to 1, and a share that is missing beside others is none."""
    entries = [
        {"step": 1, "rankreward/variance_share/a": 0.25, "rankreward/variance_share/b": 0.75},
        {"step": 2},
        {"step": 3, "rankreward/variance_share/a": 1.0},
    ]
    before, after = run_charts.share_charts(Run("r", "TRL", entries))
    assert [line.x.tolist() for line in before.lines] == [[1, 3], [1, 3]]
    assert [line.y.tolist() for line in before.lines] == [[0.25, 1.0], [0.75, 0.0]]
    assert not after.lines
    one = run_charts.share_charts(Run("r", "TRL", entries[:1]))[0]
    assert figure(one, 0).count('class="area') == 2


def test_numbers_are_those_of_the_lines() -> None:
    """The table beside a chart has the tenths and extremes; of a distribution its quantiles."""
    run = Run("r", "TRL", [{"step": s, "reward": float(s)} for s in range(1, 31)])
    assert numbers(run_charts.reward_chart(run)).rows == (("reward", 2.0, 29.0, 1.0, 30.0, 30.0),)
    assert ends(np.array([3.0])) == (3.0, 3.0)
    window = Window(9, "", ("m",), np.arange(1.0, 101.0)[:, None])
    rows = numbers(run_charts.ecdf_chart(Run("r", "TRL", [], windows=[window]), "m")).rows
    assert rows == (("step 9", 10.0, 25.0, 50.0, 75.0, 90.0),)


PLOTS: dict[str, Any] = {
    "plot_reward": (), "plot_ranks": (), "plot_terms": (), "plot_variance_shares": (), "plot_ties": (), "plot_failures": (),
    "plot_group_spread": (), "plot_dead_groups": (), "plot_length": (), "plot_raw": ("iou",), "plot_ecdfs": ("iou",),
}  # fmt: skip


@pytest.mark.parametrize("name", PLOTS)
def test_axes_show_what_the_page_shows(name: str, run: Run, hostile: Run) -> None:
    """Each chart on an axis has its labels and a line a name; names are no formulas; empty raises."""
    ax = Figure().subplots()
    getattr(rp, name)(ax, run, *PLOTS[name])
    assert ax.get_ylabel()
    assert ax.get_xlabel() == ("value" if name == "plot_ecdfs" else "step")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels
    assert len(labels) == len(set(labels))
    with pytest.raises(InputError, match="expected"):
        getattr(rp, name)(ax, Run("r", "TRL", [{"step": 1.0, "x": 1.0}]), *PLOTS[name])


def test_axes_take_names_as_they_are(hostile: Run) -> None:
    """A metric whose name is half a formula is drawn and can be saved."""
    odd = Run("r", "TRL", [{"step": 1, "rankreward/term/$x_{": 1.0, "rankreward/term/_y": 0.5}])
    drawing = Figure()
    ax = drawing.subplots()
    rp.plot_terms(ax, odd)
    drawing.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$x_{", " _y"]


def test_axes_draw_the_numbers(run: Run) -> None:
    """A curve on an axis is the running mean, a distribution rises to 1, shares fill to 1."""
    ax = Figure().subplots()
    rp.plot_raw(ax, run, "iou")
    mean = chart.running_mean(run.figure("rankreward/raw/iou")[1], 10)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), mean)
    ax = Figure().subplots()
    rp.plot_ecdfs(ax, run, "iou")
    assert [line.get_ydata()[-1] for line in ax.lines] == [1.0] * 6
    ax = Figure().subplots()
    rp.plot_variance_shares(ax, run, ranked=True)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), 1.0)
    with pytest.raises(InputError, match=r"expected one that the run logged \(iou, count, point\)"):
        rp.plot_raw(ax, run, "none")


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    monkeypatch.setattr(sys, "argv", ["rankreward", "report", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_command_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The command writes RUN/report.html and says where; what was missing is on standard error."""
    scored(tmp_path / "a")
    (tmp_path / "a" / "examples.jsonl").unlink()
    assert typed(monkeypatch, tmp_path / "a", "--title", "A <b>") == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "a" / "report.html")
    assert Page(tmp_path / "a" / "report.html").texts["h1"] == ["A <b>"]
    assert (
        err.strip() == "rankreward: a: no examples of failures: expected examples.jsonl, got none"
    )


def test_command_prints_json_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """--json prints the summaries alone; several runs want --out; an unknown folder is one line."""
    for name in ("a", "b"):
        scored(tmp_path / name)
    page = tmp_path / "both.html"
    assert typed(monkeypatch, tmp_path / "a", tmp_path / "b", "--out", page, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(page)
    assert [each["run"] for each in told["runs"]] == ["a", "b"]
    assert told["runs"][0]["measures"]["reward"]["last"] > 0
    assert page.exists()
    assert "--out: expected" in str(typed(monkeypatch, tmp_path / "a", tmp_path / "b"))
    (tmp_path / "none").mkdir()
    said = str(typed(monkeypatch, tmp_path / "none"))
    assert "steps.jsonl (rankreward score)" in said
    assert "\n" not in said


def test_page_needs_no_optional_package() -> None:
    """Reading a run and writing its page load neither matplotlib nor any other optional package."""
    code = (
        "import sys, rankreward.runs.reading, rankreward.report.run_page\n"
        "print({'matplotlib', 'PIL', 'pyarrow', 'tensorboard', 'torch', 'datasets'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
