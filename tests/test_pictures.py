"""Pictures: the right pixels in the right colour, at any size, on any ground."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_runs import HOSTILE, PROTOCOL, RECIPE, a_run, question, samples
from PIL import Image

import rankreward as rr
from rankreward.evaluation.facts import facts_of
from rankreward.evaluation.samples import Question, Sample
from rankreward.report.cards import Part, ious, make_cards, marked, pick, scored_by
from rankreward.report.pictures import PREDICTION, REFERENCE, line_width, overlay
from rankreward.report.sheets import card_sheet, draw_card

GREY = 128
YELLOW, BLACK = map(np.array, PREDICTION)
BLUE, WHITE = map(np.array, REFERENCE)


def plain(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def drawn(width: int, height: int, **what: Any) -> np.ndarray:
    return np.asarray(overlay(plain(width, height), **what))


def are(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return (pixels == colour).all(axis=-1)


@pytest.mark.parametrize(("width", "height"), [(40, 30), (60, 375), (840, 840), (4000, 3000)])
def test_box_is_drawn_where_it_is(width: int, height: int) -> None:
    """A box's line is its outermost pixels, as wide as `line_width`, cased on both sides."""
    x1, y1, x2, y2 = width // 4, height // 4, width // 4 * 3, height // 4 * 3
    line = line_width(width, height)
    case = (line + 1) // 2
    rows, columns = np.mgrid[:height, :width]
    away = np.maximum.reduce([x1 - columns, columns - x2 + 1, y1 - rows, rows - y2 + 1])
    want = plain(width, height)
    want[(away <= case) & (away > -line - case)] = BLACK
    want[(away <= 0) & (away > -line)] = YELLOW
    assert np.array_equal(drawn(width, height, boxes=[[x1, y1, x2, y2]]), want)
    assert np.array_equal(drawn(width, height, boxes=[[x2, y2, x1, y1]]), want)


def test_lines_grow_with_the_image() -> None:
    """Lines are 1 pixel wide on small images, and keep their share of large ones."""
    assert [line_width(n, 30) for n in (40, 374, 375, 840, 4000)] == [1, 1, 2, 3, 16]
    assert line_width(30, 4000) == 16


def test_reference_is_dashed_and_both_are_seen() -> None:
    """A reference's line is blue on white; on a box that is the same, dashes leave it seen."""
    alone = drawn(100, 100, reference_boxes=[[20, 20, 80, 80]])
    top = alone[20, 20:80]
    assert (are(top, BLUE) | are(top, WHITE)).all()
    assert are(top, BLUE).mean() == pytest.approx(0.5, abs=0.1)
    same = drawn(100, 100, boxes=[[20, 20, 80, 80]], reference_boxes=[[20, 20, 80, 80]])
    for side in (same[20, 20:80], same[79, 20:80], same[20:80, 20], same[20:80, 79]):
        assert (are(side, BLUE) | are(side, YELLOW)).all()
        assert 0.3 < are(side, BLUE).mean() < 0.7
    assert are(same, BLACK).any()


def test_predicted_mask_is_filled_and_outlined() -> None:
    """Inside a mask the image shows through, its rim is yellow, what is around it black."""
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:50] = True
    found = drawn(80, 60, mask=mask)
    assert np.array_equal(found[30, 40], np.round(0.65 * GREY + 0.35 * YELLOW))
    rim = mask.copy()
    rim[21:39, 31:49] = False
    assert np.array_equal(are(found, YELLOW), rim)
    around = np.zeros_like(mask)
    around[19:41, 29:51] = True
    assert np.array_equal(are(found, BLACK), around & ~mask)
    assert (found[~around] == GREY).all()


def test_reference_mask_is_outlined_alone() -> None:
    """A reference mask hides nothing of what lies inside it, and ends at the image's edge."""
    mask = np.zeros((60, 80), bool)
    mask[0:40, 0:50] = True
    found = drawn(80, 60, reference_mask=mask)
    rim = mask.copy()
    rim[1:39, 1:49] = False
    assert np.array_equal(are(found, BLUE), rim)
    assert (found[1:39, 1:49] == GREY).all()
    assert are(found[40, :51], WHITE).all()


def test_points_are_discs_and_negative_ones_rings() -> None:
    """A point's middle is yellow, a negative one's black; a missing one is not drawn."""
    places = [[[20.5, 30.5], [60.5, 30.5]], [[math.nan, math.nan], [None, None]]]
    found = drawn(80, 60, points=places, signs=[[1, 0], [-1, -1]])
    assert np.array_equal(found[30, 20], YELLOW)
    assert np.array_equal(found[30, 60], BLACK)
    assert np.array_equal(found[30, 63], YELLOW)
    marks = np.argwhere((found != GREY).any(axis=-1))
    near = np.minimum(*(np.hypot(*(marks - [30, x]).T) for x in (20, 60)))
    assert near.max() < 5
    # A disc is as wide one way as the other, around the middle of its pixel.
    disc = are(found[20:41, 10:31], YELLOW)
    assert np.array_equal(disc, disc.T)
    assert np.array_equal(disc, disc[::-1])
    assert disc.any()


BOX = st.lists(st.floats(-300, 400) | st.just(math.nan), min_size=4, max_size=4)


@settings(max_examples=60)
@given(st.lists(BOX, max_size=3), st.integers(1, 60), st.integers(1, 60))
def test_nothing_is_drawn_far_from_a_box(boxes: list[Any], width: int, height: int) -> None:
    """The size stays; what is more than two pixels from every box's edge stays as it was."""
    found = drawn(width, height, boxes=boxes, reference_boxes=boxes[:1])
    assert found.shape == (height, width, 3)
    rows, columns = np.mgrid[:height, :width]
    near = np.zeros((height, width), bool)
    for box in boxes:
        if any(map(math.isnan, box)):
            continue
        (x1, x2), (y1, y2) = sorted(box[::2]), sorted(box[1::2])
        inside = (columns >= x1 - 3) & (columns < x2 + 3) & (rows >= y1 - 3) & (rows < y2 + 3)
        core = (columns >= x1 + 3) & (columns < x2 - 3) & (rows >= y1 + 3) & (rows < y2 - 3)
        near |= inside & ~core
    assert (found[~near] == GREY).all()


def test_places_beyond_the_image() -> None:
    """Boxes and points outside are left out; of one that juts out only the part inside is seen."""
    far = [[200, 200, 300, 300], [-1e6, -1e6, -1e5, -1e5], [-50, -50, 500, 500]]
    assert (drawn(80, 60, boxes=far, points=[[-99, 5], [1e6, 1e6]]) == GREY).all()
    jut = drawn(80, 60, boxes=[[40, -50, 500, 30]])
    assert are(jut[:30, 40], YELLOW).all()
    assert are(jut[29, 40:], YELLOW).all()
    assert (jut[2:26, 44:] == GREY).all()
    whole = drawn(80, 60, boxes=[[0, 0, 80, 60]])
    for side in (whole[0], whole[-1], whole[:, 0], whole[:, -1]):
        assert are(side, YELLOW).all()


def test_nothing_to_draw() -> None:
    """An empty or missing answer, and no reference, leave the image as it is."""
    none = np.zeros((60, 80), bool)
    for what in (
        {},
        {"boxes": [], "points": [], "mask": none},
        {"boxes": None, "points": [[], []]},
    ):
        assert (drawn(80, 60, **what) == GREY).all()
    image = Image.fromarray(plain(80, 60))
    overlay(image, boxes=[[1, 1, 20, 20]])
    assert (np.asarray(image) == GREY).all()
    assert overlay(Image.new("L", (8, 6))).mode == "RGB"


def test_box_without_area_is_seen() -> None:
    """A box that is a line or a point still has the width of one line."""
    assert are(drawn(80, 60, boxes=[[30, 20, 30, 20]])[20, 30], YELLOW)
    assert are(drawn(80, 60, boxes=[[30, 20, 30, 40]])[20:40, 30], YELLOW).all()


def test_resized_before_it_is_drawn() -> None:
    """With `side` places are scaled with the image, and lines suit the picture's size."""
    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:20] = True
    what: Any = {"boxes": [[10, 10, 20, 20]], "mask": mask, "points": [[15, 15]]}
    found = drawn(40, 30, **what, side=400)
    scaled: Any = {"boxes": [[100, 100, 200, 200]], "points": [[150, 150]]}
    scaled["mask"] = mask.repeat(10, 0).repeat(10, 1)
    assert np.array_equal(found, drawn(400, 300, **scaled))
    assert overlay(plain(4000, 30), side=100).size == (100, 1)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"boxes": [[1, 2, 3]]}, r"boxes: expected shape \(N, 4\), got \(1, 3\)"),
        ({"points": [1, 2]}, r"points: expected shape \(N, 2\)"),
        ({"points": [[1, 2]], "signs": [1, 0]}, "signs: expected one a point, 1, got 2"),
        ({"mask": np.zeros((80, 60), bool)}, r"mask: expected \(H, W\) bool of the image's size"),
        ({"reference_mask": np.zeros((60, 80))}, "reference_mask: expected .* got float64"),
        ({"side": 0}, "side: expected at least 1, got 0"),
    ],
)
def test_overlay_refuses(what: dict[str, Any], message: str) -> None:
    """Arguments of another shape are an error that names them."""
    with pytest.raises(rr.InputError, match=message):
        drawn(80, 60, **what)
    with pytest.raises(rr.InputError, match="image: expected"):
        overlay(np.zeros((4, 4)), **what)


def luminance(colour: Any) -> float:
    """Relative luminance of WCAG 2.2."""
    c = np.array(colour) / 255
    return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ WEIGHTS)


WEIGHTS = np.array([0.2126, 0.7152, 0.0722])


def test_lines_stand_out_from_any_ground() -> None:
    """On every ground a line's colour or its casing has 3 to 1 of contrast (WCAG 2.2, 1.4.11)."""
    for ground in product(range(0, 256, 15), repeat=3):
        for pen in (PREDICTION, REFERENCE):
            pairs = [sorted((luminance(ground), luminance(c))) for c in pen]
            assert max((high + 0.05) / (low + 0.05) for low, high in pairs) >= 3, ground


# Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision
# Deficiency, 2009, severity 1.0, on linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "none": np.eye(3).tolist(),
    "all": [WEIGHTS.tolist()] * 3,
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_stay_apart_for_the_colour_blind(kind: str) -> None:
    """Yellow and blue are far apart in CIELAB (CIE 1976) whatever the eye; 2.3 is just noticeable."""
    first, second = (lab(pen.colour, BLINDNESS[kind]) for pen in (PREDICTION, REFERENCE))
    assert np.linalg.norm(first - second) > 40


def lab(colour: Any, matrix: Any) -> np.ndarray:
    c = np.array(colour) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def cards(records: list[Any], count: int = 12) -> list[Any]:
    return list(make_cards(records, samples(count), recipe=RECIPE, protocol=PROTOCOL, side=200))


def test_card_says_what_the_record_says() -> None:
    """A card has the query, the reasoning with what was looked at, the answer and the measures."""
    records = a_run(4)
    card, unread = cards(records)[1:3]
    assert (card.id, card.place, card.query) == ("s/1 <i>", 1, "thing 1")
    looks = [part.text for part in card.texts["Reasoning"] if part.looked]
    assert looks == [f"the {HOSTILE} cup"]
    assert "".join(part.text for part in card.texts["Reasoning"]).startswith("First the </script>")
    assert card.texts["Answer"][0].text.startswith('[{"bbox_2d"')
    assert (card.code, card.problem, card.count, card.asked) == (None, "", 1, 1)
    pixels = records[1]["pixels"]
    union = pixels["both"] + pixels["extra"] + pixels["missed"]
    assert card.mask_iou == pytest.approx(pixels["both"] / union)
    # Off by 8 of 840 pixels, that is 8 / 7 of 50 in the image.
    assert card.box_iou == pytest.approx((50 - 8 / 7) / (50 + 8 / 7))
    assert card.numbers() == {
        "mask IoU": f"{card.mask_iou:.3f}",
        "box IoU": f"{card.box_iou:.3f}",
        "objects": "1 of 1",
    }
    assert unread.code == "bad_number"
    assert unread.problem.startswith("bad_number: ")
    assert unread.numbers()["objects"] == "unreadable of 1"
    assert unread.mask_iou == 0


def test_card_shows_answer_and_reference() -> None:
    """A card's picture has the record's boxes and mask and the sample's, scaled alike."""
    card = cards(a_run(4))[3]
    pixels = np.asarray(card.picture)
    assert card.picture.size == (200, 133)
    x1 = round(a_run(4)[3]["boxes"][0][0] * 200 / 120)
    assert are(pixels[30:70, x1], YELLOW).mean() > 0.6
    assert are(pixels[:, round(10 * 200 / 120)], BLUE).sum() > 20


def test_answers_in_other_schemas_have_cards() -> None:
    """Points without boxes, and a segmenter's prompts with points off the object, are drawn."""
    tags = "<bbox>[70, 105, 420, 525]</bbox><points>[[140, 210], [280, 420]]</points><labels>[1, 0]</labels>"
    points = '<answer>[{"point_2d": [140, 210]}]</answer>'
    for name, text, ring in (
        ("seg_r1", f"<think>so</think>{tags}", True),
        ("perception_r1_counting", points, False),
    ):
        recipe = rr.Recipe.load(name)
        recipe = recipe.override(
            {"response.frame": {"width": 840, "height": 840, "unit": "pixels"}}
        )
        record = {
            "id": "s/1 <i>",
            "place": 1,
            "completion": text,
            **facts_of(question(1), text, recipe),
        }
        (card,) = make_cards([record], samples(2), recipe=recipe, protocol=PROTOCOL, side=120)
        assert card.count == 1
        assert card.texts["Answer"][0].text == (tags if ring else points[8:-9])
        pixels = np.asarray(card.picture)
        assert are(pixels[20, 20], YELLOW)
        assert are(pixels[40, 40], BLACK) == ring


def test_correct_rejection_is_not_among_the_worst() -> None:
    """Where a protocol gives a right rejection 0, it has no mask IoU of its own; a wrong box has."""
    protocols = rr.evaluation.PROTOCOLS
    right = a_run(7)[6]
    wrong = {**right, "count": 1, "pixels": {**right["pixels"], "extra": 50}}
    assert math.isnan(ious(right, protocols["seg_zero"])[1])
    assert math.isnan(ious(right, protocols["dr_seg"])[1])
    assert ious(right, protocols["rela"])[1] == 1
    assert ious(wrong, protocols["seg_zero"])[1] == ious(wrong, protocols["rela"])[1] == 0


def test_pick() -> None:
    """Worst and best are by the measure that the run has; errors and the unknown are left out."""
    records = a_run(12, errors=(3, 7))
    protocol = rr.evaluation.PROTOCOLS[PROTOCOL]
    good = [record for record in records if "error" not in record]
    known = [record for record in good if not math.isnan(ious(record, protocol)[1])]
    assert 0 < len(known) < len(good)
    scores = [ious(record, protocol)[1] for record in pick(records, "worst", 12, PROTOCOL)]
    assert scores == sorted(ious(record, protocol)[1] for record in known)
    best = pick(records, "best", 3, PROTOCOL)
    assert [ious(record, protocol)[1] for record in best] == scores[:-4:-1]
    assert [record["place"] for record in pick(records, "first", 3, PROTOCOL)] == [0, 1, 2]
    assert [record["place"] for record in pick(records, "errors", 9, PROTOCOL)] == [3, 7]
    boxed = [{**record, "pixels": None} for record in good]
    assert (scored_by(records), scored_by(boxed)) == ("mask IoU", "box IoU")
    worst = pick(boxed, "worst", 1, PROTOCOL)[0]
    assert ious(worst, protocol)[0] == np.nanmin([ious(record, protocol)[0] for record in boxed])
    with pytest.raises(rr.InputError, match="expected one of first, worst, best, errors"):
        pick(records, "last", 3, PROTOCOL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "looks", "keyword", "parts"),
    [
        (
            "red <b>red</b> <look> red </look>",
            ["red"],
            "look",
            [("red <b>red</b> ", False), ("red", True)],
        ),
        ("<LOOK>a</LOOK><look>a</look>", ["a", "a"], "look", [("a", True), ("a", True)]),
        ("<zoom>a.*</zoom>b", ["a.*"], "any", [("a.*", True), ("b", False)]),
        ("<look>a", [], "look", [("<look>a", False)]),
        ("a", [], None, [("a", False)]),
        ("", [], "look", []),
    ],
)
def test_marked(text: str, looks: list[str], keyword: Any, parts: list[Any]) -> None:
    """What stands in the keyword's tag is marked there, not where the same words stand before."""
    assert marked(text, looks, keyword) == tuple(Part(*part) for part in parts)


def test_marked_takes_linear_time() -> None:
    """A long text of tags that never close is one part at once."""
    text = "<look>" * 50_000 + " " * 50_000
    assert marked(text, ["x"] * 20, "look") == (Part(text),)


def test_contact_sheet_holds_every_card() -> None:
    """Cards stand line by line, each as it is drawn alone; those without a picture, too."""
    records = a_run(5, errors=(4,))

    def broken() -> Question:
        raise rr.InputError("image: cut short")

    some = [*samples(4), Sample("s/4 <i>", 4, broken)]
    made = list(make_cards(records, some, recipe=RECIPE, protocol=PROTOCOL, side=200))
    assert made[4].picture is None
    sheet = card_sheet(made, columns=2, width=400)
    assert (sheet.size, sheet.mode) == ((800, 600), "RGB")
    for place, card in enumerate(made):
        left, top = place % 2 * 400, place // 2 * 200
        alone = draw_card(card, 400, 200)
        assert np.array_equal(
            np.asarray(sheet.crop((left, top, left + 400, top + 200))), np.asarray(alone)
        )
        dark = (np.asarray(alone.convert("L")) < 120).any(axis=1)
        assert dark[:100].any()
        # Texts end where the card does.
        assert (np.asarray(alone)[-8:, 210:] == 255).all()
        assert (np.asarray(alone)[:, -6:] == 255).all()
    assert (np.asarray(sheet)[400:, 400:] == 255).all()
    assert are(np.asarray(draw_card(made[1], 400, 200)), np.array((255, 233, 150))).sum() > 100
    for bad in ({"columns": 0}, {"width": 100}):
        with pytest.raises(rr.InputError, match="card_sheet: expected cards"):
            card_sheet(made, **bad)
    with pytest.raises(rr.InputError, match="got 0 cards"):
        card_sheet([])


def test_queries_differ_from_card_to_card() -> None:
    """The samples of these tests are what they say, the fourth with a hostile query."""
    assert [question(place).query for place in (3, 4)] == ["thing 3", HOSTILE]
