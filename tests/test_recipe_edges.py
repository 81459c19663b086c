"""Where recipes could go wrong unnoticed: what they refuse, and values at their edges."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, Boxes, entry, wrap
from hypothesis import given, settings
from hypothesis import strategies as st

import rankreward as rr
from rankreward import evaluation as ev
from rankreward import own
from rankreward.kinds import Tolerance

IMAGE = np.zeros((100, 100, 3), dtype=np.uint8)
NOTHING = np.zeros((100, 100), dtype=bool)


class Lazy(Sequence[Any]):
    """A column that makes each entry anew whenever it is asked for."""

    def __init__(self, entries: list[Any]) -> None:
        self.texts = [json.dumps(each) for each in entries]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any) -> Any:
        return json.loads(self.texts[index])


def test_entries_that_are_made_when_asked_for_are_told_apart() -> None:
    """No entry is taken for another that happened to lie in the same place in memory."""
    truths = [[entry([100 + i, 100, 300 + i, 300], [200 + i, 200])] for i in range(100)]
    texts = [wrap(truth, think="It.") for truth in truths]
    assert rr.Scorer("vision_reasoner").score(texts, Lazy(truths)).total.tolist() == [7.0] * 100


# -- debris and rejections ------------------------------------------------------------------------

TOLERANCES: tuple[Tolerance, ...] = ("truncated", "bad_entry", "duplicate_key", "numeric_text")
debris = st.sampled_from(
    [
        *('{"bbox_2d": [1, 2, 3, 4]}', "NaN", "null", '"a cup"', "3", "{}", "[]", "1e999"),
        *('{"bbox_2d": [NaN, 1, 2, 3], "point_2d": [1, 2]}', '{"bbox_2d": [100, 100, 3'),
    ]
)


@pytest.mark.parametrize("kind", ["none", "ecdf", "zscore", "group"])
@settings(max_examples=50, deadline=None)
@given(entries=st.lists(debris, min_size=1, max_size=4), closed=st.booleans())
def test_debris_is_never_paid_for_a_rejection(kind: str, entries: list[str], closed: bool) -> None:
    """Where there is nothing to find, only `[]` says so, whatever is forgiven and normalized."""
    more: dict[str, Any] = {"none": {}, "ecdf": {"window": 64, "warm_start": 0}, "zscore": {"window": 64}, "group": {"eps": 1e-4}}[kind]  # fmt: skip
    recipe = rr.Recipe.load("vision_reasoner").override(
        {"response.tolerate": TOLERANCES, "accuracy.normalizer": {"kind": kind, **more}}
    )
    scorer = rr.Scorer(recipe)
    scorer.quantiles.push(np.random.default_rng(0).random((32, 3)))
    scorer.flush(1)
    text = f"<think>It.</think><answer>[{', '.join(entries)}{']</answer>' if closed else ''}"
    batch = scorer.score([text, wrap([], think="It.")], [[], []], groups=[0, 0])
    assert batch.total[0] < batch.total[1] == 7


@pytest.mark.parametrize("normalizer", [{"kind": "ecdf", "window": 9, "warm_start": 0, "ties": "mid"}, {"kind": "zscore", "window": 9}])  # fmt: skip
def test_a_rejection_is_not_ranked(normalizer: Any) -> None:
    """Masks of nothing are right or wrong, also in an empty window."""
    recipe = rr.Recipe.load("genseg_r1_g").override({"accuracy.normalizer": normalizer})
    found = {"bbox_2d": [100, 100, 300, 300], "point_1": [200, 200], "point_2": [210, 200]}
    batch = rr.Scorer(recipe, segmenter=Boxes()).score(
        [wrap([], think="It."), wrap([found], think="It.")],
        [{"mask": NOTHING}] * 2,
        images=[IMAGE] * 2,
    )
    assert batch.terms["mask"].tolist() == [2, 0]


def test_tags_that_all_say_nothing_are_no_answer() -> None:
    """For Seg-R1, too, where entries may be left out."""
    recipe = rr.Recipe.load("seg_r1").override({"response.tolerate": ["bad_entry"]})
    text = "<think>It.</think><bbox>[1,2]</bbox><points>[]</points><labels>[]</labels>"
    image = np.zeros((768, 768, 3), dtype=np.uint8)
    reference = {"mask": np.zeros((768, 768), dtype=bool)}
    batch = rr.Scorer(recipe, segmenter=Boxes()).score([text], [reference], images=[image])
    assert batch.raw["mask"].tolist() == [0]
    assert batch.failures[0] is not None


# -- what does not fit together -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("vision_reasoner-released", {"accuracy.metrics.n": {"kind": "count_ratio"}}, "compares with a reference that is read"),
        ("vision_reasoner-released", {"terms.fmt": {"kind": "released", "system": "vision_reasoner", "weight": 1}}, "has no 'fmt': did you mean 'format'?"),
        ("vision_reasoner-released", {"terms.look": {"kind": "released", "system": "dpad", "weight": 1}}, "has no 'look'"),
        ("seg_zero-released", {"response.schema": "grounding_list"}, "needs a response with the schema grounding_object"),
        ("seg_zero-released", {"terms.answer_format.wieght": 1}, "did you mean 'weight'?"),
        ("vision_reasoner", {"accuracy.normalizer": {"kind": "released_ecdf", "window": 9, "warm_start": 0}}, "for released metrics alone"),
        ("perception_r1", {"accuracy.matching.cost": "point"}, "needs answers with points, got boxes"),
        ("perception_r1_counting", {"accuracy.metrics.m": {"kind": "mask_iou"}}, "needs a response with the schema"),
        ("sam_r1", {"accuracy.metrics.mask.tiers": {0.5: 1.0, 0.8: 0.25}}, "values that rise with them"),
        ("sam_r1", {"accuracy.metrics.mask.tiers": {2.0: 1.0}}, "thresholds in [0, 1)"),
        ("sam_r1", {"accuracy.metrics.mask.tiers": {0.5: 4.0}}, "values up to 1, got 4"),
        ("dpad", {"response.keyword": "caption"}, "keyword must be a tag of its own"),
        ("dr_seg", {"terms.look.weight": 1e300}, "less than or equal to 1000000"),
        ("dr_seg", {"accuracy.weight": 1e308}, "less than or equal to 1000000"),
        ("dr_seg", {"accuracy.metrics.iou.share": 1e-300}, "shares above 0 must be at least 1e-06, got 1e-300"),
        ("sam_r1", {"accuracy.metrics.mask.tiers": {"zz": {"kind": {}}}}, "accuracy.metrics.mask.tiers"),
    ],
)  # fmt: skip
def test_recipes_that_could_only_fail_later(recipe: str, changes: Any, message: str) -> None:
    """Are refused when they are loaded."""
    with pytest.raises(rr.ConfigError) as caught:
        rr.Recipe.load(recipe).override(changes)
    assert message in str(caught.value)


def test_a_recipe_from_a_process_with_other_terms_is_refused() -> None:
    """A kind that is registered there and not here."""
    rr.term("only_there")(lambda sample: 1.0)
    recipe = rr.Recipe.load("dr_seg").override({"terms.mine": {"kind": "only_there", "weight": 1}})
    own._OWN.pop("only_there")
    with pytest.raises(rr.ConfigError, match="'only_there' is not registered in this process"):
        rr.Scorer(recipe)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"completions": [1, 2]}, "completions: expected 1, one a completion, got 2"),
        ({"foo": 3}, "foo: expected a sequence, one entry a completion, got int"),
        ({"tokens": [math.inf]}, r"tokens\[0\]: expected a number from 0, got inf"),
        ({"tokens": [math.nan]}, r"tokens\[0\]: expected a number from 0, got nan"),
        ({"difficulty": [10**400]}, r"difficulty\[0\]: expected a number that is finite"),
        ({"difficulty": [True]}, r"difficulty\[0\]: expected a number that is finite, got True"),
        (3, "columns: expected a mapping, got int"),
    ],
)
def test_columns_are_checked(columns: Any, message: str) -> None:
    """By length, kind and range, before anything is scored."""
    usual: dict[str, Any] = {"difficulty": [1], "uncertainty": [0.5], "tokens": [9]}
    given = {**usual, **columns} if isinstance(columns, dict) else columns
    with pytest.raises(rr.InputError, match=message):
        rr.Scorer("pixel_think").score(["x"], [OBJECT], columns=given)


OBJECT = {"bbox": [100, 100, 300, 300], "points_1": [200, 180], "points_2": [200, 220]}
RIGHT = f"<think>It.</think><answer>{json.dumps(OBJECT)}</answer>"


def test_columns_may_be_arrays() -> None:
    """Of NumPy, or anything that gives a list."""
    columns = {name: np.array([value]) for name, value in (("difficulty", 1), ("uncertainty", 0.5), ("tokens", 196))}  # fmt: skip
    assert rr.Scorer("pixel_think").score([RIGHT], [OBJECT], columns=columns).total[0] == 4


@pytest.mark.parametrize(
    ("difficulty", "factor"), [(3.499, 0.0), (3.5, 1.0), (4.999, 1.0), (5, 0.0)]
)
def test_pixel_think_at_the_edges_of_difficulty(difficulty: float, factor: float) -> None:
    """Under 3.5 is easy, from 5 on hard; in between there is no limit."""
    columns = {"difficulty": [difficulty], "uncertainty": [0], "tokens": [2000]}
    batch = rr.Scorer("pixel_think").score([RIGHT], [OBJECT], columns=columns)
    assert batch.scale[0] == factor


# -- values ---------------------------------------------------------------------------------------


def test_a_threshold_that_is_just_met_is_not_passed() -> None:
    """IoU of exactly one half, for boxes and for masks."""
    half = [entry([100, 100, 300, 200], [200, 150])]
    batch = rr.Scorer("vision_reasoner").score([wrap(half, think="It.")], [G1])
    assert batch.raw["iou"][0] == 0
    mask = NOTHING.copy()
    mask[20:60, 20:60] = True
    box = {"bbox": [168, 168, 504, 336], "points_1": [200, 200], "points_2": [210, 200]}
    text = f"<think>It.</think><answer>{json.dumps(box)}</answer>"
    batch = rr.Scorer("sam_r1", segmenter=Boxes()).score([text], [{"mask": mask}], images=[IMAGE])
    assert batch.raw["mask"][0] == 0


def test_duplicates_cost_in_the_potential_and_never_match() -> None:
    """To drop a duplicate is a gain, to add seven is none in full."""
    cup = G1[0]
    scorer = rr.Scorer("group_revision")
    twice, once = wrap([cup, cup], think="It."), wrap([cup], think="It.")
    off = wrap([entry([180, 100, 380, 300], [280, 200])], think="It.")
    eight = wrap([cup] * 8, think="It.")
    batch = scorer.score([once, eight], [G1] * 2, columns={"initial": [twice, off]})
    assert batch.terms["revision"][0] == 5
    assert batch.terms["revision"][1] == 0  # 7/8 of an error for what was less
    shown = [cup["bbox_2d"]] * 2, [cup["point_2d"]] * 2
    true = [cup["bbox_2d"]], [cup["point_2d"]]
    assert rr.metrics.potential(*shown, *true, size=(840, 840)) == 0.5


def test_consistency_leaves_out_what_does_not_apply() -> None:
    """A right rejection is right; a metric of NaN takes the bonus from nobody else."""
    recipe = rr.Recipe.load("vision_reasoner").override(
        {"terms.bonus": {"kind": "consistency", "metric": "iou", "weight": 1}}
    )
    batch = rr.Scorer(recipe).score(
        [wrap([]), wrap(G1)], [[], []], groups=[0, 0], columns={"likelihood": [0.5, 0.5]}
    )
    assert batch.terms["bonus"].tolist() == [1, 0]


def test_consistency_asks_for_the_groups_mean() -> None:
    """An accuracy under the mean of the group earns no bonus, one above it its own size."""
    recipe = rr.Recipe.load("lens").override(
        {
            "terms.bonus": {"kind": "consistency", "metric": "iou", "weight": 1},
            "accuracy.metrics.mask": None,
            "accuracy.metrics.boundary": None,
        }
    )
    truth = [{"bbox_2d": [0, 0, 100, 100]}]
    widths = (100, 80, 20)
    texts = [wrap([{"bbox_2d": [0, 0, 100, width]}], think="It.") for width in widths]
    batch = rr.Scorer(recipe).score(
        texts, [truth] * 3, groups=[0] * 3, columns={"likelihood": [0.9] * 3}
    )
    accuracy = [(width / 100) ** 2 for width in widths]
    assert batch.terms["bonus"] == pytest.approx([accuracy[0], accuracy[1], 0])


def test_scores_pair_by_what_is_paid() -> None:
    """A metric without a share does not say who answers whom."""
    recipe = rr.Recipe.load("dr_seg").override(
        {
            "accuracy.normalizer": {"kind": "none"},
            "accuracy.metrics.point.share": 0,
            "accuracy.metrics.count": None,
        }
    )
    answer = [
        entry(G2[0]["bbox_2d"], G2[1]["point_2d"]),
        entry(G2[1]["bbox_2d"], G2[0]["point_2d"]),
    ]
    batch = rr.Scorer(recipe).score([wrap(answer)], [G2])
    assert batch.raw["iou"][0] == 1
    assert batch.raw["point"][0] == 0
    turned = recipe.override({"accuracy.metrics.point.share": 1, "accuracy.metrics.iou.share": 0})
    assert rr.Scorer(turned).score([wrap(answer)], [G2]).raw["point"][0] == 1


def test_counting_takes_the_mean_before_it_cuts() -> None:
    """A point farther away than the diagonal costs its whole distance."""
    points, truth = [[1457, 777], [0, 100]], [[0, 0], [0, 100]]
    text = f"<answer>{json.dumps([{'point_2d': p} for p in points])}</answer>"
    batch = rr.Scorer("perception_r1_counting").score([text], [[{"point_2d": p} for p in truth]])
    mean = math.hypot(1457, 777) / 2
    assert batch.total[0] == pytest.approx(1 - mean / math.hypot(1000, 1000))


def detr(a: Any, b: Any) -> float:
    """The cost of one pair, written out."""
    giou = rr.metrics.box_giou([a["bbox_2d"]], [b["bbox_2d"]])[0, 0]
    apart = sum(abs(x - y) for x, y in zip(a["bbox_2d"], b["bbox_2d"], strict=True))
    return float((a["label"] != b["label"]) + 5 * apart - 2 * giou)


corner = st.integers(0, 12)
labelled = st.builds(
    lambda x, y, w, h, label: {"bbox_2d": [x, y, x + w, y + h], "label": label},
    *(corner, corner, st.integers(1, 9), st.integers(1, 9), st.sampled_from(["cup", "dog"])),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(labelled, min_size=1, max_size=4, unique_by=str),
    st.lists(labelled, min_size=1, max_size=4, unique_by=str),
    st.integers(0, 2),
)
def test_detection_is_that_of_a_slow_twin(answer: Any, truth: Any, doubled: int) -> None:
    """DETR's cost over every matching, then the parts of the score; duplicates are surplus."""
    shown = answer + answer[:doubled]
    text = f"<answer>{json.dumps(shown)}</answer>"
    batch = rr.Scorer("perception_r1_detection").score([text], [truth])
    few = min(len(answer), len(truth))
    matchings = [
        list(zip(rows, columns, strict=True))
        for rows in itertools.combinations(range(len(answer)), few)
        for columns in itertools.permutations(range(len(truth)), few)
    ]
    costs = [sum(detr(answer[i], truth[j]) for i, j in pairs) for pairs in matchings]
    best = [p for p, cost in zip(matchings, costs, strict=True) if cost <= min(costs) + 1e-9]
    expected = []
    for pairs in best:  # where matchings tie, any of them will do
        ious = [rr.metrics.box_iou([answer[i]["bbox_2d"]], [truth[j]["bbox_2d"]])[0, 0] for i, j in pairs]  # fmt: skip
        kept = [(i, j, iou) for (i, j), iou in zip(pairs, ious, strict=True) if iou > 0.5]
        count = len(kept)
        expected.append(
            (
                2 * count / (len(shown) + len(truth)),
                sum(answer[i]["label"] == truth[j]["label"] for i, j, _ in kept) / max(count, 1),
                sum(iou for _, _, iou in kept) / max(count, 1),
                (len(shown) - count) / len(shown) + (len(truth) - count) / len(truth),
            )
        )
    found = [batch.raw[name][0] for name in ("f1", "label", "iou", "errors")]
    assert any(found == pytest.approx(each) for each in expected)


# -- evaluation -----------------------------------------------------------------------------------


def test_recipes_of_masks_can_be_evaluated() -> None:
    """With their own references, which then have the objects as well."""
    found = {"bbox_2d": [200, 200, 600, 600], "point_1": [300, 300], "point_2": [400, 400]}
    mask = NOTHING.copy()
    mask[20:60, 20:60] = True
    reference = {"mask": mask, "objects": [found]}
    text = wrap([found], think="It.")
    result = ev.evaluate(
        [text], [reference], [IMAGE], [mask], recipe="genseg_r1_g", segmenter=Boxes()
    )
    assert result.summary()["gIoU"] == 1
    assert result.summary()["mean box IoU"] == 1
    with pytest.raises(rr.InputError, match="compares masks alone: give references objects"):
        ev.evaluate(
            [text], [{"mask": mask}], [IMAGE], [mask], recipe="genseg_r1_g", segmenter=Boxes()
        )


@pytest.mark.parametrize("what", ["references", "images", "columns"])
def test_a_number_is_no_sequence(what: str) -> None:
    """Not even one that NumPy has wrapped."""
    one = np.array(3)
    more: dict[str, Any] = {"references": {}, "images": {"images": one}, "columns": {"columns": {"c": one}}}[what]  # fmt: skip
    references = one if what == "references" else [G1]
    with pytest.raises(rr.InputError, match="expected a sequence, one entry a completion, got nda"):
        rr.Scorer("dr_seg").score(["x"], references, **more)


def test_options_are_given_by_name_and_are_not_the_sample() -> None:
    """What could only fail at the first completion is refused before."""
    with pytest.raises(rr.ConfigError, match="options are given by name, which 'limit' cannot be"):
        rr.term("by_place")(lambda sample, limit, /: 1.0)
    rr.term("takes_all")(lambda sample, **options: 1.0)
    with pytest.raises(rr.ConfigError, match="unknown option 'sample'"):
        rr.Recipe.load("dr_seg").override(
            {"terms.mine": {"kind": "takes_all", "weight": 1, "sample": 1}}
        )
    own._OWN.pop("takes_all")


def test_run_lengths_of_an_impossible_image() -> None:
    """Are an error, and not all of the memory."""
    mask = {"size": [10**9, 10**9], "counts": [10**18]}
    with pytest.raises(rr.BadReferenceError, match="RLE of 1000000000 x 1000000000 pixels"):
        rr.Scorer("genseg_r1_g", segmenter=Boxes()).score(
            [wrap([])], [{"mask": mask}], images=[IMAGE]
        )
