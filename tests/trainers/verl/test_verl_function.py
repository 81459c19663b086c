"""The plain function, in verl's own reward workers and its own manager."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import verl_flow as vf
from verl.experimental.reward_loop import RewardLoopManager
from verl.utils import hf_tokenizer
from verl_manager import data, end_window

import rankreward as rr
from rankreward.adapters import verl as adapter
from rankreward.adapters.verl import compute_score
from rankreward.adapters.verl_window import window_name
from rankreward.quantiles.ray import RayQuantileService


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    vf.start_ray()
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("window"))


@pytest.fixture(scope="module")
def workers(tokenizer: str, folder: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    keyword = "+reward.custom_reward_function.reward_kwargs"
    config = vf.compose(
        f"reward.custom_reward_function.path={vf.PATH}",
        f"{keyword}.recipe=dr_seg",
        f"{keyword}.folder={folder}",
        tokenizer=tokenizer,
        output=tmp_path_factory.mktemp("output"),
    )
    return RewardLoopManager(config).reward_loop_worker_handles


def score(
    workers: list[Any], tokenizer: str, rows: list[tuple[str, Any]], step: int, split: str = "train"
) -> list[dict[str, Any]]:
    """Each rollout goes to a worker of its own choice, as in verl's agent loop."""
    loaded = hf_tokenizer(tokenizer)
    versions = dict.fromkeys(("min_global_steps", "max_global_steps"), step - 1)
    calls = [
        workers[place % len(workers)].compute_score.remote(
            data(
                loaded,
                text,
                reference,
                extra_info={"split": split},
                tool_extra_fields=dict(versions),
                global_steps=step,
            )
        )
        for place, (text, reference) in enumerate(rows)
    ]
    return ray.get(calls, timeout=120)


def test_two_workers_share_one_window(workers: list[Any], tokenizer: str) -> None:
    """Through the naive manager: the rewards of one process, steps that end by themselves,
    validation that enters nothing, and errors that cost their own row."""
    twin, rng = rr.Scorer("dr_seg"), np.random.default_rng(1)
    for step in (1, 2, 3):
        batch = vf.batch_of(rng)
        rows = [(text, reference) for reference, texts in batch.values() for text in texts]
        for split, record in (("train", True), ("val", False)):
            paid = score(workers, tokenizer, rows, step, split)
            told = twin.score([t for t, _ in rows], [r for _, r in rows], record=record)
            assert [each["reward_score"] for each in paid] == told.total.tolist()
            infos = [each["reward_extra_info"] for each in paid]
            assert len({tuple(info) for info in infos}) == 1
            assert [i["rankreward/rank/iou"] for i in infos] == told.ranks["iou"].tolist()
            assert {i["score"] for i in infos} == set(told.total.tolist())
        twin.flush(step)
    window = RayQuantileService.attach(window_name())
    window.flush(3)
    assert window.rows.tobytes() == twin.quantiles.rows.tobytes()
    (bad,) = score(workers, tokenizer, [("x", "{")], 4)
    assert bad["reward_score"] == 0.0
    assert bad["reward_extra_info"]["rankreward/error"].startswith("BadReferenceError")
    assert tuple(bad["reward_extra_info"]) == tuple(infos[0])
    assert window.pending == 0


def test_what_cannot_work_is_said(workers: list[Any], folder: str, tmp_path: Path) -> None:
    """A recipe that verl cannot feed raises; a window that cannot be had is an error of the row,
    with the keys of every other row; so is a rollout whose step is not known."""
    for recipe, words in (("grpo_care", "one rollout at a time"), ("pixel_think", "the lengths")):
        with pytest.raises(rr.ConfigError, match=words):
            compute_score("scenes", "x", "[]", {}, recipe=recipe)
    stepless = compute_score("scenes", "x", "[]", {"split": "train"}, folder=folder)
    assert stepless["rankreward/error"].startswith("InputError: max_global_steps: expected")
    lost = compute_score("scenes", "x", "[]", {}, folder=str(tmp_path))
    assert lost["rankreward/error"].startswith("StateError: window ")  # which has another folder
    assert lost["score"] == stepless["score"] == 0.0
    assert tuple(lost) == tuple(stepless)
    for extra in (None, {"max_global_steps": 0}, {"split": "trian", "max_global_steps": 0}):
        strange = compute_score("scenes", "x", "[]", extra, folder=folder)
        assert strange["rankreward/error"].startswith("InputError: split: expected train")
        assert tuple(strange) == tuple(stepless)


FIRST = {"split": "train", "max_global_steps": 0}


def pay(**options: Any) -> dict[str, Any]:
    """A rollout of the first step, scored in this process."""
    reference, (text, *_) = vf.answers(np.random.default_rng(3))
    return compute_score("scenes", text, reference, FIRST, **options)


def test_a_run_that_is_started_again_begins_anew(tmp_path: Path) -> None:
    """Whatever an older run left in the folder; with `resume` it goes on with that."""
    end_window()
    metrics = list(rr.Recipe.load("dr_seg").accuracy.metrics)
    assert pay(folder=str(tmp_path))["rankreward/error"] == ""
    window = RayQuantileService.attach(window_name())
    window.push([[0.5] * len(metrics)])
    window.flush(1)
    for resume, size, step in ((True, 130, 1), (False, 128, None)):
        end_window()
        adapter._made.clear()  # as in a new process
        paid = pay(folder=str(tmp_path), resume=resume)
        assert paid["rankreward/error"] == ""
        window = RayQuantileService.attach(window_name())
        assert (window.size, window.step, window.pending) == (size, step, 1)


def test_a_window_that_could_not_be_made_is_tried_again(tmp_path: Path) -> None:
    """By the next call; one error for ever would cost the run what a moment's trouble was."""
    end_window()
    blocked = tmp_path / "folder"
    blocked.write_text("in the way")
    lost = pay(folder=str(blocked))
    assert "Error: " in lost["rankreward/error"]
    blocked.unlink()
    end_window()
    assert pay(folder=str(blocked))["rankreward/error"] == ""


def test_calls_that_waited_share_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a hundred of them would wait for the window one after another."""
    tried, begin = [], threading.Barrier(4)

    def fail(settings: Any) -> Exception:
        tried.append(settings)
        time.sleep(1.0)
        return rr.StateError("no window")

    def call(_: int) -> Any:
        begin.wait()
        return pay(folder=str(tmp_path))["rankreward/error"]

    monkeypatch.setattr(adapter, "_make", fail)
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(call, range(4))) == {"StateError: no window"}
    assert len(tried) == 1
    pay(folder=str(tmp_path))
    assert len(tried) == 2
