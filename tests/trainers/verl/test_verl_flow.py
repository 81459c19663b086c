"""Through verl's real V1 data flow: two reward workers, TransferQueue, the replay buffers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import transfer_queue as tq
import verl_flow as vf
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.utils import MetricsAggregator
from verl_manager import make, score

import rankreward as rr
from rankreward.quantiles.ray import RayQuantileService
from rankreward.rewards.figures import batch_log


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def flow(tokenizer: str, output: Path) -> Iterator[vf.Flow]:
    config = vf.compose(
        *vf.MANAGER,
        *vf.BUFFER,
        *vf.CALLBACK,
        "+rankreward.recipe=dr_seg",
        tokenizer=tokenizer,
        output=output,
    )
    vf.start_ray()
    tq.init(config.transfer_queue)

    flow = vf.Flow(config, tokenizer)
    flow.callback = build_checkpoint_callback(config)  # verl's trainer makes it first of all
    yield flow.start()
    tq.close()
    ray.shutdown()


@pytest.fixture(scope="module")
def twin() -> rr.Scorer:
    """One scorer in this process, which is fed the same rows and steps."""
    return rr.Scorer("dr_seg")


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def window(flow: vf.Flow) -> RayQuantileService:
    return flow.callback._scorer.quantiles


def compare(rows: list[vf.Row], twin: rr.Scorer, *, record: bool) -> rr.RewardBatch:
    """What the trainer found is what the twin pays, to the last bit of a float32."""
    batch = twin.score([r.text for r in rows], [r.reference for r in rows], record=record)
    assert [row.score for row in rows] == batch.total.astype(np.float32).tolist()
    for kind, columns in (("raw", batch.raw), ("rank", batch.ranks), ("term", batch.terms)):
        for name, values in columns.items():
            got = [row.info[f"rankreward/{kind}/{name}"] for row in rows]
            assert got == [None if math.isnan(v) else v for v in values.tolist()], (kind, name)
    codes = [row.info["rankreward/failure"] for row in rows]
    assert codes == ["" if f is None else f.code for f in batch.failures]
    return batch


def test_steps_and_validation(flow: vf.Flow, twin: rr.Scorer, rng: np.random.Generator) -> None:
    """Three steps, with validation between: rewards and windows are those of one process,
    validation enters nothing, and the log has the names and figures of every trainer's."""
    malformed = 0
    for step in (1, 2, 3):
        rows, log = flow.run(step, vf.batch_of(rng))
        assert len(rows) == 16
        batch = compare(rows, twin, record=True)
        stats = twin.flush(step)
        assert window(flow).rows.tobytes() == twin.quantiles.rows.tobytes()
        assert window(flow).step == step
        failures = [None if f is None else f.code for f in batch.failures]
        expected = batch_log(batch.raw, batch.ranks, batch.terms, failures)
        assert {name: log[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert log["rankreward/failures"] == sum(map(bool, failures)) / 16
        assert log["rankreward/window/size"] == stats.size - 16  # in which they were ranked
        assert (log["rankreward/window/added"], log["rankreward/window/flushes"]) == (16.0, step)
        assert log["rankreward/errors"] == 0
        assert 0 < log["rankreward/seconds"] < 10
        assert len({tuple(row.info) for row in rows}) == 1  # the same keys, in the same order
        validation, log = flow.run(step, vf.batch_of(rng, count=1), split="val")
        assert (len(validation), log) == (4, {})
        compare(validation, twin, record=False)
        assert window(flow).pending == 0
        malformed += sum(map(bool, failures))
    assert malformed > 0


def test_the_aggregator_keeps_every_figure(flow: vf.Flow, rng: np.random.Generator) -> None:
    """What the buffer returns reaches the tracker under its name, unchanged."""
    _, log = flow.run(3, vf.batch_of(rng))
    aggregator = MetricsAggregator()
    aggregator.add_step_metrics(log, sample_count=16)
    assert aggregator.get_aggregated_metrics() == log


def test_validation_metrics_of_verl(flow: vf.Flow, rng: np.random.Generator) -> None:
    """verl's own means over validation take our keys, texts and undefined values included."""
    batch = {**vf.batch_of(rng, count=1), "q-9": ("[]", ["<think>a</think><answer>[]</answer>"])}
    rows, _ = flow.run(3, batch, split="val")
    assert any(row.info["rankreward/raw/iou"] is None for row in rows)
    infos = {key: [row.info[key] for row in rows] for key in rows[0].info}
    uids = [str(n) for n in range(len(rows))]
    result = process_validation_metrics(["scenes"] * len(rows), uids, infos)["scenes"]
    defined = [v for v in infos["rankreward/raw/iou"] if v is not None]
    assert result["rankreward/raw/iou"]["mean@1"] == pytest.approx(np.mean(defined))
    assert "rankreward/failure" not in result


def follow(twin: rr.Scorer, flow: vf.Flow) -> None:
    """End the step that is open, and let the twin go on from the window as it is then."""
    window(flow).flush(window(flow).state_dict()["open"])
    state = window(flow).state_dict()
    twin.quantiles.load_state_dict({key: state[key] for key in state if key != "open"})


def test_a_bad_reference_costs_itself_alone(
    flow: vf.Flow, twin: rr.Scorer, rng: np.random.Generator
) -> None:
    """Its rollouts get 0, an error and a count; verl loses none, and they enter no window."""
    follow(twin, flow)
    batch = vf.batch_of(rng)
    batch["q-2"] = ("not a reference", batch["q-2"][1])
    rows, log = flow.run(4, batch)
    assert len(rows) == 16
    bad = [row for row in rows if row.reference == "not a reference"]
    good = [row for row in rows if row.reference != "not a reference"]
    assert (len(bad), log["rankreward/errors"], log["rankreward/window/added"]) == (4, 4.0, 12.0)
    assert all(row.info["rankreward/error"].startswith("BadReferenceError: ") for row in bad)
    assert {row.score for row in bad} == {0.0}
    assert {tuple(row.info) for row in bad} == {tuple(row.info) for row in good}
    compare(good, twin, record=True)
    twin.flush(4)
    assert window(flow).rows.tobytes() == twin.quantiles.rows.tobytes()


def test_a_batch_without_any_reward_stops_the_run(flow: vf.Flow, rng: np.random.Generator) -> None:
    """An error, with the first one's text, comes out of the trainer's own call."""
    before = window(flow).rows.tobytes()
    batch = {name: ("{", texts) for name, (_, texts) in vf.batch_of(rng).items()}
    flow.submit(5, batch)
    with pytest.raises(rr.StateError, match=r"16 of 16 rollouts .* BadReferenceError: reference"):
        flow.collect(5, 4)
    clear(flow)
    assert window(flow).rows.tobytes() == before


def test_validation_without_any_reward_stops_the_run(
    flow: vf.Flow, rng: np.random.Generator
) -> None:
    """Its mean would be a 0 that nobody measured."""
    batch = {name: ("{", texts) for name, (_, texts) in vf.batch_of(rng, count=1).items()}
    flow.submit(5, batch, "val")
    with pytest.raises(rr.StateError, match=r"4 of 4 rollouts .* BadReferenceError: reference"):
        flow.collect(5, 4, "val")
    clear(flow)


def clear(flow: vf.Flow) -> None:
    """Drop what a trainer that stopped leaves in the queue."""
    for part, keys in (tq.kv_list() or {}).items():
        if keys:
            tq.kv_clear(keys=list(keys), partition_id=part)


def test_steps_end_without_our_buffer(
    flow: vf.Flow, twin: rr.Scorer, rng: np.random.Generator
) -> None:
    """With verl's own buffer a step ends when the first rollout of a later one is scored."""
    plain = ReplayBuffer(
        trainer_mode="sync",
        trainer_config=flow.config.trainer.v1.sync,
        max_off_policy_threshold=1,
        max_off_policy_strategy="drop",
        sampler_kwargs={},
        poll_interval=0.02,
    )
    follow(twin, flow)
    for step in (6, 7, 8):
        rows, log = flow.run(step, vf.batch_of(rng), buffer=plain)
        assert log == {}
        compare(rows, twin, record=True)
        assert window(flow).rows.tobytes() == twin.quantiles.rows.tobytes()  # not yet
        assert window(flow).pending == 16
        twin.flush(step)


def test_the_asynchronous_buffer_ends_a_step_once(
    flow: vf.Flow, twin: rr.Scorer, rng: np.random.Generator
) -> None:
    """Where the trainer samples several times a step the window moves at the first; what comes
    later enters with the next step."""
    follow(twin, flow)
    name = "trainer.v1.sampler.custom_sampler.name=RankRewardReplayBufferAsync"
    mode = "trainer.v1.trainer_mode=separate_async"
    output = Path(flow.config.trainer.default_local_dir)
    buffer = vf.build_buffer(
        vf.compose(*vf.BUFFER[:1], name, mode, tokenizer=flow.tokenizer, output=output)
    )
    before = window(flow).size
    flow.submit(9, vf.batch_of(rng))
    vf.wait_for(lambda: window(flow).pending == 16)
    rows, log = flow.collect(9, 2, buffer=buffer)
    assert (len(rows), log["rankreward/window/added"], window(flow).size) == (8, 16.0, before + 16)
    assert log["rankreward/window/size"] == before
    compare(rows, twin, record=False)
    window(flow).push([[0.5, 0.5, 0.5]])  # a rollout that was late
    rest, log = flow.collect(9, 2, buffer=buffer)
    assert (len(rest), log["rankreward/window/flushes"], window(flow).pending) == (8, 1.0, 1)
    compare(rest, twin, record=False)


def test_an_actor_killed_in_mid_step(
    flow: vf.Flow, twin: rr.Scorer, rng: np.random.Generator
) -> None:
    """No acknowledged row is lost or doubled, and no rollout gets 0, though it dies twice."""
    follow(twin, flow)
    actor = window(flow)._actor
    flow.submit(10, vf.batch_of(rng, prompts=8))
    vf.wait_for(lambda: window(flow).pending > 0)
    for _ in range(2):
        life = process(actor)
        ray.kill(actor, no_restart=False)
        vf.wait_for(lambda life=life: process(actor) != life)
    rows, log = flow.collect(10, 8)
    assert (len(rows), log["rankreward/errors"]) == (32, 0.0)
    compare(rows, twin, record=True)
    twin.flush(10)
    assert window(flow).rows.tobytes() == twin.quantiles.rows.tobytes()


def process(actor: Any) -> int | None:
    """The actor's process; None while it has none."""
    try:
        return ray.get(actor.identity.remote(), timeout=30)[0]["process"]
    except ray.exceptions.RayActorError:
        return None


def test_resumed_runs_are_the_same_run(
    flow: vf.Flow, twin: rr.Scorer, rng: np.random.Generator, output: Path, tokenizer: str
) -> None:
    """A checkpoint is saved, the run goes on a step and is lost; a new Ray scores the same
    completions from the checkpoint bit for bit as a run that was never interrupted."""
    follow(twin, flow)
    folder = output / "global_step_10"
    folder.mkdir()
    flow.callback.on_save(SimpleNamespace(), 10, str(folder), async_save=False)
    (output / "latest_checkpointed_iteration.txt").write_text("10")
    rows, _ = flow.run(11, vf.batch_of(rng))  # after the checkpoint: the window moves on
    flow.stop()
    ray.shutdown()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    manager = make(flow.config, tokenizer)
    paid = score(manager, [(row.text, row.reference) for row in rows], step=11)
    batch = twin.score([row.text for row in rows], [row.reference for row in rows])
    assert [each["reward_score"] for each in paid] == batch.total.tolist()
    assert [row.score for row in rows] == batch.total.astype(np.float32).tolist()
