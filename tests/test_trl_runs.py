"""Whole runs with TRL's released trainer: resume, LoRA, several rewards, its log, and faults."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from peft import LoraConfig
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import BATCH, rows, trainer
from transformers import TrainerCallback, TrainerState
from trl.experimental.async_grpo import async_rollout_worker
from trl.rewards import think_format_reward

import rankreward as rr
from policy import RECIPE, load
from rankreward.adapters.trl import RankReward
from rankreward.rewards.figures import CODES

# TRL and PyTorch warn of their own deprecations; what this library does raises all the same.
pytestmark = pytest.mark.filterwarnings(
    "ignore::Warning:(trl|transformers|torch|accelerate|peft|tensorboard).*"
)


class Notes:
    """Writes down what a scorer is given and what it pays."""

    def __init__(self, scorer: rr.Scorer) -> None:
        self.calls: list[tuple[list[str], list[float]]] = []
        self._score = scorer.score
        scorer.score = self  # type: ignore[method-assign, assignment]

    def __call__(self, texts: Any, *rest: Any, **keywords: Any) -> rr.RewardBatch:
        batch = self._score(texts, *rest, **keywords)
        self.calls.append((list(texts), batch.total.tolist()))
        return batch


def run(out: Path, steps: int, resume: int | None = None, **options: Any) -> Notes:
    """Train; a resumed run gets its weights from the checkpoint, which transformers leaves out."""
    reward = RankReward(RECIPE)
    notes = Notes(reward.scorer)
    made = trainer(
        out, reward, max_steps=steps, save_strategy="steps", save_steps=2,
        learning_rate=1e-3, lr_scheduler_type="constant", **options,
    )  # fmt: skip
    if resume is None:
        made.train()
    else:
        checkpoint = out / f"checkpoint-{resume}"
        made.model.load_state_dict(load(weights=checkpoint)[0].state_dict())
        made.train(resume_from_checkpoint=str(checkpoint))
    return notes


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path) -> None:
    """The same completions come again after a resume, and are paid the same to the last bit."""
    unbroken = run(tmp_path / "a", 4)
    run(tmp_path / "b", 2)
    resumed = run(tmp_path / "b", 4, resume=2)
    assert [texts for texts, _ in resumed.calls] == [texts for texts, _ in unbroken.calls[2:]]
    assert [paid for _, paid in resumed.calls] == [paid for _, paid in unbroken.calls[2:]]
    fresh = rr.Scorer(RECIPE)
    assert any(
        fresh.score(texts, ["[]"] * len(texts)).total.tolist() != paid
        for texts, paid in resumed.calls
    )


class Evaluates(TrainerCallback):
    """Evaluates in the middle of things, before the reward's own callback hears of them."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.evaluate()


def test_evaluation_at_any_time_enters_no_window(tmp_path: Path) -> None:
    """Before the step's end is told, and after a step that was broken off."""
    reward, evaluates = RankReward(RECIPE), Evaluates()
    options = {"eval_dataset": rows(4, split="eval"), "per_device_eval_batch_size": BATCH}
    made = trainer(
        tmp_path, reward, callbacks=[evaluates, reward.callback()], max_steps=2, **options
    )
    evaluates.trainer = made
    made.train()
    assert reward.scorer.quantiles.size == 128 + 2 * BATCH

    class Break(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    reward = RankReward(RECIPE)
    broken = Break()
    made = trainer(tmp_path, reward, callbacks=[reward.callback(), broken], max_steps=1, **options)
    with pytest.raises(KeyboardInterrupt):
        made.train()
    assert reward.scorer.quantiles.pending == BATCH
    made.evaluate()
    assert reward.scorer.quantiles.pending == BATCH
    made.remove_callback(broken)
    made.train()  # from the start, without the rows of the broken step
    assert reward.scorer.quantiles.size == 128 + BATCH


class Logs(TrainerCallback):
    """Logs something of its own as training begins and when it is saved."""

    trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.log({"setup/rows": 16.0})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.log({"setup/saved": 1.0})


def test_what_other_callbacks_log_does_not_stand_in_the_way_of_a_resume(tmp_path: Path) -> None:
    """A run is told by its own losses."""
    for steps, resume in ((1, None), (2, str(tmp_path / "checkpoint-1"))):
        reward, logs = RankReward(RECIPE), Logs()
        made = trainer(
            tmp_path, reward, callbacks=[logs, reward.callback()], max_steps=steps,
            save_strategy="steps", save_steps=1,
        )  # fmt: skip
        logs.trainer = made
        made.train(resume_from_checkpoint=resume)
        assert reward.scorer.quantiles.size == 128 + steps * BATCH


def test_a_window_from_the_future_is_no_window_to_resume_with(tmp_path: Path) -> None:
    """One loaded by hand must not be of a later step than the checkpoint."""
    first = RankReward(RECIPE)
    trainer(tmp_path, first, max_steps=2, save_strategy="steps", save_steps=1).train()
    (tmp_path / "checkpoint-1" / "rankreward.npz").unlink()
    second = RankReward(RECIPE)
    second.scorer.load(tmp_path / "checkpoint-2" / "rankreward.npz")
    made = trainer(tmp_path, second, max_steps=2)
    with pytest.raises(rr.StateError, match="resuming at step 1, expected the window in"):
        made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_second_reward_of_ours_is_refused(tmp_path: Path) -> None:
    """Two would share a file in each checkpoint; said when the trainer is made."""
    first, second = RankReward(RECIPE), RankReward("vision_reasoner")
    callbacks = [first.callback(), second.callback()]
    with pytest.raises(rr.StateError, match="expected one RankReward a trainer, got two"):
        trainer(tmp_path, first, funcs=[first, second], callbacks=callbacks)


@pytest.mark.parametrize(
    ("recipe", "told"), [(RECIPE, False), ("dr_seg", True), ("genseg_r1", False)]
)
def test_images_of_another_size_than_the_frame_are_told(
    recipe: str | rr.Recipe, told: bool
) -> None:
    """Places in pixels of another image would be scored without a word; a grid fits any."""
    columns = {"solution": ["[]"] * 2, "image": [Image.new("RGB", (84, 84))] * 2}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reward = RankReward(recipe)
        for _ in range(2):
            reward(["x"] * 2, **columns)
    assert [str(each.message).partition(":")[0] for each in caught] == ["images"] * told


def test_one_rank_writes_the_window(tmp_path: Path) -> None:
    """All have the same; the trainer says which of them saves."""

    class Arguments:
        should_save, output_dir, world_size = False, str(tmp_path), 1

    state = TrainerState(global_step=1)
    (tmp_path / "checkpoint-1").mkdir()
    callback = RankReward("dr_seg").callback()
    for saves in (False, True):
        Arguments.should_save = saves
        callback.on_save(Arguments, state, None)
        assert (tmp_path / "checkpoint-1" / "rankreward.npz").exists() is saves


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms.look.weight": 2.0}, None),
        ({"accuracy.normalizer.window": 512}, r"accuracy.normalizer.window 512, got 2048"),
        ({"accuracy.normalizer.ties": "mid"}, r"ties 'mid', got 'weak'"),
        ({"accuracy.metrics.count": None}, "expected accuracy.metrics"),
    ],
)
def test_resume_with_another_recipe(
    tmp_path: Path, changes: dict[str, Any], message: str | None
) -> None:
    """Another window or other metrics are refused by name; other weights leave the window as is."""
    first = RankReward(RECIPE)
    trainer(tmp_path, first, max_steps=1, save_strategy="steps", save_steps=1).train()
    second = RankReward(RECIPE.override(changes))
    made = trainer(tmp_path, second, max_steps=2)
    if message is None:
        made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
        assert second.scorer.quantiles.size == 128 + 2 * BATCH
        return
    with pytest.raises(rr.CheckpointError, match=message) as caught:
        made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert "rankreward.npz" in str(caught.value)
    assert "resume with the recipe of that run, or begin a new run" in str(caught.value)


def test_a_full_disk_stops_the_run_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before stays whole, the half one is named, and the run can go on from it."""
    reward = RankReward(RECIPE)
    made = trainer(tmp_path, reward, max_steps=3, save_strategy="steps", save_steps=1)
    real = np.savez

    def full(file: Any, **arrays: Any) -> None:
        real(file, **arrays)
        if "checkpoint-2" in file.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)

    monkeypatch.setattr("rankreward.quantiles.checkpoint.np.savez", full)
    with pytest.raises(OSError, match="No space left") as caught:
        made.train()
    notes = " ".join(caught.value.__notes__)
    assert "checkpoint-2/rankreward.npz was not written" in notes
    assert "checkpoint-2 has no window" in notes
    assert not list((tmp_path / "checkpoint-2").glob("*rankreward*"))
    monkeypatch.setattr("rankreward.quantiles.checkpoint.np.savez", real)
    again = RankReward(RECIPE)
    trainer(tmp_path, again, max_steps=3).train(str(tmp_path / "checkpoint-1"))
    assert again.scorer.quantiles.size == 128 + 3 * BATCH


def test_lora(tmp_path: Path) -> None:
    """With adapters instead of whole weights nothing is different, resume included."""
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    for steps, resume in ((2, None), (3, str(tmp_path / "checkpoint-2"))):
        reward = RankReward(RECIPE)
        made = trainer(
            tmp_path, reward, max_steps=steps, save_strategy="steps", save_steps=2,
            peft_config=config,
        )  # fmt: skip
        made.train(resume_from_checkpoint=resume)
        assert reward.scorer.quantiles.size == 128 + steps * BATCH
    assert (tmp_path / "checkpoint-2" / "adapter_model.safetensors").exists()


def brevity(completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
    """A reward beside ours, which has nothing to say of every other answer."""
    return [None if i % 2 else -len(ids) / 100 for i, ids in enumerate(completion_ids)]


async def later(completions: list[Any], **columns: Any) -> list[float]:
    """A reward that is awaited."""
    return [0.25] * len(completions)


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_beside_other_rewards(tmp_path: Path, aggregation: str) -> None:
    """Functions of the user's, of TRL's, and coroutines work beside it, summed or each by itself."""
    reward = RankReward(RECIPE)
    made = trainer(
        tmp_path, reward, max_steps=2, funcs=[reward, brevity, later, think_format_reward],
        reward_weights=[1.0, 0.5, 0.25, 1.0], multi_objective_aggregation=aggregation,
    )  # fmt: skip
    made.train()
    log = next(entry for entry in made.state.log_history if "reward" in entry)
    assert log["rewards/later/mean"] == pytest.approx(0.25)
    total = sum(value for name, value in log.items() if name.startswith("rankreward/term/"))
    assert log["rewards/dr_seg/mean"] == pytest.approx(total, abs=1e-5)
    assert reward.scorer.quantiles.size == 128 + 2 * BATCH


def test_what_the_log_shows(tmp_path: Path) -> None:
    """Every figure of `rankreward.rewards.figures` reaches the trainer's tracker, and none is NaN."""
    reward = RankReward(RECIPE)
    logs = tmp_path / "logs"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs)
    try:
        made = trainer(
            tmp_path, reward, max_steps=3, report_to=["tensorboard"], eval_strategy="steps",
            eval_steps=1, eval_dataset=rows(4, split="eval"), per_device_eval_batch_size=BATCH,
        )  # fmt: skip
        made.train()
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]
    events = EventAccumulator(str(logs)).Reload()
    tags = {tag.removeprefix("train/") for tag in events.Tags()["scalars"]}
    metrics = ("iou", "count", "point")
    kinds = ("raw", "raw_std", "rank", "variance_share", "rank_variance_share", "ties")
    expected = {f"rankreward/{kind}/{name}" for kind in kinds for name in metrics}
    expected |= {f"rankreward/failure/{code}" for code in CODES}
    expected |= {f"rankreward/window/{name}" for name in ("size", "added", "evicted", "flushes")}
    expected |= {"rankreward/failures", "rankreward/seconds", "rankreward/term/look"}
    expected |= {
        "entropy",
        "completions/mean_length",
    }  # the trainer's own, for the paper's figure 3
    assert expected <= tags
    assert "eval/rankreward/raw/iou" in events.Tags()["scalars"]
    for tag in expected & tags:
        assert all(np.isfinite(event.value) for event in events.Scalars(f"train/{tag}")), tag
    sizes = [event.value for event in events.Scalars("train/rankreward/window/size")]
    assert sizes == [128, 128 + BATCH, 128 + 2 * BATCH]  # those that the ranks were taken in
    flushes = [event.value for event in events.Scalars("train/rankreward/window/flushes")]
    assert flushes == [0, 1, 2]


def test_the_completions_table_can_be_scored_again(tmp_path: Path) -> None:
    """TRL's table has each rollout's reference and group, and scoring it gives the run's rewards."""
    reward = RankReward(RECIPE)
    made = trainer(
        tmp_path, reward, max_steps=3, log_completions=True, num_completions_to_print=0
    )  # fmt: skip
    made.train()
    again = rr.Scorer(RECIPE)
    for step in (1, 2, 3):
        table = pyarrow.parquet.read_table(tmp_path / f"completions/completions_{step:05d}.parquet")
        rows = table.to_pydict()
        texts = [message[0]["content"] for message in rows["completion"]]
        batch = again.score(texts, rows["reference"])
        assert batch.total == pytest.approx(rows["dr_seg"])
        assert rows["step"] == [step] * BATCH
        size = made.args.num_generations
        assert rows["group"] == [index // size for index in range(BATCH)]
        again.flush(step)


def test_the_async_trainer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's asynchronous trainer scores in a child process; its first start says what to use."""
    for package in ("vllm", "aiohttp"):  # not installed here
        monkeypatch.setattr(async_rollout_worker, f"is_{package}_available", lambda: True)
    reward = RankReward("dr_seg")
    worker = async_rollout_worker.AsyncRolloutWorker(reward_funcs=[reward])
    with pytest.raises(rr.StateError, match=r"cannot go to another process.*Use GRPOTrainer"):
        worker.start()
