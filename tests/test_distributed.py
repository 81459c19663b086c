"""Real gloo ranks in processes of their own share one window, or say who is missing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rankreward as rr
from rankreward.quantiles.distributed import DistributedQuantileService

SCRIPT = Path(__file__).parent / "ranks.py"


def run(scenario: str, world: int, silent: int | None = None) -> list[Any]:
    """Start the ranks and read what each prints; `silent` is the rank that will not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), scenario, str(rank), str(world), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(world)
    ]
    answers = []
    try:
        for rank, process in enumerate(ranks):
            if rank != silent:
                out, err = process.communicate(timeout=120)
                assert process.returncode == 0, err
                answers.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in ranks:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()
    return answers


def test_windows_are_those_of_one_process() -> None:
    """Uneven and empty ranks leave, step by step, the window of one process that saw all rows."""
    world = 3
    answers = run("identical", world)
    one, hashes, added = rr.QuantileService(("a", "b"), window=64, warm_start=8), [], []
    rows: list[np.ndarray] = []
    for step in range(6):
        for who in range(world):
            count = [0, 5, 40, 1][(step + who) % 4]
            generator = np.random.default_rng([step, who])
            rows.append(generator.choice([0.0, 0.5, 1.0, np.nan, 0.3], (count, 2)))
            one.push(rows[-1])
        added.append(one.flush(step).added)
        hashes.append(hashlib.sha256(one.rows.tobytes()).hexdigest())
    for answer in answers:
        assert answer["hashes"] == hashes
        assert answer["added"] == added
        assert answer["keyed"] == [41, 57]  # 40 + 1 + 0 rows, beside two warm starts
        assert answer["empty"] == 0
        assert answer["keys_left"] < 30  # the words of old calls are taken away
    assert [answer["after_load"] for answer in answers] == [[3, 3], [0, 3], [0, 3]]


def test_a_group_of_some_ranks_has_a_window_of_its_own() -> None:
    """Ranks outside the group are refused."""
    inside, outside, other = run("subgroup", 3)
    assert (inside, other) == ({"added": 2}, {"added": 2})
    assert outside["error"] == "expected one of the ranks [0, 2], got 1"


def test_differences_are_named_on_every_rank() -> None:
    """Another step, another window (found by its hash) and another configuration."""
    for answer in run("differ", 3):
        step, window, config = answer["errors"]
        same = "flush: expected the same on all ranks, got "
        assert step == f"StepOrderError: {same}step 1 on rank 0 and step 2 on rank 1"
        assert re.fullmatch(
            f"StateError: {same}after step 1 the window [0-9a-f]{{8}} on rank 0 and "
            "after step 1 the window [0-9a-f]{8} on rank 2",
            window,
        )
        assert config == f"StateError: {same}ties=weak on rank 0 and ties=mid on rank 1"


@pytest.mark.parametrize("scenario", ["killed", "stopped"])
def test_a_rank_that_dies_is_named(scenario: str) -> None:
    """The others hear of it within the timeout, and keep their window and pending rows."""
    for answer in run(scenario, 3, silent=1):
        assert answer["error"].startswith("flush: rank 1 did not come within 5 s; dead")
        assert answer["seconds"] < 15
        again = "flush: impossible since an earlier one failed: rank 1 did not come"
        assert answer["again"].startswith(again)


def test_the_first_rank_dies() -> None:
    """It keeps the store of a group made by address; the others say so."""
    for answer in run("first", 3, silent=0):
        assert answer["error"].startswith("flush: rank 0")
        assert answer["seconds"] < 15


def test_a_rank_that_dies_while_rows_are_gathered_is_named() -> None:
    """Between the roll call and the rows."""
    for answer in run("gathering", 3, silent=1):
        assert answer["error"].startswith("flush: rank 1 did not come within 5 s; dead")
        assert answer["seconds"] < 20


def test_without_a_process_group() -> None:
    """The error says what to call first."""
    with pytest.raises(rr.StateError, match="init_process_group first, or use QuantileService"):
        DistributedQuantileService(("a",))


def test_a_rank_that_refuses_does_not_keep_the_others_waiting() -> None:
    """It raises its own error, they are told which rank and why, and the next flush works."""
    first, second, third = run("refuse", 3)
    assert second["errors"][0].startswith("StepOrderError: flush: expected a step of at least 4")
    assert second["errors"][1].startswith("InputError: step: expected an integer of at least 0")
    for answer in (first, third):
        assert answer["errors"][0].startswith("StateError: flush: rank 1 refused: flush: expected")
        assert answer["errors"][1].startswith("StateError: flush: rank 1 refused: step: expected")
    assert [answer["added"] for answer in (first, second, third)] == [3, 3, 3]


def test_ranks_may_have_different_numbers_of_windows() -> None:
    """A window of two ranks, and one of all three."""
    assert [answer["added"] for answer in run("overlapping", 3)] == [[2, 3], [2, 3], [3]]


def test_two_services_do_not_wait_for_one_another() -> None:
    """Each has its own line to the store; the timeout here is a minute."""
    for answer in run("crossing", 2):
        assert answer["sizes"] == [10, 10]
        assert answer["seconds"] < 30
