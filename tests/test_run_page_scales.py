"""Scales, labels and what a chart leaves out: a drawing says neither more nor less than its numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from test_page import Page

import rankreward.report as rp
from rankreward.report import run_charts, write_run_page
from rankreward.report.chart import running_mean
from rankreward.report.run_svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, figure
from rankreward.runs import Run, Window
from rankreward.runs.names import GRADIENT, KL


def of(rewards: list[float], begin: int = 1) -> Run:
    return Run("r", "", [{"step": s, "reward": r} for s, r in enumerate(rewards, begin)])


def drawn(run: Run) -> str:
    return figure(run_charts.reward_chart(run), 0).split("<details>")[0]


def y_labels(html: str) -> dict[str, float]:
    found = re.findall(r'y="([\d.]+)" class="end"[^>]*>([^<]+)<', html)
    assert len({name for _, name in found}) == len(found)
    return {name: float(at) for at, name in found}


def x_labels(html: str) -> list[str]:
    return re.findall(rf'y="{HEIGHT - BOTTOM + 16}" class="mid">([^<]+)<', html)


@pytest.mark.parametrize("value", [0.1, 0.3, -0.7, 1e-6, 12345.678, 0.0])
def test_a_figure_that_stays_is_a_level_line(value: float) -> None:
    """The rounding of a running mean makes no peak: the line is level, half way up."""
    values = np.full(40, value)
    html = drawn(of(values.tolist()))
    heights = {y for path in re.findall(r'd="M([^"]*L[^"]*)"', html) for y in path.split("L")}
    heights = {pair.split()[1] for pair in heights}
    assert heights == {f"{(TOP + HEIGHT - BOTTOM) / 2:.1f}"}
    assert 2 <= len(y_labels(html)) <= 12


def test_a_running_mean_rounds() -> None:
    """The case before is not empty: a mean of equal values is not always that value."""
    assert np.ptp(running_mean(np.full(40, 0.1), 10)) > 0


@pytest.mark.parametrize(
    ("rewards", "begin", "names", "steps"),
    [
        (
            [1000.1 + k % 7 / 100 for k in range(300)],
            1_000_000,
            ["1000.10", "1000.12", "1000.14", "1000.16"],
            ["1000000", "1000100", "1000200"],
        ),
        ([10240.0, 10240.4], 1, [f"10240.{k}" for k in range(5)], ["1", "2"]),
        ([0.0, 5e8, 1e9], 0, ["0", "2e8", "4e8", "6e8", "8e8", "1.0e9"], ["0", "1", "2"]),
        ([1e-7, 3e-7], 7, ["0", "1e-7", "2e-7", "3e-7"], ["7", "8"]),
        ([0.5, 0.7], 1, ["0.50", "0.55", "0.60", "0.65", "0.70"], ["1", "2"]),
    ],
)
def test_labels_tell_numbers_apart(
    rewards: list[float], begin: int, names: list[str], steps: list[str]
) -> None:
    """Decimals are those of the distance between labels, and steps are whole."""
    html = drawn(of(rewards, begin))
    assert list(y_labels(html)) == names
    assert x_labels(html) == steps


@given(
    st.floats(-1e100, 1e100),
    st.lists(st.floats(0, 1), min_size=2, max_size=30),
    st.floats(1e-12, 2),
    st.integers(0, 2**40),
)
def test_labels_differ_and_stand_beside_the_drawing(
    low: float, shares: list[float], width: float, begin: int
) -> None:
    """Whatever the range, labels differ, say the number that they stand at, and none is outside."""
    html = drawn(of([low + share * width * (abs(low) or 1) for share in shares], begin))
    places = y_labels(html)
    assert places
    assert all(TOP - 0.2 <= at - 4 <= HEIGHT - BOTTOM + 0.2 for at in places.values())
    order = sorted(places, key=lambda name: -places[name])
    assert [float(name) for name in order] == sorted(map(float, places))
    steps = x_labels(html)
    assert len(steps) == len(set(steps)) > 0
    assert all(float(step).is_integer() for step in steps)


def test_a_chart_near_nothing_begins_there() -> None:
    """From 1 to 5 the axis begins at 0; from 4 to 5 it does not, which would hide the change."""
    assert y_labels(drawn(of([1.0, 5.0])))["0"] == HEIGHT - BOTTOM + 4
    assert "0" not in y_labels(drawn(of([4.0, 5.0])))


def test_a_column_says_its_own_numbers() -> None:
    """What a column says is the mean over its own steps, and the columns fill the width."""
    rewards = np.random.default_rng(0).random(400).tolist()
    html = drawn(of(rewards))
    said = re.findall(r"<title>steps (\d+) to (\d+)\nreward: ([^<]+)</title>", html)
    assert len(said) == 40
    assert [int(begin) for begin, _, _ in said] == list(range(1, 400, 10))
    want = [f"{np.mean(rewards[int(a) - 1 : int(b)]):.4g}" for a, b, _ in said]
    assert [value for _, _, value in said] == want
    widths = sum(map(float, re.findall(r'<rect x="[\d.]+" y="\d+" width="([\d.]+)"', html)))
    assert widths == pytest.approx(WIDTH - LEFT - RIGHT, abs=3)


def test_kinds_of_failure_come_by_their_share() -> None:
    """The kind that came most often is the first after all of them; one that never came is not there."""
    shares = {"a": 0.1, "b": 0.0, "c": 0.3, "d": 0.2}
    entry = {f"rankreward/failure/{name}": share for name, share in shares.items()}
    lines = run_charts.failures_chart(
        Run("r", "", [{"step": 1, "rankreward/failures": 0.6, **entry}])
    ).lines
    assert [line.name for line in lines] == ["any failure", "c", "d", "a"]


def test_charts_without_room_are_named(tmp_path: Path) -> None:
    """Of 20 metrics, and of 18 distributions, 12 are drawn, and the page names the others."""
    entry = {f"rankreward/raw/m{k}": 0.5 for k in range(20)}
    rows = np.random.default_rng(0).random((9, 3))
    windows = [Window(1, f"key{k}", ("x", "y", "z"), rows) for k in range(6)]
    page = Page(
        write_run_page(
            tmp_path / "page.html", [Run("r", "", [{"step": 1, **entry}], windows=windows)]
        )
    )
    assert [title for title in page.texts["h3"] if title.startswith("raw/")] == [
        f"raw/m{k}" for k in range(12)
    ]
    rest = ", ".join(f"raw/m{k}" for k in range(12, 20))
    assert f"8 more not drawn: {rest}" in page.texts["p"]
    rest = ", ".join(f"{metric} (key{k})" for k in (4, 5) for metric in "xyz")
    assert f"6 more not drawn: {rest}" in page.texts["p"]
    rp.plot_raw(Figure().subplots(), Run("r", "", [{"step": 1, **entry}]), "m19")


def test_runs_are_compared_in_every_figure() -> None:
    """What the page of one run draws as curves or areas is compared; kinds that never came are not."""
    kinds = ("raw", "rank", "term", "ties", "variance_share", "rank_variance_share", "failure")
    names = [f"rankreward/{kind}/iou" for kind in kinds] + ["rankreward/window/size", KL, GRADIENT]
    entry = {**dict.fromkeys(names, 0.5), "rankreward/failure/never": 0.0}
    runs = [Run(name, "", [{"step": 1, **entry}]) for name in "ab"]
    charts = [chart for chart in run_charts.compared_charts(runs) if chart.lines]
    want = {"KL divergence", "Gradient norm", "window/size"} | {f"{kind}/iou" for kind in kinds}
    assert {chart.title for chart in charts} == want
    assert all([line.name for line in chart.lines] == ["a", "b"] for chart in charts)
    assert {chart.title for chart in charts if chart.kind == "counts"} == {"window/size"}


def test_names_of_compared_runs_differ(tmp_path: Path) -> None:
    """Runs a, a and "a (1)" have three names, and a run whose name is its own keeps it."""
    runs = [Run(name, "", [{"step": 1, "reward": 1.0}]) for name in ("a", "a", "a (1)")]
    page = Page(write_run_page(tmp_path / "page.html", runs))
    assert page.texts["h1"] == ["a (2) and a (3) and a (1)"]


def test_dead_groups_of_trl_are_explained() -> None:
    """What TRL logs as dead groups may be of batches, which the chart says of its runs alone."""
    entries = [{"step": 1, "rankreward/dead_groups": 0.5}]
    said = {s: run_charts.dead_chart(Run("r", s, entries)).about for s in ("TRL", "verl")}
    assert 'scale_rewards="batch"' in said["TRL"]
    assert "batch" not in said["verl"]


def test_steps_on_an_axis_are_whole() -> None:
    """An axis of two steps has no label between them that is no step."""
    drawing = Figure()
    ax = drawing.subplots()
    rp.plot_reward(ax, of([1.0, 2.0]))
    drawing.canvas.draw()
    assert all(tick.is_integer() for tick in ax.get_xticks())
