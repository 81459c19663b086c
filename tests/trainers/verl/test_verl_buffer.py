"""The replay buffer in the driver, where verl's own gives it a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transfer_queue as tq
import verl_flow as vf
import yaml
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl_manager import (
    CALLBACK,
    make,
    rows_of,
    score,
    window_of,
)

import rankreward as rr

pytestmark = pytest.mark.usefixtures("cluster", "no_window_left")


def sample(
    buffer: Any,
    paid: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: int = 1,
    part: str = "train",
    keys: list[str] | None = None,
) -> dict[str, Any]:
    """What our buffer logs where verl's gives it these rollouts."""
    keys = [f"u_{place}_0" for place in range(len(paid))] if keys is None else keys
    batch = SimpleNamespace(keys=keys, partition_id=part)
    fields = {"extra_fields": [{"reward_extra_info": each["reward_extra_info"]} for each in paid]}
    monkeypatch.setattr(ReplayBuffer, "sample", lambda self, **options: (batch, {}))
    monkeypatch.setattr(tq, "kv_batch_get", lambda **options: fields)
    return buffer.sample(global_steps=step, partition_id=part, batch_size=1)[1]


def test_a_session_of_several_sequences_counts_once(
    configure: Callable[..., Any], tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent's session may end in several sequences with one reward; the last one says it."""
    manager, rows = make(configure(), tokenizer), rows_of(19)[:4]
    paid = score(manager, rows)
    keys = ["a_0_0", "a_0_1", "a_1_0", "b_0_0"]
    log = sample(vf.build_buffer(configure(*vf.BUFFER)), paid, monkeypatch, keys=keys)
    first, *infos = [each["reward_extra_info"] for each in paid]
    assert first["rankreward/raw/iou"] != infos[0]["rankreward/raw/iou"]
    for key in ("rankreward/raw/iou", "rankreward/rank/iou"):
        assert log[key] == pytest.approx(np.mean([info[key] for info in infos]))
    assert log["rankreward/seconds"] == sum(info["rankreward/seconds"] for info in infos)


def test_the_size_in_the_log_is_that_of_the_window_the_ranks_were_taken_in(
    configure: Callable[..., Any],
    tokenizer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the step's rows entered it and others left it; also for a second batch of a step."""
    recipe = rr.Recipe.load("dr_seg").override({"accuracy.normalizer.window": 136})
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(recipe.to_dict()))
    manager = make(configure(recipe=path), tokenizer)
    buffer = vf.build_buffer(configure(*vf.BUFFER))
    logs = []
    for step in (1, 2, 2):
        paid = score(manager, rows_of(step), step=step)
        logs.append(sample(buffer, paid, monkeypatch, step=step))
    names = [f"rankreward/window/{name}" for name in ("size", "added", "evicted", "flushes")]
    told = [[log[name] for name in names] for log in logs]
    assert told == [[128, 16, 8, 1], [136, 16, 16, 2], [136, 16, 16, 2]]
    assert window_of(manager).size == 136


def test_validation_that_cannot_be_scored_stops_the_run(
    configure: Callable[..., Any], tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As training does; validation that can be scored flushes nothing and logs nothing."""
    manager, buffer = make(configure(), tokenizer), vf.build_buffer(configure(*vf.BUFFER))
    score(manager, rows_of(14))
    extra = {"split": "val"}
    fine = score(manager, rows_of(15), extra_info=extra)
    assert sample(buffer, fine, monkeypatch, part="val") == {}
    assert (window_of(manager).pending, window_of(manager).step) == (16, None)
    broken = score(manager, [("x", "{")] * 4, extra_info=extra)
    with pytest.raises(rr.StateError, match="4 of 4 rollouts could not be scored"):
        sample(buffer, broken, monkeypatch, part="val")
    others = [{"reward_extra_info": {"acc": 1.0}}]
    with pytest.raises(rr.StateError, match="got those of another reward"):
        sample(buffer, others, monkeypatch, part="val")


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_driver_waits_for_the_window_as_long_as_it_is_told(
    configure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The buffer by `sampler_kwargs`, the callback by the section `rankreward`."""
    wait = "+trainer.v1.sampler.sampler_kwargs.timeout=0.25"
    buffer = vf.build_buffer(configure(*vf.BUFFER, wait))
    with pytest.raises(rr.StateError, match=r"none within 0\.25 s.*the reward workers make it"):
        sample(buffer, [], monkeypatch, part=part)
    name = f"trainer.checkpoint_callback_class={CALLBACK}"
    callback = build_checkpoint_callback(configure(name, "+rankreward.timeout=7"))
    assert callback._scorer.quantiles._timeout == 7


def test_rewards_of_others_are_not_taken_for_ours(
    configure: Callable[..., Any], tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our buffer beside another reward says what to configure."""
    manager = make(configure(), tokenizer)
    buffer = vf.build_buffer(configure(*vf.BUFFER))
    batch = SimpleNamespace(keys=["u_0_0"], partition_id="train")
    monkeypatch.setattr(ReplayBuffer, "sample", lambda self, **options: (batch, {}))
    others = {"extra_fields": [{"reward_extra_info": {"acc": 1.0}}]}
    monkeypatch.setattr(tq, "kv_batch_get", lambda **options: others)
    with pytest.raises(rr.StateError, match="got those of another reward; configure reward"):
        buffer.sample(global_steps=1, partition_id="train", batch_size=1)
    assert window_of(manager).step is None
