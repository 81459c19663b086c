"""The benchmarks measure what they say: turns, ratios, stand-ins and the report. No test times."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import pytest
import report as benchmark_report
from calling import call
from typer.testing import CliRunner

import rankreward as rr
from rankreward import bench, cli


class Clock:
    """Stands still but for the work that `work` is told to take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.log: list[str] = []
        monkeypatch.setattr(bench.time, "perf_counter", lambda: self.now)

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.log.append(name)
            self.now += seconds

        return call


def test_calibrate_counts_enough_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn takes the least time, and a slow function is called once."""
    clock = Clock(monkeypatch)
    assert 100 <= bench.calibrate(clock.work("fast", 1e-4), 1e-2) <= 120
    assert bench.calibrate(clock.work("slow", 1.0), 1e-2) == 1


def test_calibrate_leaves_out_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold first call does not make a fast function look slow."""
    clock = Clock(monkeypatch)
    calls = itertools.chain([clock.work("cold", 1.0)], itertools.repeat(clock.work("warm", 1e-3)))

    def call() -> None:
        next(calls)()

    assert bench.calibrate(call, 1e-2) >= 10


def test_paired_times_in_turns_and_changes_who_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds per call are right, every candidate has its turn each round, the order rotates."""
    clock = Clock(monkeypatch)
    candidates = {name: clock.work(name, s) for name, s in [("a", 1.0), ("b", 2.0), ("c", 4.0)]}
    times = bench.paired(candidates, rounds=3, min_time=0.5)
    assert {name: each.tolist() for name, each in times.items()} == {
        "a": [1.0] * 3,
        "b": [2.0] * 3,
        "c": [4.0] * 3,
    }
    assert "".join(clock.log[-9:]) == "abcbcacab"


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that slows down by a round's worth changes no ratio."""
    ours = np.array([1.0, 10.0, 3.0, 7.0])
    found = bench.ratios({"ours": ours, "rival": 2 * ours, "odd": ours * [1, 2, 3, 4]}, "ours")
    assert found == {"rival": (2.0, 2.0, 2.0), "odd": (1.75, 2.5, 3.25)}


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_left_as_it_was(enabled: bool) -> None:
    """Timing turns the collector off, and back on only if it was on."""
    before = bench.gc.isenabled()
    try:
        (bench.gc.enable if enabled else bench.gc.disable)()
        with bench.no_garbage_collection():
            assert not bench.gc.isenabled()
        assert bench.gc.isenabled() == enabled
    finally:
        (bench.gc.enable if before else bench.gc.disable)()


@pytest.mark.parametrize("window", [1, 2048, 65536])
def test_filled_service_has_its_index(window: int) -> None:
    """What is timed is the compiled ranking, in the window that is asked for."""
    rr.warmup()
    service = bench.filled(np.random.default_rng(0).random((window, 3)))
    assert service.size == window
    assert service._snapshots[0]._grid is not None


@pytest.mark.parametrize("rows", [1, 128, 4096])
def test_batches_are_many_and_differ(rows: int) -> None:
    """No processor learns the values by heart."""
    batches = bench.batches_of(rows, np.random.default_rng(0))
    assert batches.shape[1:] == (rows, 3)
    assert len(np.unique(batches)) == batches.size
    assert batches.size >= 2**16 or len(batches) == 4096


def test_command_writes_finite_figures(tmp_path: Path) -> None:
    """`rankreward bench --json` shows a table and writes every row with what it depends on."""
    path = tmp_path / "figures.json"
    done = CliRunner().invoke(cli.app(), ["bench", "--seconds", "0.5", "--json", str(path)])
    assert done.exit_code == 0, done.output
    figures = json.loads(path.read_text())
    assert len(figures["rows"]) == len(bench.CASES)
    for row in figures["rows"]:
        numbers = [row["ours"], row["theirs"], *row["ratio"].values()]
        assert all(math.isfinite(number) and number > 0 for number in numbers)
        assert row["what"] in done.output
    assert figures["versions"]["numpy"] == np.__version__
    assert figures["machine"]["cores"] >= 1


def test_command_refuses_a_path_at_once(tmp_path: Path) -> None:
    """A folder that is not there is said before the timing, not after it."""
    path = tmp_path / "none" / "figures.json"
    done = call("bench", "--json", path)
    assert done.returncode == 1
    assert "expected a file in a folder that is there" in done.stderr


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_command_without_its_extra_says_so_in_one_line(package: str) -> None:
    """No traceback: what is missing, and what to install."""
    code = f"import sys; sys.modules[{package!r}] = None; from rankreward.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "rankreward[cli]" in done.stderr


def steps(queue: published.Queue) -> list[list[list[float]]]:
    """Ranks of six steps of random rows with ties; the window of 300 overflows in the third."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(6):
        rows = np.where(rng.random((100, 3)) < 0.3, 0.0, rng.random((100, 3)))
        for row in rows.tolist():
            queue.enqueue(row)
        found.append([queue.query(row) for row in rows.tolist()])
        queue.flush()
    return found


def test_stand_in_service_ranks_like_ours() -> None:
    """In process it gives what our service gives in its arrival order and precision, rounded."""

    class Ours:
        def __init__(self) -> None:
            self.service = rr.QuantileService(
                bench.METRICS, window=300, warm_start=50, order="arrival", precision="float32"
            )

        def enqueue(self, row: list[float]) -> None:
            self.service.push(row)

        def query(self, row: list[float]) -> list[float]:
            return [round(rank, 1) for rank in self.service.rank(row).tolist()]

        def flush(self) -> None:
            self.service.flush(1)

    assert steps(published.PublishedQueue(300, 50)) == steps(Ours())


def test_stand_in_service_over_tcp_is_the_one_in_process() -> None:
    """Behind TCP it gives the same answers, and its process ends."""
    with published.running(300, 50) as remote:
        assert steps(remote) == steps(published.PublishedQueue(300, 50))
        connection = remote._connection
    assert connection.closed


BOX = {"bbox_2d": [100, 100, 300, 300], "point_2d": [200, 200]}


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        (json.dumps([BOX]), 8.0),
        ("[", 3.0),
        ("[]", 3.0),
        ("[1]", 3.0),
        ('[{"bbox_2d": [1, 2, 3, 4]}]', 4.0),
    ],
)
def test_stand_in_reward_pays_what_the_published_one_pays(answer: str, reward: float) -> None:
    """Eight points for a perfect answer; in a window of ones the zeros of a bad one rank 0."""
    queue = published.PublishedQueue(window=4, warm_start=0)
    for _ in range(4):
        queue.enqueue([1.0, 1.0, 1.0])
    queue.flush()
    text = f"<think>A cup. <look>the red one</look></think>\n<answer>{answer}</answer>"
    assert published.reward(text, json.dumps([BOX]), queue) == reward


def test_stand_in_geometry_is_that_of_our_metrics() -> None:
    """Where every pair is beyond doubt the two ways of matching agree."""
    boxes = np.array([[0.0, 0, 99, 99], [200, 200, 399, 399]])
    points = np.array([[50.0, 50], [300, 300]])
    moved = boxes[::-1] + 9
    iou, count, point = published.geometry((moved, points[::-1] + 50), (boxes, points))
    ours = rr.metrics.box_iou(moved, boxes[::-1], inclusive=True)
    assert iou == pytest.approx(np.diag(ours).mean())
    assert count == 1.0
    assert point == pytest.approx(rr.metrics.point_ramp(50 * 2**0.5))


RAW = {
    "machine_info": {
        "cpu": {"brand_raw": "made up"},
        "cores": 2,
        "system": "Linux",
        "machine": "x86_64",
        "versions": {"numpy": "2"},
    },
    "benchmarks": [
        {
            "extra_info": {
                "row": "rank",
                "ours": [1e-3, 2e-3, 1e-3],
                "rivals": {"slow": [9e-3, 20e-3, 11e-3], "fast": [1e-3, 1e-3, 1e-3]},
                "goal": {"slow": 10, "fast": 2},
                "limit": None,
            }
        },
        {"extra_info": {"row": "import", "ours": [0.2], "rivals": {}, "goal": {}, "limit": 0.3}},
    ],
}


def test_report_sets_figures_beside_goals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ratios are medians of rounds; goals are reached or not; the figure is the same each time."""
    raw, results = tmp_path / "raw.json", tmp_path / "results.json"
    raw.write_text(json.dumps(RAW))
    figures = [tmp_path / "a" / "x.svg", tmp_path / "b" / "x.svg"]
    for figure in figures:
        benchmark_report.main(raw, results, figure)
    rank, load = json.loads(results.read_text())["rows"]
    assert rank["rivals"]["slow"] == {
        "median": 10.0,
        "low": 9.5,
        "high": 10.5,
        "goal": 10.0,
        "reached": True,
    }
    assert rank["rivals"]["fast"]["reached"] is False
    assert (load["ours"]["median"], load["reached"]) == (0.2, True)
    printed = capsys.readouterr().out
    assert "| rank | 1 ms | slow | 10x (9.5 to 10.5) | >= 10x | yes |" in printed
    assert "| rank | 1 ms | fast | 1x (0.75 to 1) | >= 2x | **no** |" in printed
    assert "| import | 200 ms | | | < 300 ms | yes |" in printed
    assert figures[0].read_bytes() == figures[1].read_bytes()
