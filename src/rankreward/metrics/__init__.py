"""What an answer is worth, in raw numbers.

Goes in: predicted and reference objects, as arrays. Comes out: metric values. Every function is
pure and takes its units from its docstring; none knows of text, recipes or ranks.
"""

from rankreward.metrics.boxes import box_iou
from rankreward.metrics.counts import count_ratio
from rankreward.metrics.matching import match
from rankreward.metrics.points import point_distance, point_ramp
from rankreward.metrics.text import repeated_sentences

__all__ = [
    "box_iou",
    "count_ratio",
    "match",
    "point_distance",
    "point_ramp",
    "repeated_sentences",
]
