"""GRPO training with TRL on two ranks under torchrun: one window, one reward, one checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rankreward as rr
from policy import RECIPE

HERE = Path(__file__).parent
Answers = list[dict[str, Any]]


def torchrun(scenario: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Two ranks of `trl_ranks.py`."""
    paths = [str(HERE), str(HERE.parent / "examples" / "digits"), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*command, str(HERE / "trl_ranks.py"), scenario, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def answers(folder: Path) -> Answers:
    """What the ranks wrote down."""
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answers]:
    """Two steps on two ranks, saved after each."""
    folder = tmp_path_factory.mktemp("ranks")
    done = torchrun("train", folder)
    assert done.returncode == 0, done.stderr
    return folder, answers(folder)


def replay(ranks: Answers, scorer: rr.Scorer, first: int = 0) -> list[str]:
    """One process scores what both ranks scored; returns its window's hash after each step."""
    hashes = []
    for place, step in enumerate(ranks[0]["steps"]):
        for rank in ranks:
            for call in rank["calls"]:
                if call["step"] == place:
                    batch = scorer.score(call["texts"], call["references"], record=call["record"])
                    assert batch.total.tolist() == call["total"]
        scorer.flush(step["step"])
        hashes.append(hashlib.sha256(scorer.quantiles.rows.tobytes()).hexdigest())
    return hashes


def test_ranks_share_the_window_of_one_process(trained: tuple[Path, Answers]) -> None:
    """Both ranks pay what one process with all rollouts would pay, and keep its window."""
    _, ranks = trained
    assert {rank["window"] for rank in ranks} == {"DistributedQuantileService"}
    assert ranks[0]["steps"] == ranks[1]["steps"]
    assert [step["size"] for step in ranks[0]["steps"]] == [128 + 16, 128 + 32]
    assert any(not call["record"] for rank in ranks for call in rank["calls"])
    assert replay(ranks, rr.Scorer(RECIPE)) == [step["hash"] for step in ranks[0]["steps"]]


def test_the_log_is_that_of_both_ranks(trained: tuple[Path, Answers]) -> None:
    """An entry of the log averages over the ranks."""
    _, ranks = trained
    last = [
        call for rank in ranks for call in rank["calls"] if call["record"] and call["step"] == 1
    ]
    totals = [total for call in last for total in call["total"]]
    assert len(totals) == 16
    log = ranks[0]["log"]
    terms = [value for name, value in log.items() if name.startswith("rankreward/term/")]
    assert sum(terms) == pytest.approx(sum(totals) / 16, abs=1e-4)
    assert log["rankreward/window/added"] == 16
    assert log["rankreward/window/size"] == 128 + 16


def test_a_resumed_run_pays_as_an_unbroken_one(trained: tuple[Path, Answers]) -> None:
    """Both ranks go on with the window of the checkpoint that one of them wrote."""
    folder, before = trained
    window = (folder / "checkpoint-2" / "rankreward.npz").read_bytes()
    done = torchrun("resume", folder)
    assert done.returncode == 0, done.stderr
    ranks = answers(folder)
    assert [step["step"] for step in ranks[0]["steps"]] == [3, 4]
    assert ranks[0]["steps"] == ranks[1]["steps"]
    unbroken = rr.Scorer(RECIPE)
    replay(before, unbroken)
    assert replay(ranks, unbroken) == [step["hash"] for step in ranks[0]["steps"]]
    assert (folder / "checkpoint-2" / "rankreward.npz").read_bytes() == window


def test_a_killed_rank_ends_the_run_and_loses_no_finished_step(tmp_path: Path) -> None:
    """The run ends with an error, and the last checkpoint has the window of its step."""
    done = torchrun("killed", tmp_path)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr
    scorer = rr.Scorer(RECIPE)
    scorer.load(tmp_path / "checkpoint-1" / "rankreward.npz")
    assert (scorer.quantiles.step, scorer.quantiles.size) == (1, 128 + 16)
    assert not (tmp_path / "checkpoint-2").exists()


def test_a_group_split_over_ranks_is_refused_where_it_matters(tmp_path: Path) -> None:
    """A recipe that compares the answers to a prompt says how to keep them on one rank."""
    done = torchrun("groups", tmp_path)
    assert done.returncode != 0
    assert "compares the 8 answers to a prompt, and this rank got" in done.stderr
