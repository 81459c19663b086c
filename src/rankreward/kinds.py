"""The kinds of terms, metrics and normalizers that a recipe may name.

Goes in: nothing. Comes out: a validated model of each kind; the docstring of each says what it is
worth. What computes them is in `rankreward.rewards`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from rankreward.explain import OWN_TAGS
from rankreward.own import check_options, is_own, reserve

SchemaName = Literal[
    "grounding_list",
    "keypoint_list",
    "grounding_object",
    "captioned_object",
    "boxes",
    "labelled_boxes",
    "points",
    "prompt_tags",
    "text",
]
Tolerance = Literal[
    "tag_case",
    "stray_text",
    "fence",
    "single_quotes",
    "truncated",
    "duplicate_key",
    "numeric_text",
    "bad_entry",
    "too_many_objects",
]


class Part(BaseModel):
    """Base of every part of a recipe."""

    # strict: YAML's `yes` is no number, and a text that looks like one is none either
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class _Term(Part):
    weight: float = Field(ge=-1e6, le=1e6)


class Blocks(_Term):
    """1 if the text is the schema's blocks in their order and nothing else."""

    kind: Literal["blocks"]


class Answer(_Term):
    """1 if the answer can be read: every entry has all that the schema asks for."""

    kind: Literal["answer"]


class Caption(_Term):
    """1 if there is a caption that says something."""

    kind: Literal["caption"]


class Keyword(_Term):
    """1 if the think block holds the response's keyword tag around some text."""

    kind: Literal["keyword"]


class NonRepeat(_Term):
    """1 unless sentences are repeated more than `max_repeats` times, or the prompt is copied."""

    kind: Literal["non_repeat"]
    max_repeats: int = Field(ge=0)


class Discriminative(_Term):
    """What the caption earns for fitting the target better than the whole image.

    Of the similarities s1 (to the crop of the reference's box) and s2 (to the image): ``binary``
    is [s1 > s2], ``difference`` max(0, s1 - s2), ``scaled`` s1 times that, ``softmax`` the weight
    of s1 against s2 at `temperature`. Needs the images.
    """

    kind: Literal["discriminative"]
    form: Literal["binary", "difference", "scaled", "softmax"]
    temperature: float = Field(default=0.1, gt=0)


class RevisionGain(_Term):
    """The share of the initial answer's error that this one took away, in [0, 1].

    The error of an answer is its potential, `rankreward.metrics.potential`. Needs the column
    ``initial``: the initial completion that each one revises, or None for one that revises none.
    """

    kind: Literal["revision_gain"]
    surplus: bool = True


class Consistency(_Term):
    """The accuracy of a right answer that its reasoning makes likely to an older policy.

    That of the group's right answers (`metric` above `least`) that are at least as right as the
    group's mean, and whose likelihood under a slowly updated copy of the policy, cut at `ceiling`,
    is at most `margin` below the mean of the right answers'; 0 for all others. Needs the groups,
    and the column ``likelihood`` in [0, 1].
    """

    kind: Literal["consistency"]
    metric: str
    least: float = 0.1
    ceiling: float = Field(default=0.95, gt=0, le=1)
    margin: float = Field(default=0.01, ge=0)


System = Literal["vision_reasoner", "dr_seg", "seg_zero", "seg_zero_soft", "dpad"]


class Released(_Term):
    """The component of this name as the released code of a system computes it."""

    kind: Literal["released"]
    system: System


class OwnTerm(_Term):
    """A term that the user registered with `rankreward.term`; further keys are its options."""

    model_config = ConfigDict(extra="allow")
    kind: str

    @model_validator(mode="after")
    def _known_options(self) -> OwnTerm:
        check_options(self.kind, self.model_extra or {})
        return self


class _Metric(Part):
    # Of the accuracy's weight; a negative share is a penalty, and takes nothing from the others.
    share: float = Field(default=1.0, ge=-1e6, le=1e6)
    pixels: ClassVar[tuple[str, ...]] = ()  # fields in the frame's units


class BoxIoU(_Metric):
    """IoU of matched boxes to a `power`; with `above`, 1 if the IoU is above that, else 0."""

    kind: Literal["box_iou"]
    power: float = Field(default=1.0, gt=0)
    above: float | None = Field(default=None, ge=0, lt=1)


class BoxL1(_Metric):
    """1 if the mean absolute difference of matched boxes' coordinates is under `below`, else 0."""

    kind: Literal["box_l1"]
    below: float = Field(gt=0)
    pixels: ClassVar[tuple[str, ...]] = ("below",)


class PointRamp(_Metric):
    """A ramp of the distance of matched points: 1 up to `near` apart, 0 from `far` on.

    Objects with several points have the mean distance of the best pairing.
    """

    kind: Literal["point_ramp"]
    near: float = Field(ge=0)
    far: float
    pixels: ClassVar[tuple[str, ...]] = ("near", "far")

    @model_validator(mode="after")
    def _ordered(self) -> PointRamp:
        if self.far <= self.near:
            raise ValueError(f"far must be above near ({self.near:g}), got {self.far:g}")
        return self


class PointNear(_Metric):
    """1 if matched points are less than `below` apart, on average, else 0.

    With `inside`, each predicted point also has to lie in its own predicted box.
    """

    kind: Literal["point_near"]
    below: float = Field(gt=0)
    inside: bool
    pixels: ClassVar[tuple[str, ...]] = ("below",)


class CountRatio(_Metric):
    """min(M, N) / max(M, N) for M predicted and N reference objects, in [0, 1]."""

    kind: Literal["count_ratio"]


class Detection(_Metric):
    """A part of a detector's score, over the matched pairs whose IoU is above `above`.

    ``f1``: 2 kept / (M + N). ``iou`` and ``label``: the mean IoU, and the share of equal labels,
    of the kept pairs, 0 without any. ``errors``: (M - kept) / M + (N - kept) / N, to be given a
    negative share; 0 where M or N is 0.
    """

    kind: Literal["detection"]
    part: Literal["f1", "iou", "label", "errors"]
    above: float = Field(ge=0, lt=1)


class Counting(_Metric):
    """The count ratio times how near the matched points are, as a share of the frame's diagonal."""

    kind: Literal["counting"]


class MaskIoU(_Metric):
    """IoU of the union of the objects' masks with the reference's mask, by the segmenter.

    To a `power`; or 1 if above `above`; or by `tiers`, the value of the highest threshold that
    the IoU is above, 0 under all. On a no-target sample `rejection` for an empty answer and
    `false_positive` for any other, and neither is ranked.
    """

    kind: Literal["mask_iou"]
    power: float = Field(default=1.0, gt=0)
    above: float | None = Field(default=None, ge=0, lt=1)
    tiers: dict[float, float] | None = Field(default=None, min_length=1)
    rejection: float = Field(default=1.0, ge=0, le=1)
    false_positive: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _one_form(self) -> MaskIoU:
        if (self.power != 1) + (self.above is not None) + (self.tiers is not None) > 1:
            raise ValueError("expected at most one of power, above and tiers")
        if self.rejection <= self.false_positive:
            raise ValueError(
                f"rejection must be above false_positive ({self.false_positive:g}), "
                f"got {self.rejection:g}"
            )
        edges = sorted((self.tiers or {}).items())
        values = [0.0, *(value for _, value in edges)]
        if any(not 0 <= edge < 1 for edge, _ in edges) or values != sorted({*values, 0.0}):
            raise ValueError("tiers: expected thresholds in [0, 1) and values that rise with them")
        if values[-1] > 1:
            raise ValueError(f"tiers: expected values up to 1, got {values[-1]:g}; see weight")
        return self


class BoundaryIoU(_Metric):
    """IoU of the masks' boundaries, in a band of a twentieth of the shorter side."""

    kind: Literal["boundary_iou"]


class SMeasure(_Metric):
    """The structure measure of the mask against the reference's, in [0, 1]."""

    kind: Literal["s_measure"]


class TextMatch(_Metric):
    """1 if the answer is the reference, but for case and white space, else 0."""

    kind: Literal["text_match"]


class ReleasedMetric(_Metric):
    """The metric of this name as the released code of a system computes it."""

    kind: Literal["released"]
    system: System


class OwnMetric(_Metric):
    """A metric that the user registered with `rankreward.term`; further keys are its options."""

    model_config = ConfigDict(extra="allow")
    kind: str

    @model_validator(mode="after")
    def _known_options(self) -> OwnMetric:
        check_options(self.kind, self.model_extra or {})
        return self


class Matching(Part):
    """Which prediction answers which reference, and what the pairs' scores are averaged over.

    `cost`, summed over the pairs, is least: ``scores`` is minus what is paid, penalties aside;
    ``distance`` the mean of 1 - IoU and of the differences of boxes and points as shares of the
    frame (Group Revision); ``detr`` a wrong label, 5 times the boxes' difference, 2 times minus
    the GIoU; ``point`` the distance of the points. `over`: the ``pairs`` alone, or the
    ``largest`` of the two counts, so that missed and surplus objects cost.
    """

    cost: Literal["scores", "distance", "detr", "point"]
    over: Literal["pairs", "largest"]


class Ecdf(Part):
    """Replace each metric by its rank in a rolling window of recent rollouts."""

    kind: Literal["ecdf"]
    window: int = Field(gt=0)
    warm_start: int = Field(ge=0)
    ties: Literal["weak", "strict", "mid"] = "weak"
    order: Literal["canonical", "arrival"] = "canonical"

    @model_validator(mode="after")
    def _fits(self) -> Ecdf:
        _check_warm_start(self.window, self.warm_start)
        return self


class ReleasedEcdf(Part):
    """Replace each metric as the released service of Dr. Seg does.

    Single precision, ranks rounded to one decimal, and NaN the largest of all values.
    """

    kind: Literal["released_ecdf"]
    window: int = Field(gt=0)
    warm_start: int = Field(ge=0)

    @model_validator(mode="after")
    def _fits(self) -> ReleasedEcdf:
        _check_warm_start(self.window, self.warm_start)
        return self


class Raw(Part):
    """Leave each metric as it is: the one that spreads most weighs most."""

    kind: Literal["none"]


class ZScore(Part):
    """Replace each metric by its standard score in a rolling window of recent rollouts."""

    kind: Literal["zscore"]
    window: int = Field(gt=0)


class Group(Part):
    """Replace each metric by its standard score among the answers to the same question.

    GDPO without its step over the batch; `eps` is added to the standard deviation.
    """

    kind: Literal["group"]
    eps: float = Field(gt=0)


Normalizer = Annotated[Ecdf | ReleasedEcdf | Raw | ZScore | Group, Field(discriminator="kind")]


class LengthBudget(Part):
    """A factor for the whole reward: 1 within a budget of length, less by `slope` a unit beyond.

    The budget is `easy` under a difficulty of `easy_below`; from `hard_from` on it is `hard` and
    `per_uncertainty` for each unit of the policy's uncertainty; between the two there is no limit.
    Needs the columns ``difficulty``, ``uncertainty`` (in [0, 1]), and ``tokens`` (the length of
    each completion) unless `unit` is ``words``, which are counted.
    """

    kind: Literal["length_budget"]
    unit: Literal["tokens", "words"]
    easy: float = Field(ge=0)
    easy_below: float
    hard: float = Field(ge=0)
    hard_from: float
    per_uncertainty: float = Field(ge=0)
    slope: float = Field(gt=0)


class Clip(Part):
    """The least and the most that a completion is paid."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Clip:
        if self.high <= self.low:
            raise ValueError(f"high must be above low ({self.low:g}), got {self.high:g}")
        return self


TERMS = (
    *(Blocks, Answer, Caption, Keyword, NonRepeat),
    *(Discriminative, RevisionGain, Consistency, Released),
)
METRICS = (
    *(BoxIoU, BoxL1, PointRamp, PointNear, CountRatio, Detection, Counting),
    *(MaskIoU, BoundaryIoU, SMeasure, TextMatch, ReleasedMetric),
)
reserve(get_args(model.model_fields["kind"].annotation)[0] for model in (*TERMS, *METRICS))


def _kind(own: str) -> Discriminator:
    """Tell a part's model by its `kind`; registered kinds have one model for all."""

    def tell(part: Any) -> Any:
        kind = part.get("kind") if isinstance(part, Mapping) else getattr(part, "kind", None)
        return own if is_own(kind) else kind

    return Discriminator(tell)


Term = Annotated[
    Annotated[Blocks, Tag("blocks")]
    | Annotated[Answer, Tag("answer")]
    | Annotated[Caption, Tag("caption")]
    | Annotated[Keyword, Tag("keyword")]
    | Annotated[NonRepeat, Tag("non_repeat")]
    | Annotated[Discriminative, Tag("discriminative")]
    | Annotated[RevisionGain, Tag("revision_gain")]
    | Annotated[Consistency, Tag("consistency")]
    | Annotated[Released, Tag("released")]
    | Annotated[OwnTerm, Tag(OWN_TAGS[0])],
    _kind(OWN_TAGS[0]),
]
Metric = Annotated[
    Annotated[BoxIoU, Tag("box_iou")]
    | Annotated[BoxL1, Tag("box_l1")]
    | Annotated[PointRamp, Tag("point_ramp")]
    | Annotated[PointNear, Tag("point_near")]
    | Annotated[CountRatio, Tag("count_ratio")]
    | Annotated[Detection, Tag("detection")]
    | Annotated[Counting, Tag("counting")]
    | Annotated[MaskIoU, Tag("mask_iou")]
    | Annotated[BoundaryIoU, Tag("boundary_iou")]
    | Annotated[SMeasure, Tag("s_measure")]
    | Annotated[TextMatch, Tag("text_match")]
    | Annotated[ReleasedMetric, Tag("released")]
    | Annotated[OwnMetric, Tag(OWN_TAGS[1])],
    _kind(OWN_TAGS[1]),
]
PAIRWISE = (BoxIoU, BoxL1, PointRamp, PointNear, Detection, Counting)
MASKED = (MaskIoU, BoundaryIoU, SMeasure)


_CHECKS = ("thinking_format", "answer_format", "iou", "point", "box_l1")
# The components of released code, and the schema that its completions have.
COMPONENTS: dict[System, tuple[SchemaName, tuple[str, ...]]] = {
    "vision_reasoner": ("grounding_list", ("format", "accuracy", "non_repeat", "total")),
    "dr_seg": ("grounding_list", ("format", "non_repeat", "iou", "count", "point")),
    "seg_zero": ("grounding_object", (*_CHECKS, "total")),
    "seg_zero_soft": ("grounding_object", (*_CHECKS, "total")),
    "dpad": ("captioned_object", _CHECKS),
}
# What an answer has to have for a kind of term or metric to make sense.
_OBJECTS: tuple[SchemaName, ...] = (
    *("grounding_list", "keypoint_list", "grounding_object", "captioned_object"),
    *("boxes", "labelled_boxes", "points", "prompt_tags"),
)
_BOXES = tuple(name for name in _OBJECTS if name not in {"points", "prompt_tags"})
_POINTS: tuple[SchemaName, ...] = (*_OBJECTS[:4], "points")
SCHEMAS_OF: dict[str, tuple[SchemaName, ...]] = {
    "caption": ("captioned_object",),
    "discriminative": ("captioned_object",),
    "revision_gain": _OBJECTS[:4],
    "box_iou": _BOXES,
    "box_l1": _BOXES,
    "point_ramp": _POINTS,
    "point_near": _POINTS,
    "counting": _POINTS,
    "count_ratio": (*_BOXES, "points"),
    "detection": _BOXES,
    "mask_iou": (*_BOXES, "prompt_tags"),
    "boundary_iou": (*_BOXES, "prompt_tags"),
    "s_measure": (*_BOXES, "prompt_tags"),
    "text_match": ("text",),
}


def _check_warm_start(window: int, warm_start: int) -> None:
    if warm_start > window:
        raise ValueError(f"warm_start must be at most window ({window}), got {warm_start}")
