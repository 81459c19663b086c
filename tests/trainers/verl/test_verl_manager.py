"""The manager and the callback, made and called by verl's own functions in one process."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import transfer_queue as tq
import verl_flow as vf
import yaml
from builders import wrap
from hydra.errors import ConfigCompositionException
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl_manager import data, make, score, score_data

import rankreward as rr
from rankreward.adapters.verl_rewards import stop_reason
from rankreward.adapters.verl_window import window_name
from rankreward.quantiles.ray import NAMESPACE, RayQuantileService

CALLBACK = "rankreward.adapters.verl.RankRewardCheckpoint"


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def configure(tokenizer: str, tmp_path: Path) -> Callable[..., Any]:
    def configure(*overrides: str, recipe: object = "dr_seg") -> Any:
        section = [f"+rankreward.recipe={recipe}"]
        return vf.compose(
            *vf.MANAGER, *section, *overrides, tokenizer=tokenizer, output=tmp_path / "run"
        )

    return configure


@pytest.fixture(autouse=True)
def _no_window_left() -> Iterator[None]:
    yield
    end_window()


def end_window() -> None:
    """As the end of a job does."""

    def gone() -> bool:
        try:
            ray.kill(ray.get_actor(window_name(), namespace=NAMESPACE), no_restart=True)
        except ValueError:
            return True
        return False

    vf.wait_for(gone)


def rows_of(seed: int, prompts: int = 4) -> list[tuple[str, str]]:
    batch = vf.batch_of(np.random.default_rng(seed), prompts)
    return [(text, reference) for reference, texts in batch.values() for text in texts]


def totals(paid: list[dict[str, Any]]) -> list[float]:
    return [each["reward_score"] for each in paid]


def expected(scorer: rr.Scorer, rows: list[tuple[str, str]], **options: Any) -> list[float]:
    return scorer.score([t for t, _ in rows], [r for _, r in rows], **options).total.tolist()


def window_of(manager: Any) -> RayQuantileService:
    return manager._rewards.scorer.quantiles


# -- configuration ----------------------------------------------------------------------------


def test_a_typing_error_in_the_configuration_is_an_error(
    configure: Callable[..., Any], tokenizer: str, tmp_path: Path
) -> None:
    """hydra refuses keys that verl does not have, and we those that we do not have."""
    for wrong in ("rankreward.recipe=dr_seg", "trainer.checkpoint_callback_clas=x"):
        with pytest.raises(ConfigCompositionException):
            vf.compose(wrong, tokenizer=tokenizer, output=tmp_path)
    with pytest.raises(rr.ConfigError, match=r"rankreward\.recpie: expected one of recipe, folder"):
        make(configure("+rankreward.recpie=dr_seg"), tokenizer)
    with pytest.raises(rr.ConfigError, match=r"add for example \+rankreward\.recipe=dr_seg"):
        make(vf.compose(*vf.MANAGER, tokenizer=tokenizer, output=tmp_path), tokenizer)
    with pytest.raises(rr.ConfigError, match="dr_sge"):
        make(configure(recipe="dr_sge"), tokenizer)


@pytest.mark.parametrize(
    ("recipe", "what"),
    [("grpo_care", "the other answers"), ("dpad", "images"), ("sam_r1", "images")],
)
def test_what_verl_does_not_give_is_said_at_once(
    configure: Callable[..., Any], tokenizer: str, recipe: str, what: str
) -> None:
    """When the manager is made, not at the first rollout."""
    with pytest.raises(rr.ConfigError, match=f"recipe '{recipe}' needs {what}.*one rollout at a"):
        make(configure(recipe=recipe), tokenizer)


def test_without_verl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the version."""
    for name in [n for n in sys.modules if n.startswith("rankreward.adapters.verl")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.partition(".")[0] == "verl"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "verl", None)
    with pytest.raises(rr.MissingExtraError, match=r"pip install verl==0\.9\.1"):
        importlib.import_module("rankreward.adapters.verl")


# -- scoring ----------------------------------------------------------------------------------


def test_a_recipe_of_ones_own(
    configure: Callable[..., Any], tokenizer: str, tmp_path: Path
) -> None:
    """A YAML file, with another tie rule and no warm start."""
    changes = {
        "name": "mine",
        "accuracy.normalizer.ties": "mid",
        "accuracy.normalizer.warm_start": 0,
    }
    recipe = rr.Recipe.load("dr_seg").override(changes)
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True, by_alias=True))
    )
    manager, twin = make(configure(recipe=path), tokenizer), rr.Scorer(path)
    for step in (1, 2):
        rows = rows_of(step)
        assert totals(score(manager, rows, step=step)) == expected(twin, rows)
        twin.flush(step)
    assert twin.quantiles.size == 32


def test_columns_come_from_extra_info_and_lengths_are_counted(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """What a recipe needs besides; a row that lacks it is an error of that row."""
    manager = make(configure(recipe="pixel_think"), tokenizer)
    reference = '{"bbox": [10, 10, 90, 90], "points_1": [30, 30], "points_2": [60, 60]}'
    rows = [(wrap(reference), reference), (wrap("?"), reference)]
    given = {"split": "train", "difficulty": 3.0, "uncertainty": 0.5}
    lengths = [len(manager.tokenizer.encode(text)) + 1 for text, _ in rows]
    columns = {"difficulty": [3.0] * 2, "uncertainty": [0.5] * 2, "tokens": lengths}
    twin = rr.Scorer("pixel_think")
    assert totals(score(manager, rows, extra_info=given)) == expected(twin, rows, columns=columns)
    (paid,) = score(manager, rows[:1], extra_info={"difficulty": 3.0})
    assert "extra_info: expected 'uncertainty'" in paid["reward_extra_info"]["rankreward/error"]


def test_references_may_be_data(configure: Callable[..., Any], tokenizer: str) -> None:
    """A list scores as the JSON text that says the same."""
    manager, rows = make(configure(), tokenizer), rows_of(4)
    as_data = [(text, json.loads(reference)) for text, reference in rows]
    assert totals(score(manager, as_data)) == expected(rr.Scorer("dr_seg"), rows)


def test_the_same_rollout_twice_is_recorded_once(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """In one batch and in two; both are paid. The same session of a later step is another one."""
    manager, rows = make(configure(), tokenizer), rows_of(5)
    once = score(manager, rows)
    assert totals(score(manager, rows)) == totals(once)
    twice = [
        data(manager.tokenizer, *row, global_steps=1, uid="v", session_id=0) for row in rows[:1] * 2
    ]
    assert len(set(totals(score_data(manager, twice)))) == 1
    assert window_of(manager).pending == 17
    score(manager, rows, step=2)
    assert (window_of(manager).size, window_of(manager).pending) == (128 + 17, 16)


@pytest.mark.parametrize("split", ["val", "test", "validation"])
def test_splits_other_than_train_enter_no_window(
    configure: Callable[..., Any], tokenizer: str, split: str
) -> None:
    """And need no step; without a split a row is one of training."""
    manager, rows = make(configure(), tokenizer), rows_of(6)
    batch = [data(manager.tokenizer, *row, extra_info={"split": split}) for row in rows]
    assert totals(score_data(manager, batch)) == expected(rr.Scorer("dr_seg"), rows)
    assert window_of(manager).pending == 0
    score(manager, rows[:1], extra_info={"index": 3})
    assert window_of(manager).pending == 1


def test_validation_ranks_in_the_newest_window(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """Also in a worker that nobody told of the driver's flush."""
    manager, rows, twin = make(configure(), tokenizer), rows_of(11), rr.Scorer("dr_seg")
    assert totals(score(manager, rows)) == expected(twin, rows)
    RayQuantileService.attach(window_name()).flush(1)
    twin.flush(1)
    batch = [data(manager.tokenizer, *row, extra_info={"split": "val"}) for row in rows]
    assert totals(score_data(manager, batch)) == expected(twin, rows, record=False)


def test_rollouts_that_wait_are_the_next_batch(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """1024 at once are a handful of batches, in one or two messages each."""
    manager = make(configure(), tokenizer)
    window, scorer = window_of(manager), manager._rewards.scorer
    sizes, messages = [], []
    ask, how = window._ask, scorer.score

    def counted_ask(*arguments: Any) -> Any:
        messages.append(arguments[0])
        return ask(*arguments)

    def counted_score(texts: list[str], *arguments: Any, **options: Any) -> Any:
        sizes.append(len(texts))
        return how(texts, *arguments, **options)

    window._ask, scorer.score = counted_ask, counted_score
    rows = rows_of(7, prompts=256)
    assert totals(score(manager, rows)) == expected(rr.Scorer("dr_seg"), rows)
    assert sum(sizes) == 1024
    assert len(sizes) <= 5
    assert len(messages) <= len(sizes) + 2  # a push each; `advance` and the window once


# -- errors -----------------------------------------------------------------------------------


def test_broken_rows_and_data_never_raise(
    configure: Callable[..., Any], tokenizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A reference, a column or a step that is missing costs its own row, and is in the log."""
    manager, rows = make(configure(), tokenizer), rows_of(8)
    batch = [
        data(manager.tokenizer, text, reference, global_steps=1, uid="u", session_id=place)
        for place, (text, reference) in enumerate(rows)
    ]
    batch[3] = data(manager.tokenizer, *rows[3], global_steps=1, reward_model={"style": "rule"})
    batch[5] = data(manager.tokenizer, *rows[5])
    batch[7] = data(manager.tokenizer, rows[7][0], [{"bbox_2d": "x"}], global_steps=1)
    with caplog.at_level(logging.ERROR):
        paid = score_data(manager, batch)
    infos = [each["reward_extra_info"] for each in paid]
    assert {tuple(info) for info in infos} == {tuple(infos[0])}
    broken = {place for place, info in enumerate(infos) if info["rankreward/error"]}
    assert broken == {3, 5, 7}
    assert "'ground_truth'" in infos[3]["rankreward/error"]
    assert "global_steps: expected the trainer's step" in infos[5]["rankreward/error"]
    assert infos[7]["rankreward/error"].startswith("BadReferenceError: ")
    assert [totals(paid)[place] for place in sorted(broken)] == [0.0] * 3
    assert len([r for r in caplog.records if r.name.startswith("rankreward")]) == 3
    good = [row for place, row in enumerate(rows) if place not in broken]
    got = [total for place, total in enumerate(totals(paid)) if place not in broken]
    assert got == expected(rr.Scorer("dr_seg"), good)
    assert window_of(manager).pending == 13


def test_a_broken_window_is_an_error_of_every_row(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """Whatever the driver does with it: nothing raises in the worker, and nothing is a plain 0."""
    manager, rows = make(configure(), tokenizer), rows_of(9)
    end_window()
    infos = [each["reward_extra_info"] for each in score(manager, rows)]
    errors = [info["rankreward/error"] for info in infos]
    assert all(error.startswith("StateError: window ") for error in errors)
    assert stop_reason(errors) == errors[0]
    assert stop_reason([errors[0], *[""] * 15]) == errors[0]  # one is enough
    assert stop_reason(["BadReferenceError: x", *[""] * 15]) is None
    assert stop_reason(["BadReferenceError: x"] * 16) == "BadReferenceError: x"


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


# -- going on with a run ----------------------------------------------------------------------


def save(config: Any, step: int) -> Path:
    """A checkpoint, as verl's trainer saves it."""
    output = Path(config.trainer.default_local_dir)
    folder = output / f"global_step_{step}"
    folder.mkdir(parents=True, exist_ok=True)
    callback = build_checkpoint_callback(config)
    callback.on_save(SimpleNamespace(), step, checkpoint_dir=str(folder), async_save=False)
    (output / "latest_checkpointed_iteration.txt").write_text(str(step))
    return folder


def test_a_step_that_was_open_is_ended_after_the_restart(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """Where nobody flushes a checkpoint has rows of its own step pending; they enter as that
    step's when the next one begins, as in a run that was not interrupted."""
    config = configure(f"trainer.checkpoint_callback_class={CALLBACK}")
    twin, manager = rr.Scorer("dr_seg"), make(config, tokenizer)
    for step in (1, 2):
        assert totals(score(manager, rows_of(step), step=step)) == expected(twin, rows_of(step))
        if step == 1:
            twin.flush(1)
    save(config, 2)
    score(manager, rows_of(77), step=3)  # is lost
    end_window()
    manager = make(config, tokenizer)
    assert window_of(manager).pending == 16
    twin.flush(2)
    assert totals(score(manager, rows_of(3), step=3)) == expected(twin, rows_of(3))
    assert window_of(manager).rows.tobytes() == twin.quantiles.rows.tobytes()


def test_a_checkpoint_that_does_not_fit_is_refused(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """Another recipe, another window, no file, a damaged file: each says what, and what to do."""
    config = configure(f"trainer.checkpoint_callback_class={CALLBACK}")
    folder = save(config, 5)
    end_window()
    with pytest.raises(rr.CheckpointError, match="recipe 'vision_reasoner', got 'dr_seg'"):
        make(configure(recipe="vision_reasoner"), tokenizer)
    smaller = {"accuracy.normalizer.window": 500}
    recipe = (
        rr.Recipe.load("dr_seg")
        .override(smaller)
        .model_dump(mode="json", exclude_none=True, by_alias=True)
    )
    path = folder.parent / "smaller.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(rr.CheckpointError, match=r"normalizer\.window 500, got 2048"):
        make(configure(recipe=path), tokenizer)
    whole = (folder / "rankreward.npz").read_bytes()
    (folder / "rankreward.npz").write_bytes(whole[:100])
    with pytest.raises(rr.CheckpointError, match="damaged or foreign"):
        make(config, tokenizer)
    (folder / "rankreward.npz").unlink()
    for mode in (
        [],
        ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}"],
    ):
        with pytest.raises(rr.StateError, match=r"no such file; put it back.*RankRewardCheckpoint"):
            make(configure(*mode), tokenizer)


def test_a_run_begins_as_the_trainer_says(configure: Callable[..., Any], tokenizer: str) -> None:
    """`disable`, or no checkpoint: a new window, whatever an old run left in the folder.
    `resume_path`: that checkpoint, though there is a later one."""
    config = configure(f"trainer.checkpoint_callback_class={CALLBACK}")
    first = make(config, tokenizer)
    for step in (1, 2):
        score(first, rows_of(step), step=step)
        window_of(first).flush(step)
        folder = save(config, step)
        if step == 1:
            early = folder
    path = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={early}"]
    disable = ["trainer.resume_mode=disable"]
    for mode, size in (([], 160), (path, 144), (disable, 128), ([], 160)):
        end_window()
        manager = make(configure(*mode), tokenizer)
        assert window_of(manager).size == size
    end_window()
    (folder.parent / "latest_checkpointed_iteration.txt").unlink()
    manager = make(config, tokenizer)
    assert window_of(manager).step is None


def test_the_driver_owns_the_window_and_says_what_is_wrong(
    configure: Callable[..., Any],
) -> None:
    """verl makes the callback before any worker: a wrong recipe ends the run there."""
    name = f"trainer.checkpoint_callback_class={CALLBACK}"
    with pytest.raises(rr.ConfigError, match="dr_sge"):
        build_checkpoint_callback(configure(name, recipe="dr_sge"))
    callback = build_checkpoint_callback(configure(name))
    assert RayQuantileService.attach(window_name(), timeout=5).size == 128
    assert callback.config is not None


def test_a_caller_that_went_away_harms_nobody(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """A rollout that is cancelled while it waits leaves the others their rewards."""
    manager, rows = make(configure(), tokenizer), rows_of(10)
    batch = [data(manager.tokenizer, *row, global_steps=1) for row in rows]

    async def together() -> list[Any]:
        tasks = [asyncio.create_task(manager.run_single(each)) for each in batch]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks[1:])

    assert totals(asyncio.run(together())) == expected(rr.Scorer("dr_seg"), rows)[1:]
