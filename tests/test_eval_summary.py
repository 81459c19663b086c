"""Summaries: records say of masks what masks say, and tables what slow loops say."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import entry
from eval_makers import RECIPE, SCENES, answers, run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from rich.console import Console

import rankreward as rr
from rankreward import evaluation as ev
from rankreward.evaluation.facts import facts_of, overlap_of, pixels_of
from rankreward.metrics import box_iou

MASK = arrays(bool, (3, 4))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return ev.merge(run(tmp_path_factory.mktemp("runs") / "run", keep_masks=True))


@given(
    MASK, MASK, st.none() | MASK, st.sampled_from([*ev.PROTOCOLS]), st.sampled_from([0, 2, None])
)
def test_counted_pixels_are_as_good_as_masks(
    predicted: Any, reference: Any, ignore: Any, name: str, count: int | None
) -> None:
    """For any masks and protocol the overlap from five counts is that from the masks."""
    if count == 0:
        predicted = np.zeros_like(predicted)
    protocol = ev.PROTOCOLS[name]
    expected = protocol.overlap(
        predicted, reference, boxes=count, ignore=ignore, declared=count == 0
    )
    pixels = pixels_of(predicted, reference, ignore)
    assert overlap_of(json.loads(json.dumps(pixels)), protocol, count=count) == expected


def test_masks_of_other_sizes_are_refused() -> None:
    """Three masks of one image have one shape."""
    with pytest.raises(rr.InputError, match="masks: expected one shape"):
        pixels_of(np.zeros((2, 2), bool), np.zeros((2, 3), bool))


@pytest.mark.parametrize("name", [*ev.PROTOCOLS])
def test_every_protocol_from_one_run(records: list[dict[str, Any]], name: str) -> None:
    """Without a second run each protocol has its own numbers, which are those of the masks."""
    protocol, segmenter, overlaps = ev.PROTOCOLS[name], ev.GrabCut(), []
    for scene, text in zip(SCENES, answers().values(), strict=True):
        read = rr.parse(text).answer
        mask = np.zeros((84, 84), bool)
        for box, point in zip(*((read.boxes, read.points) if read else ((), ())), strict=True):
            mask |= segmenter.segment(scene.image, [box], [point])[0]
        overlaps.append(
            protocol.overlap(
                mask,
                scene.mask,
                boxes=None if read is None else len(read),
                declared=read is not None and len(read) == 0,
            )
        )
    expected = protocol.measures(overlaps)
    found = ev.measures_of(records, protocol)
    for measure, ratio in expected.items():
        assert found[measure].value == pytest.approx(ratio.value, nan_ok=True), measure
    assert 0 < expected["cIoU"].value < 1


def test_boxes_and_counts_are_what_a_slow_loop_says(records: list[dict[str, Any]]) -> None:
    """Parsable share, box IoU, precision, recall and counts, from the texts and scenes alone."""
    scores, parsed, pairs, off, lost = [], [], [0, 0, 0], [], []
    for scene, text in zip(SCENES, answers().values(), strict=True):
        response = rr.parse(text)
        boxes = [] if response.answer is None else response.answer.boxes.tolist()
        target = [t.box.tolist() for t in scene.targets]
        parsed.append(response.failure is None)
        lost.append(response.answer is None)
        off.append(len(boxes) - len(target))
        iou = box_iou(np.reshape(boxes, (-1, 4)), np.reshape(target, (-1, 4)))
        best = max(_assignments(iou), key=sum, default=[])
        if target:
            scores.append(sum(best) / max(len(boxes), len(target)))
        hits = max((sum(v >= 0.5 for v in each) for each in _assignments(iou)), default=0)
        pairs = [a + b for a, b in zip(pairs, (hits, len(boxes), len(target)), strict=True)]
    expected = {
        "parsable answers": np.mean(parsed), "mean box IoU": np.mean(scores),
        "precision": pairs[0] / pairs[1], "recall": pairs[0] / pairs[2],
        "F1": 2 * pairs[0] / (pairs[1] + pairs[2]),
        "count accuracy": np.mean(np.equal(off, 0) & ~np.array(lost)),
        "MAE": np.mean(np.abs(off)[~np.array(lost)]),
        "RMSE": np.sqrt(np.mean(np.square(off)[~np.array(lost)])),
        "unreadable answers": np.mean(lost),
    }  # fmt: skip
    found = ev.measures_of(records, ev.PROTOCOLS["seg_zero"])
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value), name
    assert "first box hit rate" not in found  # scenes ask for several objects


def _assignments(iou: Any) -> list[list[float]]:
    """All ways to pair rows with columns, as the IoU of the pairs."""
    if not iou.size:
        return []
    if len(iou) == 1:
        return [[value] for value in iou[0].tolist()]
    ways = [[*rest] for rest in _assignments(iou[1:])]
    for column, value in enumerate(iou[0].tolist()):
        ways += [[value, *rest] for rest in _assignments(np.delete(iou, column, 1)[1:]) or [[]]]
    return ways


def test_hit_rates_stand_where_one_object_is_asked_for(records: list[dict[str, Any]]) -> None:
    """Over samples with one object or none the first box and any box have their rates."""
    single = [record for record in records if record["reference_count"] <= 1]
    found = ev.measures_of(single, ev.PROTOCOLS["seg_zero"])
    first = []
    for record in single:
        boxes, target = record["boxes"], record["reference_boxes"]
        hit = boxes is not None and not boxes and not target
        if boxes and target:
            hit = box_iou([boxes[0]], target).item() > 0.5
        first.append(hit)
    assert found["first box hit rate"].value == pytest.approx(np.mean(first))
    assert found["any box hit rate"].value >= found["first box hit rate"].value


def test_a_summary_by_stratum(records: list[dict[str, Any]]) -> None:
    """Each stratum has the numbers of its samples alone; intervals hold the value."""
    summary = ev.summarise(records, "seg_zero_no_object", by="count", resamples=200)
    assert {row.stratum for row in summary.rows} == {"0", "1", "2"}
    for row in summary.rows:
        part = [record for record in records if record["strata"]["count"] == row.stratum]
        alone = ev.measures_of(part, ev.PROTOCOLS["seg_zero_no_object"])
        if row.measure in alone:
            assert row.interval.value == pytest.approx(alone[row.measure].value, nan_ok=True)
        if not math.isnan(row.interval.value):
            assert row.interval.low <= row.interval.value + 1e-12
            assert row.interval.value <= row.interval.high + 1e-12
    with pytest.raises(rr.InputError, match="by: expected one of count, got 'colour'"):
        ev.summarise(records, "seg_zero", by="colour")


def test_a_summary_counts_what_went_wrong(records: list[dict[str, Any]]) -> None:
    """Unreadable answers and errors are told apart; failures have their codes."""
    unreadable = sum(text == "I see nothing." for text in answers().values())
    summary = ev.summarise(
        [*records, {"id": "x", "place": 99, "stage": "policy", "error": "E: e"}], "lisa"
    )
    assert (summary.samples, summary.errors, summary.unreadable) == (24, 1, unreadable)
    assert summary.failures == {"missing_tag": unreadable}
    assert unreadable > 0
    with pytest.raises(rr.InputError, match="expected judged samples, got 1 with errors"):
        ev.summarise([{"id": "x", "error": "E"}], "lisa")
    with pytest.raises(rr.InputError, match="protocol: expected one of seg_zero"):
        ev.summarise(records, "none")


def test_average_precision_only_when_asked(records: list[dict[str, Any]]) -> None:
    """It has the value of `detection_scores`, and no interval."""
    plain = {row.measure for row in ev.summarise(records, "lisa", resamples=10).rows}
    summary = ev.summarise(records, "lisa", ap="area", resamples=10)
    rows = {row.measure: row for row in summary.rows}
    assert rows.keys() - plain == {"AP by area", "AP50 by area", "AP75 by area"}
    boxes = [record["boxes"] for record in records]
    targets = [record["reference_boxes"] for record in records]
    found = [None if each is None else np.reshape(each, (-1, 4)) for each in boxes]
    sought = [np.reshape(each, (-1, 4)) for each in targets]
    scores = ev.detection_scores(found, sought, score="area", sizes=[[84, 84]] * 24)
    assert rows["AP50 by area"].interval.value == scores["AP50"]
    assert math.isnan(rows["AP50 by area"].interval.low)


def test_tables_leave_as_text(records: list[dict[str, Any]]) -> None:
    """CSV and plain values hold the numbers in full, NaN as nothing; Markdown and rich show them."""
    summary = ev.summarise(records, "seg_zero", by="count", resamples=50)
    sheet = summary.sheet()
    rows = list(csv.DictReader(io.StringIO(sheet.csv())))
    plain = json.loads(json.dumps(summary.as_dict(), allow_nan=False))
    errors = rows.pop()
    assert (errors["measure"], float(errors["value"])) == ("samples with errors", 0.0)
    assert len(rows) == len(plain["rows"]) == len(summary.rows)
    for text, value, row in zip(rows, plain["rows"], summary.rows, strict=True):
        assert (text["measure"], value["measure"]) == (row.measure, row.measure)
        expected = None if math.isnan(row.interval.value) else row.interval.value
        assert value["value"] == expected
        assert (float(text["value"]) if text["value"] else None) == expected
    assert any(row["value"] is None for row in plain["rows"])
    lines = sheet.markdown().splitlines()
    assert lines[1] == "|:--|:--|--:|--:|--:|--:|"
    assert len(lines) == len(rows) + 1 + 2
    console = Console(record=True, width=150, file=io.StringIO())
    console.print(sheet.rich())
    shown = console.export_text()
    assert "24 samples, protocol seg_zero" in shown
    assert all(row.measure in shown for row in summary.rows)


def test_unreadable_counts_as_it_is_told(records: list[dict[str, Any]]) -> None:
    """The policy for unreadable counts reaches the measure, and changes it."""
    values = {
        how: ev.measures_of(records, ev.PROTOCOLS["lisa"], unreadable=how)["MAE"].value
        for how in ("one", "zero", "drop")
    }
    known = [r for r in records if r["count"] is not None]
    assert values["drop"] == np.mean([abs(r["count"] - r["reference_count"]) for r in known])
    assert len(set(values.values())) == 3


def test_samples_without_masks_count_nothing_in_their_measures(
    records: list[dict[str, Any]],
) -> None:
    """Mask measures are of the samples that have masks, and say so; the others keep all."""
    mixed = [{**r, "pixels": None} if i % 3 == 0 else r for i, r in enumerate(records)]
    rows = {row.measure: row for row in ev.summarise(mixed, "lisa", resamples=20).rows}
    part = ev.measures_of([r for i, r in enumerate(records) if i % 3], ev.PROTOCOLS["lisa"])
    assert rows["gIoU"].interval.value == pytest.approx(part["gIoU"].value)
    assert rows["gIoU"].n == 16
    assert rows["parsable answers"].n == 24
    for row in ev.summarise(mixed, "lisa", by="count", resamples=20).rows:
        part = [r for i, r in enumerate(records) if i % 3 and r["strata"]["count"] == row.stratum]
        assert row.measure != "cIoU" or row.n <= len(part)
        if row.measure == "cIoU" and part:
            expected = ev.measures_of(part, ev.PROTOCOLS["lisa"])["cIoU"].value
            assert row.interval.value == pytest.approx(expected, nan_ok=True)
    none = ev.measures_of([{**r, "pixels": None} for r in records], ev.PROTOCOLS["lisa"])
    assert "gIoU" not in none


def test_lengths_where_all_are_known(records: list[dict[str, Any]]) -> None:
    """Token lengths stand only where every completion has them; so do cut answers."""
    assert "mean tokens" not in ev.measures_of(records, ev.PROTOCOLS["lisa"])
    long = [
        {**r, "tokens": i, "finish": "length" if i < 6 else "stop"} for i, r in enumerate(records)
    ]
    measures = ev.measures_of(long, ev.PROTOCOLS["lisa"])
    assert measures["mean tokens"].value == 11.5
    assert measures["cut off"].value == 0.25


def caption(text: str) -> str:
    answer = {"bbox": [100, 100, 300, 300], "points_1": [150, 150], "points_2": [200, 200]}
    return f"<think>a</think><answer>{json.dumps(answer)}</answer><caption>{text}</caption>"


def test_captions_are_compared_with_crop_and_image() -> None:
    """S1 is of the reference's crop, S2 of the whole image; no text, no comparison."""
    recipe, calls = rr.Recipe.load("dpad"), []
    image = Image.fromarray(np.full((40, 80, 3), 7, np.uint8))
    question = ev.Question(image, "x", np.array([[10.0, 5.0, 30.0, 25.0]]), None)

    def similarity(images: Any, texts: Any) -> Any:
        calls.append(([np.asarray(each).shape for each in images], list(texts)))
        return [
            len(text) / np.asarray(each).shape[1] for each, text in zip(images, texts, strict=True)
        ]

    facts = [facts_of(question, caption(t), recipe, similarity=similarity) for t in ("abcd", "ab")]
    assert calls[0] == ([(20, 20, 3)] * 2 + [(40, 80, 3)] * 2, ["abcd", "a"] * 2)
    assert facts[0]["captions"] == {"caption": [4 / 20, 4 / 80], "reasoning": [1 / 20, 1 / 80]}
    assert facts_of(question, "?", recipe, similarity=similarity)["captions"] == {
        "caption": None, "reasoning": None,
    }  # fmt: skip
    blank = facts_of(question, "?", recipe, similarity=similarity)
    measures = ev.measures_of([*facts, blank], ev.PROTOCOLS["lisa"])
    assert measures["S1"].value == pytest.approx((4 / 20 + 2 / 20) / 2)
    assert measures["SNR"].value == pytest.approx(4.0)
    assert measures["caption compared"].value == pytest.approx(2 / 3)
    lost = facts_of(question, caption("x"), recipe, similarity=lambda i, t: [math.nan] * len(t))
    json.dumps(lost, allow_nan=False)
    assert "S1" in ev.measures_of([lost], ev.PROTOCOLS["lisa"])
    many = ev.Question(image, "x", np.ones((2, 4)), None)
    with pytest.raises(rr.InputError, match="one reference box each"):
        facts_of(many, caption("x"), recipe, similarity=similarity)


def test_answers_of_points_are_counted_alone() -> None:
    """Where answers have no boxes there are counts, and neither masks nor detection."""
    recipe = rr.Recipe.load("perception_r1_counting")
    image = Image.fromarray(np.zeros((20, 20, 3), np.uint8))
    question = ev.Question(image, "x", np.ones((2, 4)), np.ones((20, 20), bool))
    text = '<answer>[{"point_2d": [420, 210]}]</answer>'
    text = f"<think>x</think>{text}" if recipe.response.think else text
    facts = facts_of(question, text, recipe, ev.GrabCut())
    frame = recipe.response.frame
    assert facts["points"] == [[[420 * 20 / frame.width, 210 * 20 / frame.height]]]
    assert (facts["boxes"], facts["pixels"], facts["count"]) == (None, None, 1)
    measures = ev.measures_of([facts], ev.PROTOCOLS["lisa"])
    assert measures["MAE"].value == 1.0
    assert not {"gIoU", "precision", "mean box IoU"} & measures.keys()


def test_points_that_fill_up_are_no_numbers() -> None:
    """Answers in tags may have fewer points for one object: JSON has null there."""
    names = [n for n in rr.recipes() if rr.Recipe.load(n).response.schema_ == "prompt_tags"]
    recipe = rr.Recipe.load(names[0])
    text = (
        "<bbox>[100, 100, 300, 300]</bbox><bbox>[400, 400, 600, 600]</bbox>"
        "<points>[[150, 150], [160, 160], [500, 500]]</points><labels>[1, 0, 1]</labels>"
    )
    text = f"<think>x</think>{text}" if recipe.response.think else text
    image = Image.fromarray(np.zeros((84, 84, 3), np.uint8))
    question = ev.Question(image, "x", np.ones((2, 4)), np.ones((84, 84), bool))
    facts = facts_of(question, text, recipe, ev.GrabCut(), keep_mask=True)
    assert facts["failure"] is None
    assert facts["signs"] == [[1, 0], [1, -1]]
    assert facts["points"][1][1] == [None, None]
    assert facts["pixels"]["extra"] == 0
    json.dumps(facts, allow_nan=False)


def test_an_entry_outside_the_image_is_no_rejection(tmp_path: Path) -> None:
    """A box that misses the image has an empty mask and is counted as an answer all the same."""
    scene = next(place for place, scene in enumerate(SCENES) if not scene.targets)
    texts = answers()
    texts[f"scene-{scene}"] = (
        "<think>x</think><answer>" + json.dumps([entry([500, 500, 600, 600], [510, 510])])
    ) + "</answer>"
    path = tmp_path / "x"
    path.write_text("\n".join(json.dumps({"id": k, "completion": v}) for k, v in texts.items()))
    record = ev.merge(run(tmp_path / "run", ev.StoredPolicy(path)))[scene]
    assert record["count"] == 1
    overlap = overlap_of(record["pixels"], ev.PROTOCOLS["seg_zero"], count=1)
    assert overlap == (0, 0, False, False)
    assert RECIPE.response.frame.width == 84
