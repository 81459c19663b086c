"""What an answer is worth, in raw numbers.

Goes in: predicted and reference objects, as arrays. Comes out: metric values. Every function is
pure and takes its units from its docstring; none knows of text, recipes or ranks.
"""

from rankreward.metrics.boxes import box_giou, box_iou, box_l1
from rankreward.metrics.counts import count_ratio
from rankreward.metrics.masks import (
    PackedMasks,
    boundary_iou,
    mask_iou,
    pack_masks,
    s_measure,
    union,
)
from rankreward.metrics.matching import match
from rankreward.metrics.pairs import potential
from rankreward.metrics.points import point_distance, point_ramp
from rankreward.metrics.text import discriminative, length_score, repeated_sentences

__all__ = [
    "PackedMasks",
    "boundary_iou",
    "box_giou",
    "box_iou",
    "box_l1",
    "count_ratio",
    "discriminative",
    "length_score",
    "mask_iou",
    "match",
    "pack_masks",
    "point_distance",
    "point_ramp",
    "potential",
    "repeated_sentences",
    "s_measure",
    "union",
]
