"""VisionReasoner and Dr. Seg as released: against published answers, worked examples and `re`."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rankreward as rr
from rankreward.rewards.released import dr_seg, vision_reasoner
from rankreward.rewards.released.text import first_body, has_only_blocks

GOLDEN = Path(__file__).parent / "golden" / "rollouts.jsonl.gz"
ROWS = [json.loads(line) for line in gzip.decompress(GOLDEN.read_bytes()).splitlines()]
MULTI = [row for row in ROWS if row["family"] == "multi"]
Entry = tuple[list[Any], list[Any]]
G1: list[Entry] = [([100, 100, 300, 300], [200, 200])]
G2: list[Entry] = [*G1, ([500, 500, 700, 700], [600, 600])]

# Tags and what may stand between them, \x1c and \x85 being white space to `re`.
PIECES = [
    *(f"<{slash}{tag}>" for tag in ("think", "answer", "caption", "look") for slash in ("", "/")),
    *(" ", "\n", "\x1c", "\x85", "\u3000", "x", "<", ">", "<think", "answer>"),
]
pieces = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
# Mostly well-formed, so that both answers come up.
blocks = st.builds(lambda a, b, c: f"<think>{a}</think>{b}<answer>{c}</answer>", *[pieces] * 3)
texts = pieces | blocks | st.builds(lambda a, b: f"{a}<caption>{b}</caption>", blocks, pieces)


def dumps(entries: list[Entry]) -> str:
    return json.dumps([{"bbox_2d": box, "point_2d": point} for box, point in entries])


def wrap(answer: str, thought: str = "One.") -> str:
    return f"<think>{thought}</think>\n<answer>{answer}</answer>"


def shifted(entries: list[Entry], dx: float) -> list[Entry]:
    return [([a + dx, b, c + dx, d], [x + dx, y]) for (a, b, c, d), (x, y) in entries]


# -- the published answers ------------------------------------------------------------------------


def test_vision_reasoner_gives_the_published_answers() -> None:
    """Every number of every row, within 1e-9."""
    good: Counter[str] = Counter()
    for row in MULTI:
        got = vision_reasoner.score(row["text"], row["reference"])
        good.update(k for k, v in row["vision_reasoner"].items() if abs(got[k] - v) <= 1e-9)
    assert good == dict.fromkeys(("format", "accuracy", "non_repeat", "total"), len(MULTI))


def test_dr_seg_gives_the_published_answers() -> None:
    """Every number of every row, within 1e-9; NaN where NaN was published."""
    good: Counter[str] = Counter()
    for row in MULTI:
        terms, metrics = dr_seg.score(row["text"], row["reference"])
        published = row["dr_seg"]
        expected = dict(zip(("iou", "count", "point"), published["metrics"], strict=True))
        expected |= {key: published[key] for key in ("format", "non_repeat")}
        got = terms | metrics
        assert got.keys() == expected.keys()
        good.update(
            key for key, value in expected.items()
            if abs(got[key] - value) <= 1e-9 or (math.isnan(value) and math.isnan(got[key]))
        )  # fmt: skip
    assert good == dict.fromkeys(("format", "non_repeat", "iou", "count", "point"), len(MULTI))


# -- worked examples ------------------------------------------------------------------------------

EXACT = dumps(G1)
WRONG: list[Entry] = [([0, 0, 20, 20], [10, 10]), ([800, 800, 820, 820], [810, 810])]
NO_POINT = json.dumps(
    [{"bbox_2d": G1[0][0], "point_2d": G1[0][1]}, {"bbox_2d": [500, 500, 700, 700]}]
)
FILLER = shifted(G1, 24)  # IoU and point count, the distance of the boxes does not


@pytest.mark.parametrize(
    ("text", "truth", "expected"),
    [
        pytest.param(wrap(EXACT), G1, (3, 3, 1, 7), id="V1 exact"),
        pytest.param(wrap(dumps([([105, 95, 305, 295], [212, 216])])), G2, (3, 1.5, 1, 5.5), id="V2 one of two"),
        pytest.param(wrap(dumps(G1 + WRONG)), G1, (3, 1, 1, 5), id="V3 two wrong boxes too"),
        pytest.param(wrap(NO_POINT), G2, (2.5, 0, 1, 3.5), id="V4 one lacks the point"),
        pytest.param(wrap(EXACT.replace('"', "'")), G1, (1, 0, 1, 2), id="V5 single quotes"),
        pytest.param(wrap("[]"), [], (1, 0, 1, 2), id="V6 rightly empty"),
        pytest.param(wrap("[]"), G1, (1, 0, 1, 2), id="V6b wrongly empty"),
        pytest.param(wrap(EXACT), [], (3, 0, 1, 4), id="V6c a box for nothing"),
        pytest.param(wrap(dumps([([110, 110, 310, 310], [230, 200])])), G1, (3, 1, 1, 5), id="V7 at the thresholds"),
        pytest.param(wrap(dumps([([110, 110, 310, 309], [229, 200])])), G1, (3, 3, 1, 7), id="V7b within them"),
        pytest.param(wrap(dumps([([100, 100, 150, 150], [200, 200])])), G1, (3, 0, 1, 4), id="V8 point outside its box"),
        pytest.param(wrap(f"```json\n{EXACT}\n```"), G1, (1, 0, 1, 2), id="V9 fence"),
        pytest.param(wrap(EXACT) + "<|im_end|>", G1, (2, 3, 1, 6), id="V10 trailing token"),
        pytest.param(wrap(EXACT) + "\n", G1, (2, 3, 1, 6), id="V10 trailing newline"),
        pytest.param(" " + wrap(EXACT), G1, (2, 3, 1, 6), id="V10 leading space"),
        pytest.param(wrap(EXACT) * 2, G1, (3, 3, 1, 7), id="V13 twice"),
        pytest.param(wrap(EXACT[1:-1]), G1, (1, 0, 1, 2), id="V17 dict for a list"),
        pytest.param(wrap(dumps([(["100", "100", "300", "300"], ["200", "200"])])), G1, (3, 0, 1, 4), id="V18 numbers as text"),
        pytest.param(wrap(dumps([([math.nan] * 4, [math.nan] * 2)])), G1, (3, 0, 1, 4), id="V19 NaN"),
        pytest.param(wrap(dumps(FILLER * 125 + G1 + FILLER * 4)), G1, (3, 2 / 120, 1, 4 + 2 / 120), id="V20 beyond the cap"),
        pytest.param(wrap(dumps(FILLER * 5 + G1 + FILLER * 124)), G1, (3, 3 / 120, 1, 4 + 3 / 120), id="V21 within it"),
    ],
)  # fmt: skip
def test_vision_reasoner_examples(text: str, truth: list[Entry], expected: Any) -> None:
    """The worked examples of format, accuracy, non-repeat and total."""
    got = vision_reasoner.score(text, dumps(truth))
    assert tuple(got.values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("Hm. A cat. A cat. A cat. B", 0),
        ("Hm. A cat. A cat. B", 1),
        ("A cat! A cat! A cat! B", 1),
        ("Hm. A cat. A CAT. a cat. B", 1),
    ],
)
def test_vision_reasoner_repeats(thought: str, expected: float) -> None:
    """Sentences end at full stops only, and case tells them apart."""
    assert vision_reasoner.score(wrap(EXACT, thought), EXACT)["non_repeat"] == expected


def test_vision_reasoner_takes_decimals_for_sentences() -> None:
    """Two alike objects with decimals repeat what stands between the points."""
    entries: list[Entry] = [([10.5, 20.5, 30.5, 40.5], [20.5, 30.5])] * 2
    assert vision_reasoner.score(wrap(dumps(entries)), EXACT)["non_repeat"] == 0


@pytest.mark.parametrize(
    ("box", "truth", "iou"),
    [
        ([5, 5, 5, 5], [5, 5, 5, 5], 1.0),
        ([0, 0, 9, 9], [10, 0, 19, 9], 0.0),
        ([0, 0, 9, 9], [9, 0, 18, 9], 10 / 190),
    ],
)
def test_boxes_hold_their_edges(box: Any, truth: Any, iou: float) -> None:
    """A box without width is one pixel wide; touching edges share a column."""
    text = wrap(dumps([(box, [0, 0])]))
    assert dr_seg.score(text, dumps([(truth, [0, 0])]))[1]["iou"] == pytest.approx(iou)


COLD = [[0.0, 0.0, 0.0]] * 128
HISTORY = [[(i + 1) / 1000, 1.0 if i < 600 else 0.5, 0.0 if i < 300 else 1.0] for i in range(1000)]
LOOK = "One. <look>the left</look>"
MOVED = shifted(G2, 80)
FAR: list[Entry] = [([110, 110, 310, 310], [300, 200])]
NAN: list[Entry] = [([math.nan] * 4, [math.nan] * 2)]
TEXTS: list[Entry] = [(["100", "100", "300", "300"], ["200", "200"])]


@pytest.mark.parametrize(
    ("text", "truth", "history", "x", "ranks", "accuracy", "total"),
    [
        pytest.param(wrap(EXACT, LOOK), G1, COLD, (1, 1, 1), (1, 1, 1), 3, 8, id="D1 cold, exact"),
        pytest.param("garbage", G1, COLD, (0, 0, 0), (1, 1, 1), 3, 4, id="D2 cold, garbage"),
        pytest.param(wrap(EXACT), G1, COLD, (1, 1, 1), (1, 1, 1), 3, 7, id="D3 cold, no look"),
        pytest.param(wrap(EXACT, LOOK + " your reasoning text"), G1, COLD, (1, 1, 1), (1, 1, 1), 3, 7, id="D4 placeholder"),
        pytest.param(wrap(EXACT, LOOK), G1, HISTORY, (1, 1, 1), (1, 1, 1), 3, 8, id="D5 exact"),
        pytest.param("garbage", G1, HISTORY, (0, 0, 0), (0, 0, 0.3), 0.3, 1.3, id="D6 garbage"),
        pytest.param(wrap(dumps(FAR), LOOK), G1, HISTORY, (0.8231, 1, 0.5882), (0.8, 1, 0.3), 2.1, 7.1, id="D7 off"),
        pytest.param(wrap(EXACT, LOOK), G2, HISTORY, (1, 0.5, 1), (1, 0.4, 1), 2.4, 7.4, id="D8 one of two"),
        pytest.param(wrap(dumps(MOVED[::-1]), LOOK), G2, HISTORY, (0, 1, 0), (0, 1, 0.3), 1.3, 6.3, id="D10 swapped"),
        pytest.param(wrap(dumps(MOVED), LOOK), G2, HISTORY, (0.4306, 1, 0.7059), (0.4, 1, 0.3), 1.7, 6.7, id="D10b in order"),
        pytest.param(wrap("[]", LOOK), [], HISTORY, (0, 1, 0), (0, 1, 0.3), 1.3, 4.3, id="D11 rightly empty"),
        pytest.param(wrap(EXACT, LOOK), [], HISTORY, (0, 0, 0), (0, 0, 0.3), 0.3, 5.3, id="D12 a box for nothing"),
        pytest.param(wrap(dumps(NAN), LOOK), G1, HISTORY, (math.nan, 1, math.nan), (1, 1, 1), 3, 8, id="D13 NaN"),
        pytest.param(wrap(dumps(TEXTS), LOOK), G1, HISTORY, (1, 1, 1), (1, 1, 1), 3, 8, id="D14 numbers as text"),
        pytest.param(wrap(NO_POINT, LOOK), G2, HISTORY, (0, 0, 0), (0, 0, 0.3), 0.3, 4.8, id="D15 one lacks the point"),
        pytest.param(wrap(EXACT.replace('"', "'"), LOOK), G1, HISTORY, (0, 0, 0), (0, 0, 0.3), 0.3, 3.3, id="D16 single quotes"),
        pytest.param(wrap(dumps(G1 + WRONG), LOOK), G1, HISTORY, (1, 1 / 3, 1), (1, 0, 1), 2, 7, id="D17 three for one"),
    ],
)  # fmt: skip
def test_dr_seg_examples(
    text: str, truth: list[Entry], history: Any, x: Any, ranks: Any, accuracy: float, total: float
) -> None:
    """The worked examples: metrics, ranks rounded to one decimal, their sum and the total."""
    terms, metrics = dr_seg.score(text, dumps(truth))
    assert tuple(metrics.values()) == pytest.approx(x, abs=5e-5, nan_ok=True)
    service = rr.QuantileService(tuple(metrics), warm_start=0, order="arrival", precision="float32")
    service.push(history)
    service.flush(step=1)
    got = [round(q, 1) for q in service.rank([list(metrics.values())])[0].tolist()]
    got = [1.0 if math.isnan(q) else q for q in got]  # the released search sorts NaN last
    assert got == list(ranks)
    assert sum(got) == pytest.approx(accuracy)
    assert sum(terms.values()) + sum(got) == pytest.approx(total)


def test_dr_seg_without_its_service() -> None:
    """What D0 is paid by the terms alone; the released code then adds nothing."""
    terms, _ = dr_seg.score(wrap(EXACT, LOOK), EXACT)
    assert sum(terms.values()) == 5


# -- any text at all ------------------------------------------------------------------------------


@given(texts)
def test_blocks_are_what_the_expression_matches(text: str) -> None:
    """The linear scan says what the usual regular expressions say, on any arrangement of tags."""
    two = r"<think>.*?</think>\s*<answer>.*?</answer>"
    three = two + r"\s*<caption>.*?</caption>"
    assert has_only_blocks(text, "think", "answer") == bool(re.fullmatch(two, text, re.DOTALL))
    three_tags = ("think", "answer", "caption")
    assert has_only_blocks(text, *three_tags) == bool(re.fullmatch(three, text, re.DOTALL))
    assert has_only_blocks(text, "look") == bool(re.fullmatch(r"<look>.*?</look>", text, re.DOTALL))


@given(texts)
def test_bodies_are_what_the_expression_captures(text: str) -> None:
    """So do the first body, stripped or not, and the looks in it."""
    answer = re.search(r"<answer>\s*(.*?)\s*</answer>", text, re.DOTALL)
    body = first_body(text, "answer")
    assert (body is None) == (answer is None)
    if body is not None and answer is not None:
        assert body.strip() == answer.group(1)
    think = re.search(r"<think>(.*?)</think>", text, re.DOTALL)
    assert first_body(text, "think") == (think and think.group(1))
    looks = re.findall(r"<look>(.*?)</look>", text, re.DOTALL)
    assert dr_seg._has_look(text) == any(look.strip() for look in looks)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "5", "bbox_2d"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["bbox_2d", "point_2d", "x"]), inner)
    ),
    max_leaves=30,
)
number = st.integers(0, 840) | st.floats() | st.sampled_from([2**63, -(2**63), 10**400, None, True, "7"])  # fmt: skip
item = st.fixed_dictionaries(
    {"bbox_2d": st.lists(number, min_size=4, max_size=4), "point_2d": st.lists(number, min_size=2, max_size=2)}
)  # fmt: skip


@given(anything | st.lists(item, max_size=3), anything | st.lists(item, max_size=3))
def test_nothing_raises_and_all_is_in_range(answer: Any, truth: Any) -> None:
    """Whatever JSON stands in the answer or the reference."""
    text, reference = wrap(json.dumps(answer)), json.dumps(truth)
    got = vision_reasoner.score(text, reference)
    assert 0 <= got["format"] <= 3 + 1e-9
    assert 0 <= got["accuracy"] <= 3
    assert got["total"] == sum(got[key] for key in ("format", "accuracy", "non_repeat"))
    terms, metrics = dr_seg.score(text, reference)
    assert terms["format"] == got["format"]
    for name, value in metrics.items():
        assert 0 <= value <= 1 or (math.isnan(value) and name != "count")


@pytest.mark.parametrize("reference", ["", "{}", "null", "[1]", "[[", '[{"bbox_2d": [1]}]'])
def test_broken_references_pay_nothing(reference: str) -> None:
    """To both codes a reference that they cannot read has no objects."""
    assert vision_reasoner.score(wrap(EXACT), reference)["accuracy"] == 0
    _, metrics = dr_seg.score(wrap(EXACT), reference)
    assert metrics == {"iou": 0, "count": 0, "point": 0}


def test_numeric_texts_are_not_padded() -> None:
    """A long text among 120 boxes costs no memory of 480 times its length."""
    item_ = '{"bbox_2d": ["1", 1, 1, 1], "point_2d": [1, "1"]}'
    long = item_.replace('"1"', f'"{"9" * 1_000_000}"', 1)
    text = wrap(f"[{', '.join([long] + [item_] * 119)}]")
    assert vision_reasoner.score(text, EXACT)["accuracy"] == 0
    assert dr_seg.score(text, EXACT)[1]["count"] == pytest.approx(1 / 120)


HOSTILE = [
    "<think>", "</think>", "<answer>", "</answer>", "<look>", "</look>", "</think> ", " ", "[", "9",
    "</think><answer>", "<think></think><answer>", "<look> </look>", "<look><look>", ".", "a. ",
    '{"bbox_2d":', "[[1,2,3,4],", '"', "\\", "your ", "。", "1.5, ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize(
    "frame", ["{}", "<think>{}</answer>", "<think></think><answer>{}</answer>"]
)
def test_a_megabyte_returns(piece: str, frame: str) -> None:
    """No hostile text takes more than linear time, so that a megabyte of it comes back."""
    text = frame.replace("{}", piece * (1_000_000 // len(piece)))
    assert vision_reasoner.score(text, EXACT)["accuracy"] == 0
    assert dr_seg.score(text, EXACT)[1]["iou"] == 0


def test_a_list_of_a_megabyte_returns() -> None:
    """Objects beyond the cap are counted for the format alone."""
    entry = EXACT[1:-1]
    text = wrap(f"[{', '.join([entry] * (1_000_000 // len(entry)))}]")
    assert vision_reasoner.score(text, EXACT)["accuracy"] == pytest.approx(3 / 120)
    assert dr_seg.score(text, EXACT)[1]["count"] == pytest.approx(1 / 120)
