"""A card a sample: the picture, what was asked, what the policy said, and how right it was.

Goes in: the records of a run and its samples. Comes out: `Card`s one by one, which
`rankreward.report.page` makes a page of, and `rankreward.report.sheets` one picture.

Needs the extra ``eval`` (Pillow).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from rankreward.errors import InputError, MissingExtraError
from rankreward.evaluation.facts import box_score, overlap_of
from rankreward.evaluation.protocols import Protocol
from rankreward.evaluation.records import Record, judged
from rankreward.evaluation.samples import Question, Sample
from rankreward.evaluation.summary import find_protocol
from rankreward.parsing.response import parse_for
from rankreward.recipe import Recipe
from rankreward.report.pictures import overlay
from rankreward.rewards.masks import read_mask

Which = Literal["first", "worst", "best", "errors"]


class Part(NamedTuple):
    """A stretch of reasoning.

    Attributes:
        text: what it says, without tags.
        looked: whether it stands in the recipe's keyword tag, such as ``<look>``.
    """

    text: str
    looked: bool = False


@dataclass(frozen=True, eq=False)
class Card:
    """What there is to see of one sample.

    Attributes:
        id: the sample's name.
        place: where it stands in the data.
        query: what was asked; empty if the sample could not be read.
        texts: what the completion says, by the name of the block: Reasoning, Caption, Answer.
        completion: all of it, as it was written; empty for a sample with an error.
        code: of the failure, ``"error"`` for a sample that could not be judged, or None.
        problem: what was wrong, in one line; empty if nothing was.
        box_iou: as `rankreward.evaluation.facts.box_score`, in [0, 1]; NaN where unknown.
        mask_iou: what the sample counts in the protocol's gIoU, in [0, 1]; NaN where unknown, and
            for a correct rejection to which the protocol gives 0, which is not as bad as that.
        count: how many objects the answer gives; None if it could not be read.
        asked: how many there are; None if unknown.
        strata: names of the groups it is in.
        picture: a PIL.Image, the `overlay`; None if the sample's image could not be read.
    """

    id: str
    place: int
    query: str
    texts: Mapping[str, tuple[Part, ...]]
    completion: str
    code: str | None
    problem: str
    box_iou: float
    mask_iou: float
    count: int | None
    asked: int | None
    strata: Mapping[str, str] = field(default_factory=dict)
    picture: Any = None

    def numbers(self) -> dict[str, str]:
        """Measures as texts, those that are known."""
        ious = {"mask IoU": self.mask_iou, "box IoU": self.box_iou}
        known = {name: f"{value:.3f}" for name, value in ious.items() if not math.isnan(value)}
        if self.code != "error":
            given = "unreadable" if self.count is None else str(self.count)
            known["objects"] = given if self.asked is None else f"{given} of {self.asked}"
        return known


def pick(
    records: Sequence[Record], which: Which, count: int, protocol: str | Protocol
) -> list[Record]:
    """Some records of a long run.

    Args:
        records: of a run.
        which: ``"first"`` in the order of the data; ``"worst"`` or ``"best"`` by mask IoU where any
            record has one, else by box IoU, ties in the order of the data, without those that have
            neither; or ``"errors"``, those that could not be judged.
        count: how many at most, at least 1.
        protocol: how masks are scored.

    Raises:
        InputError: an argument is another one.
    """
    if which not in get_args(Which) or count < 1:
        raise InputError(
            f"pick: expected one of {', '.join(get_args(Which))} and a count of at least 1, got "
            f"{which!r} and {count}"
        )
    if which == "first":
        return list(records[:count])
    if which == "errors":
        return [record for record in records if "error" in record][:count]
    protocol = find_protocol(protocol)
    by_mask, sign = scored_by(records) == "mask IoU", 1 if which == "worst" else -1
    scored = [(record, ious(record, protocol)[by_mask]) for record in judged(records)]
    known = [pair for pair in scored if not math.isnan(pair[1])]
    return [record for record, _ in sorted(known, key=lambda pair: sign * pair[1])[:count]]


def scored_by(records: Iterable[Record]) -> Literal["mask IoU", "box IoU"]:
    """What samples are ranked by: mask IoU where any record has one, else box IoU."""
    has_masks = any(record.get("pixels") is not None for record in records)
    return "mask IoU" if has_masks else "box IoU"


def ious(record: Record, protocol: Protocol) -> tuple[float, float]:
    """Box IoU and mask IoU of one judged record, as `Card` has them."""
    box = mask = math.nan
    if record["reference_boxes"] is not None:
        found = record["boxes"]
        box = box_score(
            None if found is None else np.array(found, float).reshape(-1, 4),
            np.array(record["reference_boxes"], float).reshape(-1, 4),
        )
    if record["pixels"] is not None:
        shared = overlap_of(record["pixels"], protocol, count=record["count"])
        mask = protocol.measures([shared])["gIoU"].value
        if shared.is_rejected and not shared.is_target and mask == 0:
            mask = math.nan
    return box, mask


def make_cards(
    records: Iterable[Record],
    samples: Iterable[Sample],
    *,
    recipe: str | Recipe,
    protocol: str | Protocol,
    side: int = 640,
) -> Iterator[Card]:
    """The cards of records, one at a time, in the order of the samples.

    Args:
        records: of a run, all or some of them.
        samples: what the run was of; those without a record are passed over.
        recipe: that of the run, which says how completions are laid out.
        protocol: how masks are scored.
        side: the longer side of the pictures, in pixels.

    Yields:
        A card a record. An image that cannot be read costs its card the picture alone.

    Raises:
        InputError: a record has no sample, or its image has another size: the data are others.
    """
    recipe, protocol = Recipe.load(recipe), find_protocol(protocol)
    wanted = {record["id"]: record for record in records}
    for sample in samples:
        record = wanted.pop(sample.id, None)
        if record is not None:
            yield _card(record, sample, recipe, protocol, side)
    if wanted:
        raise InputError(
            f"samples: expected those of the records, got none for {len(wanted)}, such as "
            f"{sorted(wanted)[:5]}"
        )


def marked(text: str, looks: Collection[str], keyword: str | None) -> tuple[Part, ...]:
    """Reasoning, taken apart where the policy looked.

    Args:
        text: the body of a think block.
        looks: what it looked at, as `rankreward.Response.looks`.
        keyword: the tag; ``"any"`` for whichever one, or None.

    Example:
        >>> from rankreward.report.cards import marked
        >>> [tuple(part) for part in marked("a <look>cup</look>.", ["cup"], "look")]
        [('a ', False), ('cup', True), ('.', False)]
    """
    tag = "[A-Za-z_]+" if keyword == "any" else re.escape(keyword or "")
    parts, place = list[Part](), 0
    for look in looks:
        pattern = rf"<{tag}>\s*({re.escape(look)})\s*</{tag}>"
        found = re.compile(pattern, re.IGNORECASE).search(text, place)
        if found is not None:
            parts += [Part(text[place : found.start()]), Part(found[1], looked=True)]
            place = found.end()
    parts.append(Part(text[place:]))
    return tuple(part for part in parts if part.text)


def _card(record: Record, sample: Sample, recipe: Recipe, protocol: Protocol, side: int) -> Card:
    question, why = _question(sample)
    query = "" if question is None else question.query
    if "error" in record:
        problem = f"{record['stage']}: {record['error']}"
        picture = None if question is None else _picture(record, question, side)
        return Card(
            *(record["id"], record.get("place", 0), query, {}, "", "error", problem),
            *(math.nan, math.nan, None, None),
            picture=picture,
            strata={} if question is None else dict(question.strata),
        )
    failure = record["failure"]
    problem = "" if failure is None else f"{failure['code']}: {failure['message']}"
    return Card(
        *(record["id"], record.get("place", 0), query),
        _texts(record["completion"], recipe),
        record["completion"],
        None if failure is None else failure["code"],
        " ".join(filter(None, (problem, why))),
        *ious(record, protocol),
        *(record["count"], record["reference_count"], record["strata"]),
        None if question is None else _picture(record, question, side),
    )


def _question(sample: Sample) -> tuple[Question | None, str]:
    """What a sample asks, or why it cannot be read."""
    try:
        return sample.load(), ""
    except MissingExtraError:
        raise
    except Exception as error:  # noqa: BLE001 - a picture is lost, and no result
        return None, f"(no picture: {type(error).__name__}: {error})"


def _picture(record: Record, question: Question, side: int) -> Any:
    size = record.get("size")
    if size is not None and tuple(size) != question.image.size:
        raise InputError(
            f"sample {record['id']!r}: expected an image of {tuple(size)}, got "
            f"{question.image.size}: these are not the run's samples"
        )
    kept = record.get("mask")
    return overlay(
        question.image,
        boxes=record.get("boxes"),
        points=record.get("points"),
        signs=record.get("signs"),
        mask=None if kept is None else read_mask(kept, 0),
        reference_boxes=question.boxes,
        reference_mask=question.mask,
        side=side,
    )


def _texts(completion: str, recipe: Recipe) -> dict[str, tuple[Part, ...]]:
    response = parse_for(completion, recipe.response)
    texts = {}
    if response.think is not None:
        texts["Reasoning"] = marked(response.think, response.looks, recipe.response.keyword)
    said = response.said
    if said is None and response.answer is not None:
        # It stands in tags of its own, after the reasoning.
        said = completion.rpartition("</think>")[2].strip()
    for name, text in (("Caption", response.caption), ("Answer", said)):
        if text is not None:
            texts[name] = (Part(text),)
    return texts
