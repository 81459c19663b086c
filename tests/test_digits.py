"""The digit scenes: reproducible, split by sample, and their queries mean what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rankreward as rr
from rankreward.datasets import digits

SCENES = list(digits.scenes(300, seed=0, max_digits=4))


def test_same_arguments_same_scenes() -> None:
    """A longer sequence begins with the shorter one, pixel for pixel."""
    for scene, again in zip(digits.scenes(5, seed=0, max_digits=4), SCENES, strict=False):
        assert scene.query == again.query
        assert scene.reference == again.reference
        assert np.array_equal(scene.image, again.image)


def test_seeds_and_splits_differ() -> None:
    """Another seed or split is another scene."""
    first = next(digits.scenes(1, seed=0))
    for other in (digits.scenes(1, seed=1), digits.scenes(1, seed=0, split="eval")):
        assert not np.array_equal(first.image, next(other).image)


def test_splits_share_no_sample() -> None:
    """No handwritten sample of the evaluation split is one of training."""
    train, held_out = digits._samples("train"), digits._samples("eval")
    assert len(train[0]) + len(held_out[0]) == 1797
    assert len(held_out[0]) == 360
    assert len(np.unique(held_out[1])) == 10


def test_boxes_points_and_masks_agree() -> None:
    """A box is the extent of its mask, and the point lies on the stroke."""
    for scene in SCENES:
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (84, 84, 3)
        assert 1 <= len(scene.digits) <= 4
        for digit in scene.digits:
            rows, columns = np.nonzero(digit.mask)
            extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert digit.box.tolist() == extent
            assert digit.mask[digit.point[1], digit.point[0]]


def test_digits_do_not_overlap() -> None:
    """Masks of a scene are disjoint, and together they cover the targets' union."""
    for scene in SCENES:
        assert sum(digit.mask.astype(int) for digit in scene.digits).max() <= 1  # type: ignore[union-attr]
        expected = np.zeros((84, 84), dtype=bool)
        for target in scene.targets:
            expected |= target.mask
        assert np.array_equal(scene.mask, expected)


def expected_targets(scene: digits.Scene) -> list[digits.Digit]:
    """The query, answered from its words."""
    words = scene.query.split()
    found = list(scene.digits)
    if words[0] == "all":
        return [d for d in found if d.label == int(words[1].rstrip("s"))]
    if words[0] == "every":
        n = int(words[-1])
        return [d for d in found if (d.label > n if words[2] == "greater" else d.label < n)]
    if words[1] in {"largest", "smallest"}:
        same = [d for d in found if d.label == int(words[2])]
        areas = [d.area for d in same]
        return [same[areas.index((max if words[1] == "largest" else min)(areas))]]
    side = {"leftmost": 0, "topmost": 1, "rightmost": 2, "lowest": 3}[words[1]]
    edges = [int(d.box[side]) for d in found]
    return [found[edges.index((min if side < 2 else max)(edges))]]


def test_queries_mean_what_they_say() -> None:
    """Targets are those that the query's words name."""
    for scene in SCENES:
        assert list(scene.targets) == expected_targets(scene), scene.query


def test_every_kind_of_query_occurs() -> None:
    """All kinds of query appear, with none, one and several targets."""
    words = {word for scene in SCENES for word in scene.query.split() if word.isalpha()}
    extremes, places = {"largest", "smallest"}, {"leftmost", "rightmost", "topmost", "lowest"}
    assert {"all", "every", "greater", "less"} | extremes | places <= words
    assert {0, 1, 2} <= {len(scene.targets) for scene in SCENES}


def test_reference_scores_in_full() -> None:
    """An answer that is the reference earns every raw metric, or is a correct rejection."""
    recipe = rr.Recipe.load("dr_seg").resized(84)
    texts = [f"<think><look>x</look></think><answer>{s.reference}</answer>" for s in SCENES]
    batch = rr.Scorer(recipe).score(texts, [scene.reference for scene in SCENES])
    assert batch.failures == [None] * len(SCENES)
    assert batch.total.tolist() == [5.0] * len(SCENES)


def test_to_dataset_builds_rows_for_a_trainer() -> None:
    """A row has the prompt of the recipe, the image and the reference."""
    recipe = rr.Recipe.load("dr_seg").resized(84)
    dataset = digits.to_dataset(SCENES[:3], recipe)
    assert dataset.column_names == ["prompt", "image", "solution"]
    row = dataset[0]
    assert row["prompt"] == [{"role": "user", "content": rr.prompt(recipe, SCENES[0].query)}]
    assert np.array_equal(np.asarray(row["image"]), SCENES[0].image)
    assert json.loads(row["solution"]) == json.loads(SCENES[0].reference)


def test_to_dataset_refuses_another_frame() -> None:
    """Coordinates of one frame are never scored in another."""
    with pytest.raises(
        rr.InputError, match=r"frame of 840 x 840, got 84 x 84; Recipe.resized\(84\)"
    ):
        digits.to_dataset(SCENES[:1], rr.Recipe.load("dr_seg"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 10},
        {"size": 84.5},
        {"seed": -1},
        {"max_digits": 0},
        {"max_digits": 7},
        {"min_digits": 0},
        {"min_digits": 3},
        {"min_digits": 1.0},
        {"sides": (30, 20)},
        {"sides": (20, 50)},
        {"queries": "odd"},
        {"split": "test"},
    ],
)
def test_arguments_are_checked(arguments: dict[str, object]) -> None:
    """An argument out of range is an error at once."""
    with pytest.raises(rr.InputError, match="expected"):
        next(digits.scenes(1, **{"seed": 0, **arguments}))  # type: ignore[arg-type]


def test_larger_scenes() -> None:
    """The size is the side of the image."""
    scene = next(digits.scenes(1, seed=3, size=336, max_digits=4))
    assert scene.image.shape == (336, 336, 3)


def test_digits_a_scene() -> None:
    """A scene has at least and at most as many digits as asked for, and all of them fit."""
    made = list(digits.scenes(60, seed=4, min_digits=5, max_digits=6))
    assert {len(scene.digits) for scene in made} == {5, 6}
    assert all(sum(d.mask.astype(int) for d in scene.digits).max() == 1 for scene in made)  # type: ignore[union-attr]


def test_sides() -> None:
    """Digits are drawn in squares of the sides that were asked for."""
    for scene in digits.scenes(40, seed=5, sides=(12, 16), max_digits=3):
        for digit in scene.digits:
            assert (digit.box[2:] - digit.box[:2]).max() <= 16
    tallest = [max(d.box[3] - d.box[1] for d in s.digits) for s in digits.scenes(40, seed=5)]
    assert max(tallest) > 30


def test_unseen_queries_mean_what_they_say() -> None:
    """They are made of usual words, take forms that usual ones never do, and name their targets."""
    usual = {word for scene in SCENES for word in scene.query.split()}
    forms = set()
    for scene in digits.scenes(200, seed=6, max_digits=4, queries="unseen"):
        words, found = scene.query.split(), list(scene.digits)
        assert {word for word in words if word.isalpha()} <= usual
        if words[0] == "every":
            assert list(scene.targets) == [d for d in found if d.label == int(words[1])]
        elif words[1] in {"largest", "smallest"}:
            assert words[2] == "digit"
            best = (max if words[1] == "largest" else min)(d.area for d in found)
            assert [d.area for d in scene.targets] == [best]
        else:
            same = [d for d in found if d.label == int(words[2])]
            side = {"leftmost": 0, "topmost": 1, "rightmost": 2, "lowest": 3}[words[1]]
            edges = [int(d.box[side]) for d in same]
            assert scene.targets[0] is same[edges.index((min if side < 2 else max)(edges))]
        forms.add(words[0] + words[1] if words[0] == "the" else words[0])
    assert len(forms) == 7
