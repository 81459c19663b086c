"""What every recipe in its paper form promises, whatever the window holds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from builders import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st

import rankreward as rr
from rankreward.parsing import SCHEMAS

PAPER = [name for name in rr.recipes() if not rr.Recipe.load(name).released]
SIDE = 64  # pixels of the images
Entry = dict[str, Any]


def by_length(images: Any, texts: Any) -> Any:
    """A similarity that is larger for crops than for whole images."""
    return np.array([0.3 if np.asarray(i).shape[0] < SIDE else 0.2 for i in images])


@dataclass(frozen=True)
class Case:
    """How to write answers and references for one recipe.

    Objects are given as (x1, y1, x2, y2) in sixty-fourths of the frame.
    """

    recipe: rr.Recipe

    @property
    def schema(self) -> Any:
        return SCHEMAS[self.recipe.response.schema_]

    @property
    def many(self) -> bool:
        return self.schema.form in {"list", "tags"}

    @property
    def unit(self) -> float:
        frame = self.recipe.response.frame
        return 1.0 if frame is None else frame.width / SIDE

    def entry(self, box: Sequence[float]) -> Entry:
        x1, y1, x2, y2 = (v * self.unit for v in box)
        entry: Entry = {self.schema.box: [x1, y1, x2, y2]} if self.schema.box else {}
        for k, key in enumerate(self.schema.points):
            entry[key] = [x1 + (x2 - x1) * (k + 1) / 3, y1 + (y2 - y1) * (k + 1) / 3]
        return entry | ({self.schema.label: "cup"} if self.schema.label else {})

    def text(self, boxes: Sequence[Sequence[float]]) -> str:
        """A well-formed completion that gives these objects."""
        response = self.recipe.response
        look = f"<{response.keyword}>it</{response.keyword}>" if response.keyword else ""
        start = f"<think>I compare. {look}</think>" if response.think else ""
        end = "<caption>the left one</caption>" if "caption" in self.schema.blocks else ""
        if self.schema.form == "text":
            return f"{start}<answer>{len(boxes)}</answer>"
        if self.schema.form == "tags":
            scaled = [[v * self.unit for v in box] for box in boxes]
            tags = "".join(f"<bbox>{json.dumps(box)}</bbox>" for box in scaled)
            centres = [[(x1 + x2) / 2, (y1 + y2) / 2] for x1, y1, x2, y2 in scaled]
            return f"{start}{tags}<points>{centres}</points><labels>{[1] * len(boxes)}</labels>"
        entries = [self.entry(box) for box in boxes]
        return f"{start}<answer>{json.dumps(entries if self.many else entries[0])}</answer>{end}"

    def reference(self, boxes: Sequence[Sequence[float]]) -> Any:
        if self.schema.form == "text":
            return str(len(boxes))
        entries: Any = [] if self.schema.form == "tags" else [self.entry(box) for box in boxes]
        objects = entries if self.many or not entries else entries[0]
        if not self.masked:
            return json.dumps(objects)
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        for one in Boxes().segment(mask, boxes, None):
            mask |= one
        return {"mask": mask, "objects": objects}

    @property
    def masked(self) -> bool:
        kinds = {metric.kind for metric in self.recipe.accuracy.metrics.values()}
        return bool(kinds & {"mask_iou", "boundary_iou", "s_measure"})

    @property
    def no_target(self) -> bool:
        return self.schema.form == "list"

    def scorer(self) -> rr.Scorer:
        return scorer_for(self.recipe)

    def score(
        self, scorer: rr.Scorer, texts: Sequence[str], references: Sequence[Any]
    ) -> rr.RewardBatch:
        count = len(texts)
        return scorer.score(
            texts,
            references,
            images=[IMAGE] * count,
            groups=["all"] * count,
            columns={
                "initial": [self.text([(0, 0, 9, 9)])] * count,
                "likelihood": [0.5] * count,
                "difficulty": [2] * count,
                "uncertainty": [0.5] * count,
                "tokens": [len(text) // 4 for text in texts],
            },
            record=False,
        )


IMAGE = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)


def scorer_for(recipe: rr.Recipe) -> rr.Scorer:
    """A scorer with what the recipe needs, and a history that is neither empty nor even."""
    kinds = {part.kind for part in (*recipe.terms.values(), *recipe.accuracy.metrics.values())}
    extra: dict[str, Any] = {}
    if "discriminative" in kinds:
        extra["similarity"] = by_length
    if kinds & {"mask_iou", "boundary_iou", "s_measure"}:
        extra["segmenter"] = Boxes()
    scorer = rr.Scorer(recipe, **extra)
    rng = np.random.default_rng(0)
    scorer.quantiles.push(rng.beta(2, 1, (256, len(recipe.accuracy.metrics))))
    scorer.flush(1)
    return scorer


CASES = {name: Case(rr.Recipe.load(name)) for name in PAPER}
SCORERS = {name: case.scorer() for name, case in CASES.items()}

corners = st.integers(0, SIDE)
boxes = (
    st.tuples(corners, corners, corners, corners)
    .map(lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])))
    .filter(lambda b: b[0] + 2 < b[2] and b[1] + 2 < b[3])
)
some_boxes = st.lists(boxes, min_size=1, max_size=5)


def answers_to(truth: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    """Answers of which some are right, some nearly so, and some anywhere."""
    right = st.sampled_from(truth)
    near = st.tuples(right, st.integers(-2, 2)).map(lambda p: tuple(v + p[1] for v in p[0]))
    return st.lists(right | near | boxes, min_size=1, max_size=6)


# What a policy may write in place of a number.
BAD = ["NaN", "Infinity", "-Infinity", "1e999", "true", "null", '"3"', "1" * 400]
# What it may write at all.
pieces = st.sampled_from(
    [
        *("<think>", "</think>", "<answer>", "</answer>", "<look>", "</look>", "<caption>"),
        *("</caption>", "[", "]", "{", "}", '"bbox_2d":', "[1,2,3,4]", "NaN", "```json", "\n", "."),
        *("<bbox>", "</bbox>", "<points>", "</points>", "<labels>", "</labels>", "a cup", "1e999"),
    ]
)
hostile = st.lists(pieces, max_size=20).map("".join) | st.text(max_size=60)


def bounds(recipe: rr.Recipe) -> tuple[float, float]:
    """The least and the most that a recipe can pay, by its weights."""
    shares = [metric.share for metric in recipe.accuracy.metrics.values()]
    whole = sum(share for share in shares if share > 0)
    # the errors of a detection are at most 2
    low = sum(2 * recipe.accuracy.weight * share / whole for share in shares if share < 0)
    high = recipe.accuracy.weight + sum(term.weight for term in recipe.terms.values())
    if recipe.clip is not None:
        return recipe.clip.low, min(high, recipe.clip.high)
    return low, high


each_recipe = pytest.mark.parametrize("name", PAPER)
# GRPO-CARE's bonus compares the answers of a group, so that there the others do matter.
alone = pytest.mark.parametrize("name", [name for name in PAPER if name != "grpo_care"])
Check = Callable[..., None]


def few(check: Check) -> Check:
    """Enough examples for a property that is checked for every recipe."""
    return settings(max_examples=40, deadline=None)(check)


@each_recipe
@few
@given(data=st.data())
def test_rewards_are_bounded_and_add_up(name: str, data: Any) -> None:
    """Whatever the text, the total is the sum of its terms and within the recipe's weights."""
    case, scorer = CASES[name], SCORERS[name]
    truth = data.draw(some_boxes)[: None if case.many else 1]
    texts = data.draw(st.lists(hostile | some_boxes.map(case.text), min_size=1, max_size=6))
    batch = case.score(scorer, texts, [case.reference(truth)] * len(texts))
    low, high = bounds(case.recipe)
    assert np.isfinite(batch.total).all()
    assert (batch.total >= low - 1e-12).all()
    assert (batch.total <= high + 1e-12).all()
    sums = np.sum(list(batch.terms.values()), axis=0)
    np.testing.assert_allclose(batch.total, sums, rtol=0, atol=1e-12)


@each_recipe
def test_the_reference_itself_is_paid_in_full(name: str) -> None:
    """The bound is reached: by the reference as the answer, short and in the right form."""
    case = CASES[name]
    truth = [(10, 10, 30, 30), (40, 40, 60, 62)][: 2 if case.many else 1]
    batch = case.score(SCORERS[name], [case.text(truth)], [case.reference(truth)])
    expected = bounds(case.recipe)[1]
    if name == "group_revision":
        assert batch.terms["revision"][0] == 5
    assert batch.failures == [None]
    assert batch.total[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name in PAPER if CASES[name].many])
@few
@given(data=st.data())
def test_order_never_matters(name: str, data: Any) -> None:
    """Any order of the predictions and of the references gives the same bits."""
    case, scorer = CASES[name], SCORERS[name]
    truth = data.draw(some_boxes)
    predicted = data.draw(answers_to(truth))
    other, same = data.draw(st.permutations(predicted)), data.draw(st.permutations(truth))
    batch = case.score(
        scorer,
        [case.text(predicted), case.text(other), case.text(other)],
        [case.reference(truth), case.reference(truth), case.reference(same)],
    )
    first = {key: column[0] for key, column in batch.terms.items()}
    for row in (1, 2):
        assert {key: column[row] for key, column in batch.terms.items()} == first


@each_recipe
@few
@given(start=boxes, end=boxes, steps=st.integers(2, 6))
def test_nearer_never_pays_less(name: str, start: Any, end: Any, steps: int) -> None:
    """On a sample with one object, a box and points that move straight to it never lose."""
    case = CASES[name]
    path = [
        tuple(a + (b - a) * k / steps for a, b in zip(start, end, strict=True))
        for k in range(steps + 1)
    ]
    if case.masked:  # masks move by whole pixels
        path = [start, end]
    texts = [case.text([box]) for box in path]
    width = max(map(len, texts))
    # Lengths would pay for shorter numbers.
    texts = [text.replace("I compare.", "I compare." + " " * (width - len(text))) for text in texts]
    batch = case.score(SCORERS[name], texts, [case.reference([end])] * len(path))
    assert (np.diff(batch.total) >= -1e-9).all(), batch.total


@pytest.mark.parametrize("name", [name for name in PAPER if CASES[name].no_target])
@few
@given(wrong=some_boxes)
def test_a_correct_rejection_beats_a_false_positive(name: str, wrong: Any) -> None:
    """Where there is nothing to find, an empty answer is paid in full and any other less."""
    case = CASES[name]
    batch = case.score(SCORERS[name], [case.text([]), case.text(wrong)], [case.reference([])] * 2)
    assert batch.total[0] > batch.total[1]
    gain = batch.terms.get("revision", np.zeros(2))[0]
    most = bounds(case.recipe)[1] - (5 - gain if name == "group_revision" else 0)
    assert batch.total[0] == pytest.approx(most)


@pytest.mark.parametrize("name", [name for name in PAPER if CASES[name].many])
@few
@given(data=st.data())
def test_a_duplicate_never_pays(name: str, data: Any) -> None:
    """Saying an object once more never raises the reward."""
    case = CASES[name]
    truth = data.draw(some_boxes)
    predicted = data.draw(answers_to(truth))
    again = [*predicted, data.draw(st.sampled_from(predicted))]
    texts = [case.text(predicted), case.text(again)]
    batch = case.score(SCORERS[name], texts, [case.reference(truth)] * 2)
    assert batch.total[1] <= batch.total[0] + 1e-12


@pytest.mark.parametrize("name", [name for name in PAPER if CASES[name].schema.form != "text"])
@pytest.mark.parametrize("bad", BAD)
def test_numbers_that_are_none_never_pay(name: str, bad: str) -> None:
    """A right answer with one coordinate that is no number earns nothing for accuracy."""
    case = CASES[name]
    truth = [(10, 10, 30, 30)]
    right = case.text(truth)
    broken, count = re.subn(r"\b[\d.]+(?=[,\]])", bad, right, count=1)
    assert count == 1
    batch = case.score(SCORERS[name], [right, broken], [case.reference(truth)] * 2)
    assert batch.failures[1] is not None
    assert batch.total[1] < batch.total[0]
    for metric in case.recipe.accuracy.metrics:
        assert batch.raw[metric][1] == 0


@alone
@few
@given(data=st.data())
def test_one_bad_completion_costs_only_itself(name: str, data: Any) -> None:
    """The other scores are the same bits, whatever stands between them."""
    case, scorer = CASES[name], SCORERS[name]
    truth = data.draw(some_boxes)[: None if case.many else 1]
    answers = data.draw(st.lists(some_boxes, min_size=1, max_size=4))
    texts, reference = [case.text(answer) for answer in answers], case.reference(truth)
    alone = case.score(scorer, texts, [reference] * len(texts))
    place = data.draw(st.integers(0, len(texts)))
    mixed = [*texts[:place], data.draw(hostile), *texts[place:]]
    together = case.score(scorer, mixed, [reference] * len(mixed))
    np.testing.assert_array_equal(np.delete(together.total, place), alone.total)


@alone
def test_batches_of_any_size_give_the_same_bits(name: str) -> None:
    """128 at once, or one by one, or in sevens."""
    case, scorer = CASES[name], SCORERS[name]
    rng = np.random.default_rng(3)

    def draw() -> list[tuple[int, ...]]:
        corner = rng.integers(0, SIDE - 10, (rng.integers(1, 5), 2))
        far = corner + rng.integers(3, 10, corner.shape)
        return [tuple(map(int, row)) for row in np.hstack([corner, far])]

    truths = [draw()[: None if case.many else 1] for _ in range(128)]
    moved = [[tuple(v + rng.integers(-1, 2) for v in box) for box in truth] for truth in truths]
    answers = [[tuple(map(int, box)) for box in boxes] for boxes in moved]
    texts = [case.text(answer) if k % 9 else "<think>no" for k, answer in enumerate(answers)]
    references = [case.reference(truth) for truth in truths]
    whole = case.score(scorer, texts, references)
    for size in (1, 7):
        parts = [
            case.score(scorer, texts[k : k + size], references[k : k + size])
            for k in range(0, 128, size)
        ]
        for key in whole.terms:
            joined = np.concatenate([part.terms[key] for part in parts])
            np.testing.assert_array_equal(joined, whole.terms[key], err_msg=key)
        assert math.fsum(whole.total) > 0
