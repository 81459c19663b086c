"""verifiers 0.4: the example as a taskset that its own loader finds and its own `Task` scores."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import verifiers.v1 as vf
from builders import G1, entry, wrap
from verifiers.v1.utils import loaders

import rankreward as rr

PLUGINS = Path(__file__).parents[3] / "examples" / "plugins"
ANSWERS = [wrap([entry([100, 100, x, 300], [200, 200])]) for x in (300, 250, 200, 150)]
ANSWERS[3] = "no answer"


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the tasks of the example, new each time, as the command line would."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.delitem(sys.modules, "verifiers_env", raising=False)
    rows = tmp_path / "rows.jsonl"
    row = {"prompt": "Find the cup.", "reference": json.dumps(G1)}
    rows.write_text("\n".join([json.dumps(row)] * len(ANSWERS)), encoding="utf-8")

    def make(rows_per_step: int) -> list[Any]:
        config = loaders.taskset_config_type("verifiers_env").model_validate(
            {"id": "verifiers_env", "rows": rows, "task": {"rows_per_step": rows_per_step}}
        )
        return list(loaders.load_taskset(config))

    return make


def trace_of(task: Any, text: str, thought: str | None = None) -> Any:
    """A finished rollout, as the interception server leaves it."""
    message = vf.AssistantMessage(content=text, reasoning_content=thought)
    return vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        nodes=[vf.MessageNode(message=message, sampled=True)],
    )


def score(tasks: list[Any]) -> list[Any]:
    """All rollouts of a step at once, as an environment's worker does."""
    traces = [trace_of(task, text) for task, text in zip(tasks, ANSWERS, strict=True)]

    async def all_of_them() -> None:
        await asyncio.gather(
            *(task.score(trace) for task, trace in zip(tasks, traces, strict=True))
        )

    asyncio.run(all_of_them())
    return traces


def test_a_step_is_its_rollouts_and_its_rewards_are_a_plain_scorers(tasks: Any) -> None:
    """Over three steps, scored one by one, the rewards are those of whole batches."""
    plain = rr.Scorer("dr_seg")
    training = tasks(len(ANSWERS))
    for step in (1, 2, 3):
        traces = score(training)
        expected = plain.score(ANSWERS, [G1] * len(ANSWERS))
        assert plain.flush(step).added == len(ANSWERS)
        assert np.allclose([trace.reward for trace in traces], expected.total, atol=1e-12)
        for row, trace in enumerate(traces):
            assert {name: reward.value for name, reward in trace.rewards.items()} == {
                name: values[row] for name, values in expected.terms.items()
            }
            assert trace.metrics["raw/iou"] == expected.raw["iou"][row]
    window = sys.modules["verifiers_env"].scorer.quantiles
    assert window.step == 3
    assert np.array_equal(window.rows, plain.quantiles.rows)


def test_an_evaluation_leaves_the_window_alone(tasks: Any) -> None:
    """Without `rows_per_step` nothing is recorded, and rewards are ranks in the training window."""
    training, evaluation = tasks(len(ANSWERS)), tasks(0)
    score(training)
    window = sys.modules["verifiers_env"].scorer.quantiles
    before = window.rows
    first, second = score(evaluation), score(evaluation)
    assert window.pending == 0
    assert np.array_equal(window.rows, before)
    assert [trace.reward for trace in first] == [trace.reward for trace in second]


def test_a_thought_that_the_server_took_out_is_put_back(tasks: Any) -> None:
    """The think block is paid for wherever the server leaves it."""
    task = tasks(0)[0]
    whole = trace_of(task, ANSWERS[0])
    thought, _, answer = ANSWERS[0].removeprefix("<think>").partition("</think>")
    split = trace_of(task, answer, thought)
    for trace in (whole, split):
        asyncio.run(task.score(trace))
    assert split.reward == whole.reward == pytest.approx(5.0)


def test_a_broken_reference_is_an_error_of_the_rollout(tasks: Any) -> None:
    """It reaches verifiers as a TaskError that names the cause, and no reward is left behind."""
    task = tasks(0)[0].with_data(reference="[{]")
    trace = trace_of(task, ANSWERS[0])
    with pytest.raises(vf.TaskError) as caught:
        asyncio.run(task.score(trace))
    assert isinstance(caught.value.__cause__, rr.BadReferenceError)
    assert trace.rewards == {"rankreward": None}
