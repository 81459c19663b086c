"""From answers to masks, scores and intervals.

Goes in: completions, images and reference masks; or a policy and samples. Comes out: per-sample
results and the measures that papers print. Nothing here touches the window that rewards are ranked
in.

- `run_policy` lets a policy answer samples and keeps a record of each; `run_on_ray` does on a
  cluster. `TransformersPolicy`, `EndpointPolicy` and `StoredPolicy` answer.
- `merge` reads records, `summarise` makes a table of them, `compare_files` compares two runs.
- `evaluate` and `compare` do the same for completions in memory.
- The measures themselves: `mask_measures`, `count_measures`, `match_boxes` and their kin, with
  `PROTOCOLS`, and `interval`, `difference` and `table`.
"""

from rankreward.evaluation.average_precision import detection_scores
from rankreward.evaluation.captions import caption_measures, length_measures
from rankreward.evaluation.comparison import Comparison, compare_files, compare_records
from rankreward.evaluation.counting import count_measures
from rankreward.evaluation.detection import BoxMatches, any_box_hit_rate, hit_rate, match_boxes
from rankreward.evaluation.endpoint_policy import EndpointError, EndpointPolicy
from rankreward.evaluation.intervals import Interval, Row, difference, interval, table
from rankreward.evaluation.measures import Measure, Quantile, Ratio, Statistic, mean
from rankreward.evaluation.on_ray import run_on_ray
from rankreward.evaluation.policies import Completion, Policy, StoredPolicy
from rankreward.evaluation.protocols import (
    PROTOCOLS,
    Overlap,
    Protocol,
    cumulative_iou,
    mask_measures,
    mask_overlap,
    mean_image_iou,
)
from rankreward.evaluation.records import merge, read_records
from rankreward.evaluation.runner import Evaluation, compare, evaluate
from rankreward.evaluation.running import run_policy
from rankreward.evaluation.sam2 import Sam2, Sam2Predictor
from rankreward.evaluation.samples import Question, Sample, Samples, read_samples, scene_samples
from rankreward.evaluation.segmenters import GrabCut, Segmenter
from rankreward.evaluation.settings import read_settings
from rankreward.evaluation.summary import Summary, measures_of, summarise
from rankreward.evaluation.transformers_policy import TransformersPolicy

__all__ = [
    "PROTOCOLS",
    "BoxMatches",
    "Comparison",
    "Completion",
    "EndpointError",
    "EndpointPolicy",
    "Evaluation",
    "GrabCut",
    "Interval",
    "Measure",
    "Overlap",
    "Policy",
    "Protocol",
    "Quantile",
    "Question",
    "Ratio",
    "Row",
    "Sam2",
    "Sam2Predictor",
    "Sample",
    "Samples",
    "Segmenter",
    "Statistic",
    "StoredPolicy",
    "Summary",
    "TransformersPolicy",
    "any_box_hit_rate",
    "caption_measures",
    "compare",
    "compare_files",
    "compare_records",
    "count_measures",
    "cumulative_iou",
    "detection_scores",
    "difference",
    "evaluate",
    "hit_rate",
    "interval",
    "length_measures",
    "mask_measures",
    "mask_overlap",
    "match_boxes",
    "mean",
    "mean_image_iou",
    "measures_of",
    "merge",
    "read_records",
    "read_samples",
    "read_settings",
    "run_on_ray",
    "run_policy",
    "scene_samples",
    "summarise",
    "table",
]
