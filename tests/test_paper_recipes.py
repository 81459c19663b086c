"""Recipes in their paper form: worked examples, what they need, and what they refuse."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, Boxes, entry, wrap

import rankreward as rr
from rankreward import shaping

SEG_ZERO = {"bbox": [100, 100, 300, 300], "points_1": [200, 180], "points_2": [200, 220]}
IMAGE = np.zeros((100, 100, 3), dtype=np.uint8)
FOUND = np.zeros((100, 100), dtype=bool)
FOUND[20:60, 20:60] = True
NOTHING = np.zeros((100, 100), dtype=bool)


def object_text(think: str = "It is here.", tail: str = "", **changes: Any) -> str:
    return f"<think>{think}</think><answer>{json.dumps(SEG_ZERO | changes)}</answer>{tail}"


def total(recipe: str, text: str, reference: Any, **more: Any) -> float:
    return float(rr.Scorer(recipe).score([text], [reference], **more).total[0])


# -- VisionReasoner and Seg-Zero ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        pytest.param(G1, G1, 7, id="exact"),
        pytest.param([entry([105, 95, 305, 295], [212, 216])], G2, 5.5, id="one of two, near"),
        pytest.param([*G1, entry([0, 0, 20, 20], [9, 9]), entry([800, 800, 820, 820], [809, 809])], G1, 5, id="two too many"),
        pytest.param([], [], 7, id="rightly empty"),
        pytest.param([], G1, 4, id="wrongly empty"),
        pytest.param(G1, [], 4, id="a box for nothing"),
        pytest.param([entry([110, 110, 310, 310], [230, 200])], G1, 5, id="at the thresholds"),
        pytest.param([entry([110, 110, 310, 309], [229, 200])], G1, 7, id="within them"),
        pytest.param([entry([100, 100, 150, 150], [200, 200])], G1, 4, id="point outside its box"),
        pytest.param(G2[::-1], G2, 7, id="another order"),
        pytest.param([*G1, *G1], G2, 5.5, id="one of two, twice"),
    ],
)  # fmt: skip
def test_vision_reasoner(answer: Any, truth: Any, expected: float) -> None:
    """As released where that is sound; a right rejection is paid, ties cannot fall by order."""
    text = wrap(answer, think="I compare.")
    assert total("vision_reasoner", text, truth) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 5),
        ({"points_1": [200, 220], "points_2": [200, 180]}, 5),
        ({"points_1": [200, 279], "points_2": [200, 299]}, 5),  # 89 pixels apart on average
        ({"points_1": [102, 180], "points_2": [299, 220]}, 5),  # 98.5
        ({"points_1": [101, 180], "points_2": [101, 220]}, 5),  # 99
        ({"points_1": [100, 180], "points_2": [100, 220]}, 4),  # 100, not below it
        ({"bbox": [150, 100, 350, 330]}, 4),  # IoU above one half, coordinates off by 10 or more
        ({"points_1": [99, 180]}, 4),  # outside its own box
        ({"bbox": [100, 100, 300]}, 1),
    ],
)
def test_seg_zero(changes: Any, expected: float) -> None:
    """Five checks of a point each; the answer block alone is read."""
    assert total("seg_zero", object_text(**changes), SEG_ZERO) == pytest.approx(expected)


def test_seg_zero_reads_the_answer_block_only() -> None:
    """A wrong draft in the reasoning costs nothing, a right one pays nothing."""
    draft = json.dumps(SEG_ZERO | {"bbox": [0, 0, 9, 9]})
    assert total("seg_zero", object_text(think=f"Maybe {draft}."), SEG_ZERO) == 5
    empty = f"<think>{json.dumps(SEG_ZERO)}</think><answer></answer>"
    assert total("seg_zero", empty, SEG_ZERO) == 1


def test_references_of_the_seg_zero_family_may_be_tagged() -> None:
    """The form of the published data sets and JSON mean the same."""
    tagged = "<box>(100,100),(300,300)</box><points>(200,180),(200,220)</points>"
    text = object_text(bbox=[100, 100, 300, 306])
    assert total("seg_zero", text, tagged) == total("seg_zero", text, SEG_ZERO) == 5
    with pytest.raises(rr.BadReferenceError, match=r"references\[0\]: expected JSON \{\"bbox\""):
        total("seg_zero", text, "<box>(1,2),(3,4)</box>")


# -- PixelThink -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difficulty", "uncertainty", "words", "expected"),
    [
        (2, 0.5, 85, 5.0),
        (2, 0.5, 205, 3.91),
        (2, 0.5, 705, 0.0),
        (4, 0.5, 805, 5.0),
        (6, 0.2, 205, 5.0),
        (6, 0.2, 405, 3.56),
        (6, 0.2, 905, 0.0),
    ],
)
def test_pixel_think(difficulty: float, uncertainty: float, words: int, expected: float) -> None:
    """The worked examples, in words as the released code counts and in tokens as the paper says."""
    columns: dict[str, Any] = {"difficulty": [difficulty], "uncertainty": [uncertainty]}
    filler = words + 1 - len(object_text(think="").split())
    text = object_text(think=" ".join("w" * filler))
    assert len(text.split()) == words
    recipe = rr.Recipe.load("pixel_think")
    by_words = rr.Scorer(recipe.override({"scale.unit": "words"})).score(
        [text], [SEG_ZERO], columns=columns
    )
    by_tokens = rr.Scorer(recipe).score([text], [SEG_ZERO], columns=columns | {"tokens": [words]})
    for batch in (by_words, by_tokens):
        assert batch.total[0] == pytest.approx(expected)
        assert batch.scale[0] == pytest.approx(expected / 5)


def test_pixel_think_names_what_it_lacks() -> None:
    """Missing or malformed columns raise; the released code takes them for an easy question."""
    scorer = rr.Scorer("pixel_think")
    columns: dict[str, Any] = {"difficulty": [1], "uncertainty": [0.5]}
    with pytest.raises(rr.InputError, match="columns: expected difficulty, uncertainty, tokens, w"):
        scorer.score(["x"], [SEG_ZERO], columns=columns)
    with pytest.raises(
        rr.InputError, match=r"uncertainty\[0\]: expected a number from 0 to 1, got 2"
    ):
        scorer.score(["x"], [SEG_ZERO], columns=columns | {"uncertainty": [2], "tokens": [3]})
    with pytest.raises(rr.InputError, match=r"tokens\[0\]: expected a number from 0, got None"):
        scorer.score(["x"], [SEG_ZERO], columns=columns | {"tokens": [None]})
    with pytest.raises(rr.InputError, match="tokens: expected 1, one a completion, got 2"):
        scorer.score(["x"], [SEG_ZERO], columns=columns | {"tokens": [3, 3]})


# -- masks in the loop ----------------------------------------------------------------------------


def grid_text(*boxes: tuple[float, float, float, float]) -> str:
    """Boxes of a 100-pixel image, on the grid."""
    entries = [
        {
            "bbox_2d": [10 * v for v in (x1, y1, x2, y2)],
            "point_1": [5 * (x1 + x2), 5 * (y1 + y2)],
            "point_2": [5 * (x1 + x2), 5 * (y1 + y2)],
        }
        for x1, y1, x2, y2 in boxes
    ]
    return wrap(entries, think="I compare.")


@pytest.mark.parametrize(
    ("text", "mask", "expected"),
    [
        pytest.param(grid_text((20, 20, 60, 60)), FOUND, 2, id="T1 exact"),
        pytest.param(grid_text((20, 20, 60, 40)), FOUND, 1, id="T2 half"),
        pytest.param(grid_text((20, 20, 60, 60), (20, 20, 60, 59)), FOUND, 2, id="T4 nearly twice"),
        pytest.param(grid_text(), NOTHING, 2, id="T5 rightly empty"),
        pytest.param(grid_text((20, 20, 60, 60)), NOTHING, 0, id="T6 a box for nothing"),
        pytest.param(grid_text(), FOUND, 0, id="T7 wrongly empty"),
        pytest.param(grid_text((20, 20, 60, 60), (30, 30, 40, 40)), FOUND, 2, id="T9 nested"),
    ],
)
def test_mask_in_the_loop(text: str, mask: Any, expected: float) -> None:
    """Twice the IoU of the union of the masks; an empty answer is right where nothing is."""
    scorer = rr.Scorer("genseg_r1_g", segmenter=Boxes())
    batch = scorer.score([text], [{"mask": mask}], images=[IMAGE])
    assert batch.terms["mask"][0] == pytest.approx(expected)
    assert batch.total[0] == pytest.approx(expected + 2)


def test_a_segmenter_that_fails_stops_the_batch_and_says_where() -> None:
    """T8: the released relative pays nobody; here nothing is recorded and the sample is named."""

    class Fails(Boxes):
        def segment(self, image: Any, boxes: Any, points: Any, signs: Any = None) -> Any:
            if np.asarray(boxes)[0, 0] > 50:
                raise RuntimeError("out of memory")
            return super().segment(image, boxes, points)

    scorer = rr.Scorer("genseg_r1_g", segmenter=Fails())
    texts = [grid_text((20, 20, 60, 60))] * 2 + [grid_text((60, 20, 70, 60))]
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        scorer.score(texts, [{"mask": FOUND}] * 3, images=[IMAGE] * 3)
    assert "completion 2" in caught.value.__notes__[0]
    assert scorer.quantiles.pending == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"above": 0.5}, 0.0),
        ({"above": 0.4999}, 2.0),
        ({"power": 2.0}, 0.5),
        ({"tiers": {0.4: 0.5, 0.6: 1.0}}, 1.0),
    ],
)
def test_forms_of_the_mask_reward(change: dict[str, Any], expected: float) -> None:
    """Soft, to a power, thresholded or by tiers: an IoU of one half, times two."""
    ((key, value),) = change.items()
    recipe = rr.Recipe.load("genseg_r1_g").override({f"accuracy.metrics.mask.{key}": value})
    batch = rr.Scorer(recipe, segmenter=Boxes()).score(
        [grid_text((20, 20, 60, 40))], [{"mask": FOUND}], images=[IMAGE]
    )
    assert batch.terms["mask"][0] == pytest.approx(expected)


def test_what_a_no_target_sample_pays_can_be_set() -> None:
    """By `rejection` and `false_positive`, and never the wrong way round."""
    recipe = rr.Recipe.load("genseg_r1_g")
    name = "accuracy.metrics.mask"
    changed = recipe.override({f"{name}.rejection": 0.5, f"{name}.false_positive": 0.1})
    batch = rr.Scorer(changed, segmenter=Boxes()).score(
        [grid_text(), grid_text((1, 1, 9, 9))], [{"mask": NOTHING}] * 2, images=[IMAGE] * 2
    )
    assert batch.raw["mask"].tolist() == [0.5, 0.1]
    with pytest.raises(rr.ConfigError, match="rejection must be above false_positive"):
        recipe.override({f"{name}.rejection": 0.1, f"{name}.false_positive": 0.1})
    with pytest.raises(rr.ConfigError, match="at most one of power, above and tiers"):
        recipe.override({f"{name}.above": 0.5, f"{name}.power": 2.0})


@pytest.mark.parametrize(("rows", "points"), [(49, 0), (51, 2), (75, 3), (85, 4)])
def test_sam_r1_tiers(rows: int, points: int) -> None:
    """G9: 0, 2, 3 and 4 points for an IoU of .49, just above .5, .75 and .85."""
    mask = np.zeros((100, 100), dtype=bool)
    mask[:100, :10] = True
    side = 8.4
    answer = {
        "bbox": [0, 0, 10 * side, rows * side],
        "points_1": [20, 20],
        "points_2": [30, 30],
    }
    text = f"<think>It.</think><answer>{json.dumps(answer)}</answer>"
    batch = rr.Scorer("sam_r1", segmenter=Boxes()).score([text], [{"mask": mask}], images=[IMAGE])
    assert batch.raw["mask"][0] == points / 4
    assert batch.total[0] == points + 2


def seg_r1_text(*boxes: tuple[int, int, int, int]) -> str:
    tags = "".join(f"<bbox>{list(box)}</bbox>" for box in boxes)
    centres = [[(x1 + x2) / 2, (y1 + y2) / 2] for x1, y1, x2, y2 in boxes]
    return f"<think>It.</think>{tags}<points>{centres}</points><labels>{[1] * len(boxes)}</labels>"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((100, 100, 484, 484), 1.0, id="exact"),
        pytest.param((100, 100, 484, 292), 0.5409, id="half"),
        pytest.param((0, 0, 768, 768), 0.2125, id="full image"),
    ],
)
def test_seg_r1(box: Any, expected: float) -> None:
    """The correct S-measure; the released code would pay .925, .6125 and .175."""
    mask = np.zeros((768, 768), dtype=bool)
    mask[100:484, 100:484] = True
    image = np.zeros((768, 768, 3), dtype=np.uint8)
    batch = rr.Scorer("seg_r1", segmenter=Boxes()).score(
        [seg_r1_text(box)], [{"mask": mask}], images=[image]
    )
    assert batch.total[0] - batch.terms["format"][0] == pytest.approx(expected, abs=1e-4)


def test_seg_r1_passes_the_signs_of_its_points() -> None:
    """1 on the object, 0 off it, -1 for padding; each point with the smallest box around it."""
    seen: list[Any] = []

    class Looks(Boxes):
        def segment(self, image: Any, boxes: Any, points: Any, signs: Any = None) -> Any:
            seen.append(np.asarray(signs).tolist())
            return super().segment(image, boxes, points)

    text = (
        "<think>It.</think><bbox>[0, 0, 400, 400]</bbox><bbox>[500, 500, 700, 700]</bbox>"
        "<points>[[10, 10], [20, 20], [600, 600]]</points><labels>[1, 0, 1]</labels>"
    )
    mask = np.zeros((768, 768), dtype=bool)
    mask[0] = True
    image = np.zeros((768, 768, 3), dtype=np.uint8)
    batch = rr.Scorer("seg_r1", segmenter=Looks()).score([text], [{"mask": mask}], images=[image])
    assert batch.failures == [None]
    assert seen == [[[1, 0], [1, -1]]]


def test_lens_squares_what_it_pays() -> None:
    """Half the box: a quarter for the box, a quarter for the mask, and the boundary's IoU."""
    scorer = rr.Scorer("lens", segmenter=Boxes())
    side = 8.4
    box = [20 * side, 20 * side, 60 * side, 60 * side]
    half = [20 * side, 20 * side, 60 * side, 40 * side]
    reference = {"mask": FOUND, "objects": [{"bbox_2d": box}]}
    texts = [wrap([{"bbox_2d": each}], think="It.") for each in (box, half)]
    batch = scorer.score(texts, [reference] * 2, images=[IMAGE] * 2)
    assert batch.total[0] == pytest.approx(4)
    assert batch.terms["iou"][1] == pytest.approx(0.25)
    assert batch.terms["mask"][1] == pytest.approx(0.25)
    predicted = np.zeros_like(FOUND)
    predicted[20:40, 20:60] = True
    boundary = rr.metrics.boundary_iou(predicted[None], FOUND[None])[0, 0]
    assert batch.terms["boundary"][1] == pytest.approx(boundary)


def test_references_with_masks() -> None:
    """COCO's run lengths serve as well as arrays, in JSON too; what is missing is named."""
    scorer = rr.Scorer("genseg_r1_g", segmenter=Boxes())
    counts: list[int] = []
    flat = FOUND.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    lengths = {"mask": {"size": [100, 100], "counts": counts}}
    text = grid_text((20, 20, 60, 40))
    for reference in (lengths, json.dumps(lengths), {"mask": FOUND.tolist()}):
        batch = scorer.score([text], [reference], images=[IMAGE])
        assert batch.raw["mask"][0] == pytest.approx(0.5)
    for reference, message in (
        (
            json.dumps([]),
            "expected a mapping with the key 'mask', which recipe 'genseg_r1_g' needs",
        ),
        ({"masks": FOUND}, "got the keys masks"),
        ("{", "expected JSON with the key 'mask'"),
    ):
        with pytest.raises(rr.BadReferenceError, match=message):
            scorer.score([text], [reference], images=[IMAGE])
    with pytest.raises(rr.BadReferenceError, match="expected the key 'objects' beside 'mask'"):
        rr.Scorer("lens", segmenter=Boxes()).score([text], [{"mask": FOUND}], images=[IMAGE])
    with pytest.raises(rr.BadReferenceError, match="0 objects and 1600 pixels"):
        rr.Scorer("lens", segmenter=Boxes()).score(
            [text], [{"mask": FOUND, "objects": []}], images=[IMAGE]
        )
    with pytest.raises(rr.InputError, match=r"expected a mask of the image's size \(100, 100\)"):
        scorer.score([text], [{"mask": np.ones((9, 9), bool)}], images=[IMAGE])
    with pytest.raises(rr.InputError, match="recipe 'genseg_r1_g' looks at the images, got none"):
        scorer.score([text], [{"mask": FOUND}])


def test_a_segmenter_has_one_caller_at_a_time() -> None:
    """Predictors keep an image between two calls; threads wait for one another."""
    inside, most = [0], [0]

    class Counts(Boxes):
        def segment(self, image: Any, boxes: Any, points: Any, signs: Any = None) -> Any:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(1e-4)  # lets the others in, if anything does
            masks = super().segment(image, boxes, points)
            inside[0] -= 1
            return masks

    scorer = rr.Scorer("genseg_r1_g", segmenter=Counts())

    def work() -> None:
        scorer.score(
            [grid_text((20, 20, 60, 60))] * 20, [{"mask": FOUND}] * 20, images=[IMAGE] * 20
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


# -- what a recipe needs --------------------------------------------------------------------------


class Three:
    """A segmenter that knows no signs."""

    def segment(self, image: Any, boxes: Any, points: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("recipe", "arguments", "message"),
    [
        (
            "genseg_r1_g",
            {},
            "recipe 'genseg_r1_g' looks at masks, and needs an object with a method",
        ),
        ("genseg_r1_g", {"segmenter": print}, "expected an object with a method segment"),
        (
            "seg_r1",
            {"segmenter": Three()},
            r"takes them as a fourth argument, .* got Three\.segment\(",
        ),
        ("seg_r1", {}, r"segment\(image, boxes, points, signs\), such as"),
        ("dr_seg", {"segmenter": Boxes()}, "segmenter: recipe 'dr_seg' has no use for it"),
        ("dr_seg", {"similarity": print}, "similarity: recipe 'dr_seg' has no use for it"),
        ("dpad", {"similarity": 3}, "similarity: expected a function of images and texts, got int"),
    ],
)
def test_resources_are_checked_at_once(recipe: str, arguments: Any, message: str) -> None:
    """Before any completion is scored."""
    with pytest.raises(rr.ConfigError, match=message):
        rr.Scorer(recipe, **arguments)


# -- DPAD -----------------------------------------------------------------------------------------

CAPTION = "<caption>the left cup</caption>"


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [("binary", 1, 0), ("difference", 0.0277, 0), ("scaled", 0.0071, 0), ("softmax", 0.569, 0.426)],
)
def test_dpad_forms(form: str, first: float, second: float) -> None:
    """R11 and R12: the similarities (.2554, .2277) and (.22, .25), in every form."""

    def similarity(images: Any, texts: Any) -> list[float]:
        assert len(images) == len(texts) == 4
        crops = [np.asarray(image).shape[0] < 100 for image in images]
        assert crops == [True, True, False, False]
        return [0.2554, 0.22, 0.2277, 0.25]

    recipe = rr.Recipe.load("dpad").override({"terms.discriminative.form": form})
    batch = rr.Scorer(recipe, similarity=similarity).score(
        [object_text(tail=CAPTION)] * 2, [SEG_ZERO] * 2, images=[IMAGE] * 2
    )
    assert batch.terms["discriminative"].tolist() == pytest.approx([first, second], abs=5e-4)
    assert batch.terms["caption_format"].tolist() == [1, 1]


def test_dpad_captions_that_cannot_be_compared() -> None:
    """No caption, or one that is too long for the encoder, pays nothing and says why."""

    def similarity(images: Any, texts: Any) -> Any:
        return np.array([np.nan if len(text) > 100 else 0.3 - 0.1 * (np.shape(i)[0] == 100)
                         for i, text in zip(images, texts, strict=True)])  # fmt: skip

    texts = [
        object_text(tail=CAPTION),
        object_text(),
        object_text(tail="<caption> </caption>"),
        object_text(tail=f"<caption>{'long ' * 50}</caption>"),
    ]
    batch = rr.Scorer("dpad", similarity=similarity).score(
        texts, [SEG_ZERO] * 4, images=[IMAGE] * 4
    )
    assert batch.terms["discriminative"].tolist() == [1, 0, 0, 0]
    codes = [failure and failure.code for failure in batch.failures]
    assert codes == [None, "missing_tag", "empty_caption", "long_caption"]
    assert batch.failures[3] is not None
    assert texts[3][batch.failures[3].position :].startswith("<caption>")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0.1], r"similarity: expected one number a text, shape \(2,\), got \(1,\)"),
        ([25.0, 20.0], r"similarity: expected cosines in \[-1, 1\], got 25"),
    ],
)
def test_a_broken_similarity_raises(answer: Any, message: str) -> None:
    """It is no fault of the completion."""
    scorer = rr.Scorer("dpad", similarity=lambda images, texts: answer)
    with pytest.raises(rr.InputError, match=message):
        scorer.score([object_text(tail=CAPTION)], [SEG_ZERO], images=[IMAGE])


def test_a_caption_copied_from_the_prompt_is_none() -> None:
    """Its placeholder says nothing of the image."""
    copied = object_text(tail="<caption>YOUR CAPTION</caption>")
    assert "YOUR CAPTION" in rr.prompt("dpad", "the cup")
    scorer = rr.Scorer("dpad", similarity=lambda images, texts: [0.3, 0.2][: len(texts)])
    batch = scorer.score([copied], [SEG_ZERO], images=[IMAGE])
    assert batch.terms["caption_format"].tolist() == [0]
    assert batch.terms["discriminative"].tolist() == [0]


def test_what_a_similarity_raises_goes_through_with_a_note() -> None:
    """And so does an image that is none, with its place."""

    def fails(images: Any, texts: Any) -> Any:
        raise RuntimeError("no memory")

    text = object_text(tail=CAPTION)
    with pytest.raises(RuntimeError, match="no memory") as caught:
        rr.Scorer("dpad", similarity=fails).score([text], [SEG_ZERO], images=[IMAGE])
    assert "while comparing 2 captions" in caught.value.__notes__[0]
    scorer = rr.Scorer("dpad", similarity=lambda images, texts: [0.1] * len(texts))
    with pytest.raises(rr.InputError, match="image: expected") as refused:
        scorer.score([text] * 2, [SEG_ZERO] * 2, images=[IMAGE, "cup.png"])
    assert "in the image of completion 1" in refused.value.__notes__


# -- Group Revision -------------------------------------------------------------------------------


def test_group_revision_pays_for_what_a_revision_took_away() -> None:
    """Five points for the share of the initial answer's potential; none for making it worse."""
    initial = wrap([entry([180, 100, 380, 300], [280, 200])], think="First.")
    half = wrap([entry([140, 100, 340, 300], [240, 200])], think="Better.")
    worse = wrap([entry([300, 100, 500, 300], [400, 200])], think="Worse.")
    texts = [initial, half, wrap(G1, think="Best."), worse, "unreadable"]
    batch = rr.Scorer("group_revision").score(texts, [G1] * 5, columns={"initial": [initial] * 5})

    def potential(left: float) -> float:
        return rr.metrics.potential(
            [[left, 100, left + 200, 300]], [[left + 100, 200]],
            [[100, 100, 300, 300]], [[200, 200]], size=(840, 840),
        )  # fmt: skip

    gain = 1 - potential(140) / potential(180)
    assert 0.3 < gain < 0.7
    assert batch.terms["revision"].tolist() == pytest.approx([0, 5 * gain, 5, 0, 0])
    advantages = shaping.group_revision(batch.total, batch.terms["revision"] / 5, 5, omega=0)
    expected = shaping.group_revision(
        batch.total - batch.terms["revision"], batch.terms["revision"] / 5, 5
    )
    np.testing.assert_allclose(advantages, expected)


def test_an_initial_answer_that_cannot_be_read_makes_an_ordinary_group() -> None:
    """And so does none; a perfect one leaves nothing to gain."""
    scorer = rr.Scorer("group_revision")
    columns = {"initial": ["no answer", None, wrap(G1)]}
    batch = scorer.score([wrap(G1)] * 3, [G1] * 3, columns=columns)
    assert batch.terms["revision"].tolist() == [0, 0, 0]
    with pytest.raises(
        rr.InputError, match=r"initial\[0\]: expected a completion or None, got int"
    ):
        scorer.score([wrap(G1)], [G1], columns={"initial": [3]})


def test_potential_is_worked_by_hand() -> None:
    """One pair off by a quarter of the frame in x, one object missing, one too many."""
    box, point = [[0, 0, 50, 100]], [[25, 50]]
    moved, aside = [[25, 0, 75, 100]], [[50, 50]]
    error = ((1 - 1 / 3) + 0.25 / 2 + 0.25 / 2) / 3
    size = (100, 100)
    value = rr.metrics.potential(moved, aside, box, point, size=size)
    assert value == pytest.approx(error)
    none = np.empty((0, 4)), np.empty((0, 2))
    two = [*box, [60, 0, 90, 100]], [*point, [75, 50]]
    potential = rr.metrics.potential
    assert potential(moved, aside, *two, size=size) == pytest.approx((error + 1) / 2)
    assert potential(*two, box, point, size=size) == pytest.approx(1 / 2)
    assert potential(*two, box, point, size=size, surplus=False) == 0
    assert potential(*none, box, point, size=size) == 1
    assert potential(*none, *none, size=size) == 0
    with pytest.raises(rr.InputError, match="size: expected two finite numbers above 0"):
        potential(box, point, box, point, size=(0, 1))
    with pytest.raises(rr.InputError, match="true_points: expected as many points an object"):
        potential(box, point, box, [[[1, 1], [2, 2]]], size=size)


# -- GRPO-CARE ------------------------------------------------------------------------------------


def test_grpo_care_bonus() -> None:
    """G8: of four right answers the two with a likelihood above the usual less the margin."""
    right, wrong = "<think>So.</think><answer> b </answer>", "<think>So.</think><answer>A</answer>"
    texts = [right, right, right, wrong, right, wrong, wrong, wrong]
    likelihood = [0.98, 0.60, 0.90, 0.99, 0.80, 0.5, 0.5, 0.5]
    batch = rr.Scorer("grpo_care").score(
        texts, ["B"] * 8, groups=[7] * 8, columns={"likelihood": likelihood}
    )
    assert batch.terms["consistency"].tolist() == [0.5, 0, 0.5, 0, 0, 0, 0, 0]
    assert batch.terms["accuracy"].tolist() == [1, 1, 1, 0, 1, 0, 0, 0]
    advantages = shaping.grpo(batch.total - batch.terms["format"], 8)
    expected = [1.26, 0.54, 1.26, -0.90, 0.54, -0.90, -0.90, -0.90]
    assert advantages == pytest.approx(expected, abs=5e-3)
    with pytest.raises(rr.InputError, match="groups: expected one id a completion, which 'consist"):
        rr.Scorer("grpo_care").score(texts, ["B"] * 8, columns={"likelihood": likelihood})
    with pytest.raises(rr.BadReferenceError, match="expected the right answer as a text"):
        rr.Scorer("grpo_care").score(texts, [["B"]] * 8, columns={"likelihood": likelihood})


# -- Perception-R1 --------------------------------------------------------------------------------


def test_perception_r1_squares_the_iou() -> None:
    """R4: a 10-pixel shift of 200-pixel boxes, in edges without width: IoU .8223 to .6762."""
    text = '<answer>[{"bbox_2d": [110, 110, 310, 310]}]</answer>'
    batch = rr.Scorer("perception_r1").score([text], [[{"bbox_2d": [100, 100, 300, 300]}]])
    assert batch.terms["iou"][0] == pytest.approx(0.8223**2, abs=1e-4)
    assert batch.total[0] == pytest.approx(1 + 0.6762, abs=1e-4)


def labelled(*entries: tuple[list[float], str]) -> list[dict[str, Any]]:
    return [{"bbox_2d": box, "label": label} for box, label in entries]


LEFT, RIGHT = [100, 100, 300, 300], [500, 500, 700, 700]


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        pytest.param(labelled((LEFT, "cup"), (RIGHT, "dog")), (0.25, 0.75, 1, 1, 0), id="exact"),
        pytest.param(labelled((LEFT, "cup")), (0.25, 0.75 * 2 / 3, 1, 1, -0.25), id="one missed"),
        pytest.param(labelled((LEFT, "dog"), (RIGHT, "cup")), (0.25, 0.75, 0, 1, 0), id="labels swapped"),
        pytest.param(labelled(([0, 0, 9, 9], "cup")), (0.25, 0, 0, 0, -1), id="all wrong"),
        pytest.param([], (0.25, 0, 0, 0, 0), id="empty"),
    ],
)  # fmt: skip
def test_perception_r1_detection(answer: Any, parts: tuple[float, ...]) -> None:
    """A quarter for format, F1, labels, IoU, less half the shares of wrong and missed objects."""
    truth = labelled((LEFT, "cup"), (RIGHT, "dog"))
    text = f"<answer>{json.dumps(answer)}</answer>"
    batch = rr.Scorer("perception_r1_detection").score([text], [truth])
    names = ("format", "f1", "label", "iou", "errors")
    assert [batch.terms[name][0] for name in names] == pytest.approx(parts)
    assert batch.total[0] == pytest.approx(min(max(sum(parts), 0), 3))
    assert batch.terms["clip"][0] == pytest.approx(batch.total[0] - sum(parts))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[100, 100], [900, 900]], 1.0),
        ([[100, 100]], 0.5),
        ([[130, 140], [900, 900]], 1 - 25 / (1000 * 2**0.5)),
        ([], 0.0),
        ([[100, 100], [900, 900], [1, 1], [2, 2]], 0.5),
    ],
)
def test_perception_r1_counting(points: Any, expected: float) -> None:
    """The ratio of the counts times how near the matched points are."""
    truth = [{"point_2d": point} for point in ([100, 100], [900, 900])]
    text = f"<answer>{json.dumps([{'point_2d': point} for point in points])}</answer>"
    batch = rr.Scorer("perception_r1_counting").score([text], [truth])
    assert batch.total[0] == pytest.approx(expected)


# -- Dr. Seg's keyword ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "think", "paid"),
    [
        ("look", "<look>it</look>", True),
        ("look", "<wait>it</wait>", False),
        ("wait", "<wait>it</wait>", True),
        ("any", "<wait>it</wait>", True),
        ("any", "<see_it>it</see_it>", True),
        ("any", "<look> </look>", False),
        ("any", "<look>it</wait>", False),
    ],
)
def test_the_keyword_is_a_parameter(keyword: str, think: str, paid: bool) -> None:
    """The paper compares look, wait and any."""
    recipe = rr.Recipe.load("dr_seg").override({"response.keyword": keyword})
    batch = rr.Scorer(recipe).score([wrap(G1, think=think)], [G1])
    assert batch.terms["look"][0] == float(paid)
    asked = "look" if keyword == "any" else keyword
    assert f"<{asked}>" in rr.prompt(recipe, "the cup")


# -- duplicates and references --------------------------------------------------------------------


def test_what_is_annotated_twice_is_one_thing_to_find() -> None:
    """A reference with the same object twice means the same as with it once."""
    batch = rr.Scorer("vision_reasoner").score([wrap(G1)] * 2, [G1, [*G1, *G1]])
    assert batch.total[0] == batch.total[1] == 7


def test_recipes_say_what_does_not_fit_together() -> None:
    """A term or metric needs a response that can hold what it looks at."""
    recipe = rr.Recipe.load("vision_reasoner")
    for changes, message in (
        ({"terms.caption": {"kind": "caption", "weight": 1}}, "'caption' .caption. needs a response"),
        ({"terms.look": {"kind": "keyword", "weight": 1}}, "needs response.keyword, got none"),
        ({"response.keyword": "look", "response.think": False}, "needs a think block"),
        ({"response.schema": "text"}, "every schema but 'text' needs a frame"),
        ({"accuracy.matching": None}, "it needs a matching"),
        ({"accuracy.metrics.iou.share": 0, "accuracy.metrics.box.share": 0,
          "accuracy.metrics.point.share": -1}, "one of the metrics must have a share above 0"),
        ({"terms.more": {"kind": "consistency", "metric": "ious", "weight": 1}}, "got 'ious'"),
        ({"accuracy.metrics.d": {"kind": "detection", "part": "label", "above": 0.5}}, "labelled_boxes"),
        ({"nothing.here": 1}, "no section 'nothing'"),
        ({"clip": {"low": 1, "high": 1}}, "high must be above low"),
    ):  # fmt: skip
        with pytest.raises(rr.ConfigError, match=message):
            recipe.override(changes)
