"""Recipes in their released form pay what the published code pays, through the public door."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, wrap

import rankreward as rr
from rankreward.rewards.normalizers import normalize, window_values

FOLDER = Path(__file__).parent / "golden"
ROWS = [
    json.loads(line)
    for line in gzip.decompress((FOLDER / "rollouts.jsonl.gz").read_bytes()).splitlines()
]
TRACES = [
    json.loads(line)
    for line in gzip.decompress((FOLDER / "quantile_traces.jsonl.gz").read_bytes()).splitlines()
]
IMAGE = np.zeros((84, 84, 3), dtype=np.uint8)

# recipe, the rows it is for, and the name of its system in the file
SYSTEMS = [
    ("vision_reasoner-released", "multi", "vision_reasoner"),
    ("seg_zero-released", "single", "seg_zero_strict"),
    ("seg_zero_soft-released", "single", "seg_zero"),
    ("dpad-released", "caption", "dpad"),
]


def same_everywhere(images: Any, texts: Any) -> np.ndarray:
    """A similarity for which no caption tells the target from the image."""
    return np.full(len(texts), 0.25)


def score(recipe: str, rows: list[dict[str, Any]]) -> rr.RewardBatch:
    extra = {"similarity": same_everywhere} if recipe.startswith("dpad") else {}
    images = [IMAGE] * len(rows) if extra else None
    texts, references = ([row[key] for row in rows] for key in ("text", "reference"))
    return rr.Scorer(recipe, **extra).score(texts, references, images=images)


# Some references are broken on purpose, and the released code scores against nothing then.
broken = pytest.mark.filterwarnings("ignore:references.*the released code of")


@broken
@pytest.mark.parametrize(("recipe", "family", "system"), SYSTEMS)
def test_every_published_number(recipe: str, family: str, system: str) -> None:
    """Every component of every row, and the total where there is one, within 1e-9."""
    rows = [row for row in ROWS if row["family"] == family]
    batch = score(recipe, rows)
    assert len(rows) >= 200
    for index, row in enumerate(rows):
        for name, value in row[system].items():
            column = batch.total if name == "total" else batch.terms[name]
            assert column[index] == pytest.approx(value, abs=1e-9), (index, name)


@broken
def test_every_published_number_of_dr_seg() -> None:
    """Format, non-repeat and raw metrics of every row, NaN included."""
    rows = [row for row in ROWS if row["family"] == "multi"]
    batch = score("dr_seg-released", rows)
    for index, row in enumerate(rows):
        published = row["dr_seg"]
        for name in ("format", "non_repeat"):
            assert batch.terms[name][index] == pytest.approx(published[name], abs=1e-9), index
        raw = [batch.raw[name][index] for name in ("iou", "count", "point")]
        assert raw == pytest.approx(published["metrics"], abs=1e-9, nan_ok=True), index


@pytest.mark.parametrize("trace", TRACES, ids=range(len(TRACES)))
def test_ranks_are_the_published_services(trace: dict[str, Any]) -> None:
    """The window of the released recipe gives the service's answers, one decimal each."""
    scorer = rr.Scorer("dr_seg-released")
    service, normalizer = scorer.quantiles, scorer.recipe.accuracy.normalizer
    step = 0
    for operation in trace["ops"]:
        if operation[0] == "push":
            service.push(
                window_values(normalizer, np.asarray(operation[1], dtype=float).reshape(-1, 3))
            )
        elif operation[0] == "flush":
            step += 1
            stats = service.flush(step)
            expected = operation[1]
            assert (stats.added, stats.evicted, stats.size) == tuple(
                expected[key] for key in ("added", "evicted", "size")
            )
        else:
            values = np.asarray([operation[1]], dtype=float)
            ranks = normalize(normalizer, values, service, None, None)
            assert ranks[0].tolist() == pytest.approx(operation[2], abs=1e-9)


# -- the worked examples of Dr. Seg ---------------------------------------------------------------

LOOKS = "I compare. <look>the left one</look>"


def controlled() -> rr.Scorer:
    """A history of 1,000 rows: uniform IoU, 60 % right counts, 30 % of points at 0."""
    recipe = rr.Recipe.load("dr_seg-released").override(
        {"accuracy.normalizer.warm_start": 0, "accuracy.normalizer.window": 1000}
    )
    scorer = rr.Scorer(recipe)
    rows = np.empty((1000, 3))
    rows[:, 0] = np.arange(1, 1001) / 1000
    rows[:, 1] = np.where(np.arange(1000) < 600, 1.0, 0.5)
    rows[:, 2] = np.where(np.arange(1000) < 300, 0.0, 1.0)
    scorer.quantiles.push(rows)
    scorer.flush(1)
    return scorer


def at(*places: tuple[float, float, float, float], points: Any) -> list[dict[str, Any]]:
    return [{"bbox_2d": list(b), "point_2d": list(p)} for b, p in zip(places, points, strict=True)]


RIGHT = [(580, 500, 780, 700), (180, 100, 380, 300)]
NAN = '[{"bbox_2d": [NaN, NaN, NaN, NaN], "point_2d": [NaN, NaN]}]'
TEXTS = '[{"bbox_2d": ["100","100","300","300"], "point_2d": ["200","200"]}]'
HALF = json.dumps([*G2[:1], {"bbox_2d": [500, 500, 700, 700]}])
THREE = [*G1, *at((0, 0, 20, 20), (800, 800, 820, 820), points=[(10, 10), (810, 810)])]


@pytest.mark.parametrize(
    ("text", "truth", "ranks", "total"),
    [
        pytest.param(wrap(G1), G1, (1, 1, 1), 8, id="D5 exact"),
        pytest.param("garbage", G1, (0, 0, 0.3), 1.3, id="D6 garbage"),
        pytest.param(wrap(at((110, 110, 310, 310), points=[(300, 200)])), G1, (0.8, 1, 0.3), 7.1, id="D7 off"),
        pytest.param(wrap(G2[:1]), G2, (1, 0.4, 1), 7.4, id="D8 one of two"),
        pytest.param(wrap(at(*RIGHT, points=[(680, 600), (280, 200)])), G2, (0, 1, 0.3), 6.3, id="D10 swapped"),
        pytest.param(wrap(at(*RIGHT[::-1], points=[(280, 200), (680, 600)])), G2, (0.4, 1, 0.3), 6.7, id="D10b in order"),
        pytest.param(wrap([]), [], (0, 1, 0.3), 4.3, id="D11 rightly empty"),
        pytest.param(wrap(G1), [], (0, 0, 0.3), 5.3, id="D12 a box for nothing"),
        pytest.param(wrap(NAN), G1, (1, 1, 1), 8, id="D13 NaN"),
        pytest.param(wrap(TEXTS), G1, (1, 1, 1), 8, id="D14 numbers as text"),
        pytest.param(wrap(HALF), G2, (0, 0, 0.3), 4.8, id="D15 one lacks the point"),
        pytest.param(wrap(json.dumps(G1).replace('"', "'")), G1, (0, 0, 0.3), 3.3, id="D16 single quotes"),
        pytest.param(wrap(THREE), G1, (1, 0, 1), 7, id="D17 three for one"),
    ],
)  # fmt: skip
def test_dr_seg_examples(text: str, truth: Any, ranks: Any, total: float) -> None:
    """The worked examples on a controlled history."""
    batch = controlled().score([text], [json.dumps(truth)])
    assert [batch.ranks[name][0] for name in ("iou", "count", "point")] == pytest.approx(ranks)
    assert batch.total[0] == pytest.approx(total)


@pytest.mark.parametrize(
    ("text", "total"),
    [
        pytest.param(wrap(G1), 8, id="D1 exact"),
        pytest.param("garbage", 4, id="D2 garbage"),
        pytest.param(wrap(G1, think="I compare."), 7, id="D3 no look"),
        pytest.param(wrap(G1, think="<look>your visual focus</look>"), 7, id="D4 copied"),
    ],
)
def test_dr_seg_cold_start(text: str, total: float) -> None:
    """With a history of zeros everything ranks 1, garbage included."""
    batch = rr.Scorer("dr_seg-released").score([text], [json.dumps(G1)])
    assert batch.total[0] == pytest.approx(total)


def test_nan_rows_stay_in_the_released_window() -> None:
    """A NaN that was paid in full then ranks above every later value, as published."""
    recipe = rr.Recipe.load("dr_seg-released").override(
        {"accuracy.normalizer.warm_start": 0, "accuracy.normalizer.window": 2}
    )
    scorer = rr.Scorer(recipe)
    first = scorer.score([wrap(NAN)] * 2, [json.dumps(G1)] * 2)
    assert math.isnan(first.raw["iou"][0])
    scorer.flush(1)
    after = scorer.score([wrap(G1)], [json.dumps(G1)])
    assert [after.ranks[name][0] for name in ("iou", "count", "point")] == [0.0, 1.0, 0.0]


def test_released_recipes_read_texts_only() -> None:
    """The released code reads the column of the data set; a list is not that."""
    with pytest.raises(
        rr.BadReferenceError, match=r"references\[0\]: expected a text, as the released"
    ):
        rr.Scorer("vision_reasoner-released").score([wrap(G1)], [G1])


def test_released_recipes_cannot_be_resized() -> None:
    """Their distances are in the code."""
    with pytest.raises(rr.InputError, match="distances built in"):
        rr.Recipe.load("dr_seg-released").resized(84)
    recipe = rr.Recipe.load("dr_seg-released")
    assert recipe.resized(840).response == recipe.response


def test_dpad_pays_the_scaled_margin_of_the_crop() -> None:
    """s1 (s1 - s2) of the crop of the reference's box, and nothing without a caption."""
    seen: list[tuple[int, ...]] = []

    def similarity(images: Any, texts: Any) -> list[float]:
        seen.extend(np.asarray(image).shape for image in images)
        return [0.2554 if np.asarray(image).shape[0] < 84 else 0.2277 for image in images]

    scorer = rr.Scorer("dpad-released", similarity=similarity)
    row = next(row for row in ROWS if row["family"] == "caption" and "<caption>" in row["text"])
    reference = "<box>(100,100),(300,300)</box><points>(200,180),(200,220)</points>"
    batch = scorer.score([row["text"], "none"], [reference] * 2, images=[IMAGE] * 2)
    assert batch.terms["discriminative"].tolist() == pytest.approx([0.2554 * 0.0277, 0])
    assert seen == [(20, 20, 3), (84, 84, 3)]


@pytest.mark.parametrize(
    ("recipe", "good", "bad"),
    [
        ("vision_reasoner-released", "[]", "[[1, 2, 3, 4]]"),
        ("dr_seg-released", json.dumps(G1), "garbage"),
        (
            "dr_seg-released",
            '[{"bbox_2d": ["1", 2, 3, 4], "point_2d": [1, 2]}]',
            '[{"bbox_2d": ["a", 2, 3, 4], "point_2d": [1, 2]}]',
        ),
        ("vision_reasoner-released", json.dumps(G1), '[{"bbox_2d": [1, 2], "point_2d": [3]}]'),
        ("vision_reasoner-released", json.dumps(G1), "{}"),
        ("seg_zero-released", "<box>(1,1),(9,9)</box><points>(2,2),(3,3)</points>", "{}"),
    ],
)
def test_a_reference_that_the_released_code_cannot_read_is_warned_of(
    recipe: str, good: str, bad: str, recwarn: pytest.WarningsRecorder
) -> None:
    """It is scored all the same, as published, but not in silence."""
    scorer = rr.Scorer(recipe)
    scorer.score(["x"] * 2, [good] * 2)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"references\[1\]: the released code of .* reads"):
        scorer.score(["x"] * 3, [good, bad, bad])


@pytest.mark.parametrize("change", [{"response.tolerate": ["fence"]}, {"response.keyword": "wait"}])
def test_released_recipes_read_as_the_code_does(change: dict[str, Any]) -> None:
    """What would change nothing but the prompt is refused."""
    with pytest.raises(rr.ConfigError, match="released code reads completions its own way"):
        rr.Recipe.load("dr_seg-released").override(change)
