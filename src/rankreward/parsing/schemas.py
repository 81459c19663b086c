"""Schemas: the layouts of a completion that recipes can ask for.

Goes in: nothing. Comes out: the table `SCHEMAS`, which prompt, parser and references read, so that
what is asked for, what is paid and what it is compared with have one definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from rankreward.kinds import SchemaName


@dataclass(frozen=True)
class Schema:
    """How a completion is laid out.

    Attributes:
        blocks: the tags of its blocks in order, the think block excepted, which a recipe's
            `think` puts before them.
        form: what the first of them holds: a JSON ``list`` of entries, one JSON ``object``,
            free ``text``; ``tags`` where each number has a tag instead of an answer block.
        box: the key of an entry's box, x1, y1, x2, y2, or None.
        points: the keys of an entry's points, x, y each.
        label: the key of an entry's label, a text, or None.
    """

    blocks: tuple[str, ...]
    form: Literal["list", "object", "tags", "text"]
    box: str | None = None
    points: tuple[str, ...] = ()
    label: str | None = None

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys that hold numbers, in the order in which the parser keeps them."""
        return (() if self.box is None else (self.box,)) + self.points

    @cached_property
    def sizes(self) -> list[int]:
        """How many numbers each of these keys holds."""
        return ([] if self.box is None else [4]) + [2] * len(self.points)

    @cached_property
    def width(self) -> int:
        """How many numbers an entry has."""
        return sum(self.sizes)


_ANSWER = ("answer",)
_KEYPOINTS = ("points_1", "points_2")

SCHEMAS: Mapping[SchemaName, Schema] = MappingProxyType(
    {
        "grounding_list": Schema(_ANSWER, "list", "bbox_2d", ("point_2d",)),
        "keypoint_list": Schema(_ANSWER, "list", "bbox_2d", ("point_1", "point_2")),
        "grounding_object": Schema(_ANSWER, "object", "bbox", _KEYPOINTS),
        "captioned_object": Schema(("answer", "caption"), "object", "bbox", _KEYPOINTS),
        "boxes": Schema(_ANSWER, "list", "bbox_2d"),
        "labelled_boxes": Schema(_ANSWER, "list", "bbox_2d", label="label"),
        "points": Schema(_ANSWER, "list", points=("point_2d",)),
        "prompt_tags": Schema(("bbox", "points", "labels"), "tags"),
        "text": Schema(_ANSWER, "text"),
    }
)
"""The schemas by name.

- ``grounding_list``: a list of a box and a point inside it (Dr. Seg, arXiv 2603.00152, and
  VisionReasoner, arXiv 2505.12081).
- ``keypoint_list``: a list of a box and two points inside it (GenSeg-R1, arXiv 2602.09701; the
  names of the keys are ours).
- ``grounding_object``: one box and two points inside it (Seg-Zero, arXiv 2503.06520).
- ``captioned_object``: likewise, and a caption block after the answer (DPAD, arXiv 2603.04002).
- ``boxes``: a list of boxes (the detection tasks of Perception-R1, arXiv 2504.07954).
- ``labelled_boxes``: a list of a box and its class (likewise, over many classes).
- ``points``: a list of points (the counting tasks of Perception-R1).
- ``prompt_tags``: a segmenter's prompts, a tag each: boxes, points, and for each point whether it
  is on the object (Seg-R1, arXiv 2506.22624).
- ``text``: free text (GRPO-CARE, arXiv 2506.16141).
"""

REPEATED = frozenset({"bbox"})  # tags of blocks that may come more than once
