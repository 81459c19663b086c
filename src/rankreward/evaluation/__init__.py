"""From answers to masks, scores and intervals.

Goes in: completions, images and reference masks. Comes out: per-sample results and the measures
that papers print. Nothing here touches the window that rewards are ranked in.
"""

from rankreward.evaluation.protocols import cumulative_iou, mask_overlap, mean_image_iou
from rankreward.evaluation.runner import Evaluation, compare, evaluate
from rankreward.evaluation.segmenters import GrabCut, Segmenter

__all__ = [
    "Evaluation",
    "GrabCut",
    "Segmenter",
    "compare",
    "cumulative_iou",
    "evaluate",
    "mask_overlap",
    "mean_image_iou",
]
