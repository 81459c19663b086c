"""The manager, made and called by verl's own functions in one process."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import verl_flow as vf
import yaml
from builders import wrap
from hydra.errors import ConfigCompositionException
from verl_manager import (
    data,
    end_window,
    expected,
    make,
    rows_of,
    score,
    score_data,
    totals,
    window_of,
)

import rankreward as rr
from rankreward.adapters.verl_rewards import stop_reason
from rankreward.adapters.verl_window import window_name
from rankreward.quantiles.ray import RayQuantileService

pytestmark = pytest.mark.usefixtures("cluster", "no_window_left")


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
    with pytest.raises(rr.ConfigError, match=r"rankreward\.begin: expected auto or new, got 'old'"):
        make(configure("+rankreward.begin=old"), tokenizer)


def test_verls_older_trainer_is_refused(configure: Callable[..., Any], tokenizer: str) -> None:
    """It passes no step; the error says what to set."""
    with pytest.raises(rr.ConfigError, match=r"got False.*set trainer\.use_v1=True"):
        make(configure("trainer.use_v1=False"), tokenizer)


@pytest.mark.parametrize("name", ["RankRewardReplayBuffer", "RankRewardReplayBufferAsync"])
@pytest.mark.parametrize(
    "key", ["algorithm.filter_groups.enable", "trainer.v1.sampler.sync_refill_failed_groups"]
)
def test_what_verls_own_buffer_alone_does_is_refused_beside_ours(
    configure: Callable[..., Any], tokenizer: str, key: str, name: str
) -> None:
    """Filtering of groups and replacement of failed ones; with verl's own buffer they are fine."""
    buffer = [vf.BUFFER[0], f"trainer.v1.sampler.custom_sampler.name={name}"]
    with pytest.raises(rr.ConfigError, match=f"{key}: .*name={name}, .*unset one of the two"):
        make(configure(f"{key}=True", *buffer), tokenizer)
    for fine in ([f"{key}=True"], buffer):
        assert window_of(make(configure(*fine), tokenizer)).size == 128


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
    (paid,) = score(manager, rows[:1], extra_info={"split": "train", "difficulty": 3.0})
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
    """And need no step."""
    manager, rows = make(configure(), tokenizer), rows_of(6)
    batch = [data(manager.tokenizer, *row, extra_info={"split": split}) for row in rows]
    assert totals(score_data(manager, batch)) == expected(rr.Scorer("dr_seg"), rows)
    assert window_of(manager).pending == 0


@pytest.mark.parametrize("extra", [{"index": 3}, {"split": None}, {"split": "trian"}, None])
def test_a_split_that_is_not_known_is_an_error_of_its_row(
    configure: Callable[..., Any], tokenizer: str, extra: dict[str, Any] | None
) -> None:
    """A missing one too; neither is taken for training, nor for validation."""
    manager, rows = make(configure(), tokenizer), rows_of(6)
    (paid,) = score(manager, rows[:1], extra_info=extra)
    error = paid["reward_extra_info"]["rankreward/error"]
    assert error.startswith("InputError: split: expected train, or one of val")
    assert (paid["reward_score"], window_of(manager).pending) == (0.0, 0)


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


def test_two_workers_pay_the_same_after_a_flush(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """A rollout that comes after the driver's flush of its step, as in the asynchronous modes: one
    worker has scored the step before, another begins with it, and both rank in the newest window."""
    old, new, rows = make(configure(), tokenizer), make(configure(), tokenizer), rows_of(12)
    before = totals(score(old, rows))
    window_of(new).flush(1)
    twin = rr.Scorer("dr_seg")
    assert before == expected(twin, rows)
    twin.flush(1)
    after = expected(twin, rows, record=False)
    assert after != before
    assert totals(score(new, rows)) == totals(score(old, rows)) == after


def test_rollouts_that_wait_are_the_next_batch(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """1024 at once are a handful of batches, in two messages each, and one for the step."""
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
    assert len(messages) <= 2 * len(sizes) + 1  # the window and a push each; `advance` once


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
