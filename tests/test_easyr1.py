"""The EasyR1 adapter, called as EasyR1 calls it: rewards, ground truths, and the window it keeps.

`scripts/check_easyr1.py` holds the same against EasyR1 itself.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, wrap
from easyr1_process import (
    BATCH,
    RECIPE,
    Oracle,
    completions,
    inputs,
    settings,
    totals,
    train,
    truth,
    worker,
)

import rankreward as rr
from rankreward.adapters import easyr1_entry
from rankreward.adapters.common import CHECKPOINT
from rankreward.adapters.easyr1_files import TRACKER

TEXTS = [wrap(G1), wrap(G2), wrap([]), "broken"]
REFERENCE = json.dumps(G1)
UNUSABLE = [
    name
    for name in rr.recipes()
    if rr.Recipe.load(name).needs_groups or rr.Recipe.load(name).needs_images
]


def test_the_entry_is_loaded_by_its_path() -> None:
    """The entry file, loaded as EasyR1 does, has the function and says that it takes batches."""
    spec = importlib.util.spec_from_file_location("custom_reward_fn", easyr1_entry.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.REWARD_NAME, module.REWARD_TYPE) == ("rankreward", "batch")
    scores = module.compute_score(inputs(TEXTS, REFERENCE))
    assert totals(scores)[0] == 5.0


def test_rewards_are_the_scorers_and_each_call_is_a_step() -> None:
    """Without a folder rewards are bit for bit those of a scorer that is flushed before each call."""
    process, oracle = worker(), Oracle()
    for call in range(6):
        texts = completions(call)
        scores = process.compute_score(inputs(texts, truth()["reference"]), recipe=RECIPE.to_dict())
        assert totals(scores) == oracle.score(texts)
        assert scores[0]["rankreward/window/size"] == min(2 + BATCH * call, 24)
        assert scores[0]["rankreward/window/flushes"] == call


def test_every_sample_has_the_same_figures_and_none_is_nan() -> None:
    """What EasyR1 averages is the batch's own log: same keys everywhere, plain floats, no NaN."""
    scores = worker().compute_score(inputs(TEXTS, REFERENCE))
    assert all(score.keys() == scores[0].keys() for score in scores)
    values = [value for score in scores for value in score.values()]
    assert all(type(value) is float and math.isfinite(value) for value in values)
    means = {key: np.mean([score[key] for score in scores]) for key in scores[0]}
    expected = rr.Scorer("dr_seg").score(TEXTS, [REFERENCE] * 4)
    for name, column in expected.terms.items():
        assert means[f"rankreward/term/{name}"] == pytest.approx(column.mean(), abs=1e-15)
        assert [score[f"rankreward/term/{name}"] for score in scores] == column.tolist()
    for name, column in expected.raw.items():
        assert means[f"rankreward/raw/{name}"] == pytest.approx(np.nanmean(column))
    assert means["rankreward/failures"] == 0.25
    assert {"rankreward/seconds", "rankreward/rank/iou", "rankreward/ties/count"} <= means.keys()


def test_a_metric_that_applies_nowhere_is_left_out() -> None:
    """With nothing to find boxes have no mean, and the log has no NaN in its place."""
    scores = worker().compute_score(inputs([wrap([]), wrap([])], "[]"))
    assert "rankreward/raw/point" not in scores[0]
    assert scores[0]["rankreward/raw/count"] == 1.0
    assert worker().compute_score([]) == []


@pytest.mark.parametrize(
    "given",
    [
        G1,
        {"reference": REFERENCE},
        {"reference": G1, "split": "train", "difficulty": None},
        {"reference": [{**G1[0], "label": None}], "split": None},
        {"reference": np.array(G1, dtype=object)},
        json.dumps({"reference": REFERENCE, "split": "train"}),
        json.dumps({"reference": G1}),
    ],
)
def test_forms_of_a_ground_truth(given: Any) -> None:
    """A text, a list, a mapping as datasets give it, or its JSON text are the same reference."""
    expected = totals(worker().compute_score(inputs(TEXTS, REFERENCE)))
    assert totals(worker().compute_score(inputs(TEXTS, given))) == expected


@pytest.mark.parametrize("truths", [[G1, G1], [G1, G2], [[], []], [REFERENCE, REFERENCE]])
def test_ground_truths_of_an_object_array(truths: list[Any]) -> None:
    """NumPy makes one array of lists of the same length; its rows are references like any other."""
    rows = np.array(truths, dtype=object)
    batch = [{"response": wrap(G1), "response_length": 9, "ground_truth": row} for row in rows]
    expected = rr.Scorer("dr_seg").score([wrap(G1)] * 2, truths).total.tolist()
    assert totals(worker().compute_score(batch)) == expected


def test_columns_come_from_the_ground_truth() -> None:
    """What a recipe needs besides stands beside the reference; lengths are EasyR1's."""
    recipe = rr.Recipe.load("dr_seg").override(
        {"scale": rr.Recipe.load("pixel_think").to_dict()["scale"]}
    )
    given = {"reference": REFERENCE, "difficulty": 0.5, "uncertainty": 0.1}
    batch = inputs([wrap(G1), wrap(G1)], given)
    batch[1]["response_length"] = 4000
    short, long = totals(worker().compute_score(batch, recipe=recipe))
    assert short > long
    with pytest.raises(rr.InputError, match=r"reward_inputs\[0\].*'difficulty' beside its 'refer"):
        worker().compute_score(inputs(TEXTS, {**given, "difficulty": None}), recipe=recipe)


@pytest.mark.parametrize("name", UNUSABLE)
def test_recipes_that_easyr1_has_not_all_for(name: str) -> None:
    """A recipe that needs groups or images is refused with the reason, before anything is scored."""
    with pytest.raises(
        rr.ConfigError,
        match="EasyR1 shuffles a batch and passes a reward neither images nor group ids",
    ):
        worker().compute_score(inputs(TEXTS, REFERENCE), recipe=name)


def test_broken_references_raise() -> None:
    """A reference that cannot be read stops the run, and names its place."""
    with pytest.raises(rr.BadReferenceError, match=r"references\[0\]"):
        worker().compute_score(inputs(TEXTS, {"reference": None, "split": "train"}))
    with pytest.raises(rr.BadReferenceError, match=r"references\[0\]"):
        worker().compute_score(inputs(TEXTS, '{"bbox'))


def test_splits_decide_what_enters(tmp_path: Path) -> None:
    """With a folder each ground truth has to say its split; a batch has one split."""
    process = worker()
    with pytest.raises(
        rr.InputError, match=r"reward_inputs\[0\]: expected a ground truth with a s"
    ):
        process.compute_score(inputs(TEXTS, REFERENCE), **settings(tmp_path))
    mixed = inputs(TEXTS[:2], truth()) + inputs(TEXTS[2:], truth("test"))
    with pytest.raises(rr.InputError, match="one split a batch, got 'test', 'train'"):
        process.compute_score(mixed)
    with pytest.raises(
        rr.InputError, match=r"split: expected train, or one of val, .* got 'tarin'"
    ):
        process.compute_score(inputs(TEXTS, truth("tarin")), **settings(tmp_path))
    assert not (tmp_path / CHECKPOINT).exists()


def test_validation_alone_keeps_nothing() -> None:
    """Without a folder too, what is validated is not recorded, and the next batch ranks alike."""
    process = worker()
    batch = inputs(completions(1), truth("val"))
    first, second = (totals(process.compute_score(batch, RECIPE)) for _ in range(2))
    assert first == second == Oracle().score(completions(1), record=False)
    (run,) = process._runs.values()
    assert run.scorer.quantiles.pending == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"checkpoints": "runs"},
            r"checkpoints: expected an absolute path.*got 'runs'.*save_check",
        ),
        ({"checkpoints": None}, "checkpoints: expected an absolute path.*got None"),
        ({"load": "/somewhere/global_step_1"}, "checkpoints: expected an absolute path.*got ''"),
        ({"checkpoints": "/x", "load": "global_step_1"}, "load: expected an absolute path"),
    ],
)
def test_paths_have_to_be_absolute(given: dict[str, Any], message: str) -> None:
    """A worker may run anywhere, so that a relative path would mean another folder there."""
    with pytest.raises(rr.InputError, match=message):
        worker().compute_score(inputs(TEXTS, truth()), **given)


def test_broken_files_of_easyr1(tmp_path: Path) -> None:
    """A checkpoint that is not there and a tracker cut short raise, and are named."""
    with pytest.raises(rr.InputError, match="load: expected an existing folder global_step_<step>"):
        train(worker(), tmp_path, 1, load=str(tmp_path / "global_step_9"))
    (tmp_path / TRACKER).write_text('{"last_glo')
    with pytest.raises(rr.CheckpointError, match=f"{TRACKER}: expected EasyR1's JSON"):
        train(worker(), tmp_path, 1)
