"""Recipes: which reward a system pays, as data.

Goes in: a recipe's name, the path of a YAML file, a mapping, or a `Recipe`. Comes out: a frozen,
validated `Recipe` that every later stage reads: the prompt asks for what the recipe pays, the
parser reads what the prompt asked for, the scorer weighs what the parser found.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from rankreward.errors import ConfigError, InputError
from rankreward.explain import OWN_TAGS, explain, nearest
from rankreward.own import check_options, is_own, reserve, term

__all__ = ["Recipe", "recipes", "term"]  # the public part; stages import the models by name

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


class _Part(BaseModel):
    # strict: YAML's `yes` is no number, and a text that looks like one is none either
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Frame(_Part):
    """The coordinate frame of boxes and points, which a recipe declares and nothing guesses.

    `pixels` are those of the image as the policy sees it; a `grid` (Qwen3-VL's 0 to 1000) spans
    the image whatever its size.
    """

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    unit: Literal["pixels", "grid"] = "pixels"


class Response(_Part):
    """What a completion has to look like.

    Attributes:
        schema_: the layout of its blocks and its answer; see `rankreward.parsing.SCHEMAS`.
        frame: the frame of its coordinates; a text has none.
        think: whether a think block comes first.
        keyword: the tag inside the think block that marks what was looked at, ``any`` for
            whichever tag, or None where none is asked for.
        max_objects: longer answers are a failure.
        tolerate: which faults of a completion are forgiven; see `rankreward.parse`.
    """

    schema_: SchemaName = Field(alias="schema")
    frame: Frame | None = None
    think: bool = True
    keyword: str | None = Field(default=None, pattern=r"^[a-z][a-z_]*$")
    max_objects: int = Field(default=120, gt=0)
    tolerate: tuple[Tolerance, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _consistent(self) -> Response:
        if self.keyword in {"think", "answer"}:
            raise ValueError(f"keyword must be a tag of its own, got {self.keyword!r}")
        if self.keyword is not None and not self.think:
            raise ValueError(f"keyword {self.keyword!r} needs a think block, got think: false")
        if (self.frame is None) != (self.schema_ == "text"):
            raise ValueError("every schema but 'text' needs a frame, and 'text' has none")
        return self


class _Term(_Part):
    weight: float


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
    """1 for a right answer that the reasoning makes likely to a slowly updated copy of the policy.

    Of the group's right answers (`metric` above `least`), those at least as right as the group's
    mean and whose likelihood, cut at `ceiling`, is at most `margin` below the mean of the right
    answers'. Needs the groups and the column ``likelihood``, in [0, 1].
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


class _Metric(_Part):
    # Of the accuracy's weight; a negative share is a penalty, and takes nothing from the others.
    share: float = 1.0
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
    `false_positive` for any other.
    """

    kind: Literal["mask_iou"]
    power: float = Field(default=1.0, gt=0)
    above: float | None = Field(default=None, ge=0, lt=1)
    tiers: dict[float, float] | None = Field(default=None, min_length=1)
    rejection: float | None = None
    false_positive: float = 0.0

    @model_validator(mode="after")
    def _one_form(self) -> MaskIoU:
        if (self.power != 1) + (self.above is not None) + (self.tiers is not None) > 1:
            raise ValueError("expected at most one of power, above and tiers")
        if self.full <= self.false_positive:
            raise ValueError(
                f"rejection must be above false_positive ({self.false_positive:g}), "
                f"got {self.full:g}"
            )
        return self

    @property
    def full(self) -> float:
        """What a correct rejection is worth: what a perfect mask is, unless the recipe says."""
        if self.rejection is not None:
            return self.rejection
        return 1.0 if self.tiers is None else max(self.tiers.values())


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


class Matching(_Part):
    """Which prediction answers which reference, and what the pairs' scores are averaged over.

    `cost`, summed over the pairs, is least: ``scores`` is minus the very scores that are paid;
    ``distance`` the mean of 1 - IoU and of the differences of boxes and points as shares of the
    frame (Group Revision); ``detr`` a wrong label, 5 times the boxes' difference, 2 times minus
    the GIoU; ``point`` the distance of the points. `over`: the ``pairs`` alone, or the
    ``largest`` of the two counts, so that missed and surplus objects cost.
    """

    cost: Literal["scores", "distance", "detr", "point"]
    over: Literal["pairs", "largest"]


class Ecdf(_Part):
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


class ReleasedEcdf(_Part):
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


class Raw(_Part):
    """Leave each metric as it is: the one that spreads most weighs most."""

    kind: Literal["none"]


class ZScore(_Part):
    """Replace each metric by its standard score in a rolling window of recent rollouts."""

    kind: Literal["zscore"]
    window: int = Field(gt=0)


class Group(_Part):
    """Replace each metric by its standard score among the answers to the same question.

    GDPO without its step over the batch; `eps` is added to the standard deviation.
    """

    kind: Literal["group"]
    eps: float = Field(gt=0)


Normalizer = Annotated[Ecdf | ReleasedEcdf | Raw | ZScore | Group, Field(discriminator="kind")]


class LengthBudget(_Part):
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


class Clip(_Part):
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


class Accuracy(_Part):
    """The weight that the metrics share, and how they are made comparable.

    Each defined metric is paid its `share` of `weight`. `failure` is the raw value of every
    metric for a completion without a readable answer.
    """

    weight: float = Field(ge=0)
    failure: float = Field(default=0.0, ge=0, le=1)
    matching: Matching | None = None
    metrics: dict[str, Metric] = Field(min_length=1)
    normalizer: Normalizer

    @model_validator(mode="after")
    def _complete(self) -> Accuracy:
        if not any(metric.share > 0 for metric in self.metrics.values()):
            raise ValueError("one of the metrics must have a share above 0")
        pairwise = any(isinstance(metric, PAIRWISE) for metric in self.metrics.values())
        if pairwise and self.matching is None:
            raise ValueError("its metrics compare pairs of objects: it needs a matching")
        return self


class Recipe(_Part):
    """A reward: the response it expects, its terms, and its accuracy metrics.

    Made by `Recipe.load`; frozen. The names of `terms` and of `accuracy.metrics` are the names
    under which a `RewardBatch` reports them. `scale` is a factor of the whole reward, `clip`
    bounds it.
    """

    name: str = Field(min_length=1)
    source: str = ""
    response: Response
    terms: dict[str, Term] = {}
    accuracy: Accuracy
    scale: LengthBudget | None = None
    clip: Clip | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        shared = self.terms.keys() & self.accuracy.metrics.keys()
        if shared:
            raise ValueError(f"a term and a metric share the name {min(shared)!r}")
        if self.clip is not None and "clip" in {*self.terms, *self.accuracy.metrics}:
            raise ValueError("no term or metric can have the name 'clip', which the clip needs")
        other = self.response.keyword not in {None, "look"}
        if self.released and (self.response.tolerate or other):
            raise ValueError(
                "released code reads completions its own way: a recipe with released parts has "
                "no response.tolerate, and no response.keyword but look"
            )
        if self.scale is not None and isinstance(self.accuracy.normalizer, ZScore | Group):
            raise ValueError(
                f"a scale would reward length where the normalizer {self.accuracy.normalizer.kind} "
                "makes accuracy negative: expected the normalizer none or ecdf"
            )
        for name, part in (*self.terms.items(), *self.accuracy.metrics.items()):
            if part.kind in _SCHEMAS and self.response.schema_ not in _SCHEMAS[part.kind]:
                fitting = ", ".join(_SCHEMAS[part.kind])
                raise ValueError(
                    f"{name!r} ({part.kind}) needs a response with the schema {fitting}, "
                    f"got {self.response.schema_}"
                )
            if isinstance(part, Keyword) and self.response.keyword is None:
                raise ValueError(f"{name!r} (keyword) needs response.keyword, got none")
            labels = isinstance(part, Detection) and part.part == "label"
            if labels and self.response.schema_ != "labelled_boxes":
                raise ValueError(
                    f"{name!r} (detection, label) needs a response with the schema labelled_boxes, "
                    f"got {self.response.schema_}"
                )
            if isinstance(part, Consistency) and part.metric not in self.accuracy.metrics:
                known = ", ".join(self.accuracy.metrics)
                raise ValueError(f"{name!r} needs one of the metrics {known}, got {part.metric!r}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `Scorer.score` needs beside completions and references."""
        names: list[str] = []
        for part in self.terms.values():
            names += ["initial"] * isinstance(part, RevisionGain)
            names += ["likelihood"] * isinstance(part, Consistency)
        if self.scale is not None:
            names += ["difficulty", "uncertainty"] + ["tokens"] * (self.scale.unit == "tokens")
        return tuple(dict.fromkeys(names))

    @property
    def released(self) -> bool:
        """Whether it pays what released code computes, from references as that code reads them."""
        parts = (*self.terms.values(), *self.accuracy.metrics.values())
        return any(isinstance(part, Released | ReleasedMetric) for part in parts)

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
        """Load a recipe from wherever it is described.

        Args:
            source: a name from `recipes()`, the path of a YAML file, a mapping of the same
                structure, or a `Recipe`, which is returned as it is.

        Returns:
            The validated recipe.

        Raises:
            ConfigError: there is no such recipe or file, it is not YAML, or a key or value in it
                is not understood; the message names the key.

        Example:
            >>> Recipe.load("dr_seg").accuracy.normalizer.window
            2048
        """
        if isinstance(source, Recipe):
            return source
        if isinstance(source, Mapping):
            return _validate(source, where="the recipe")
        if not isinstance(source, str | Path):
            kind = type(source).__name__
            raise ConfigError(f"recipe: expected a name, a path, a mapping or a Recipe, got {kind}")
        if isinstance(source, Path) or source.endswith((".yaml", ".yml")):
            return _validate(_read_yaml(Path(source)), where=str(source))
        if source not in recipes():
            raise ConfigError(_unknown_recipe(source))
        return _validate(
            _read_yaml(_builtin_folder() / f"{source}.yaml"), where=f"recipe {source!r}"
        )

    def override(self, changes: Mapping[str, Any]) -> Recipe:
        """The same recipe with some values changed.

        Args:
            changes: from the path of a key, its parts joined by dots, to the new value, which
                may be a whole section. None takes a term or a metric away.

        Returns:
            A new recipe, validated as a whole.

        Raises:
            ConfigError: there is no such key, or a value does not fit.

        Example:
            >>> dr_seg = Recipe.load("dr_seg")
            >>> changed = dr_seg.override({"response.keyword": "wait", "terms.look.weight": 0.5})
            >>> changed.response.keyword, changed.terms["look"].weight
            ('wait', 0.5)
        """
        where = f"recipe {self.name!r} with changes"
        if not isinstance(changes, Mapping) or not all(isinstance(path, str) for path in changes):
            raise ConfigError(f"{where}: expected a mapping from paths to values, got {changes!r}")
        data = self.to_dict()
        for path, value in changes.items():
            section: Any = data
            *parents, key = path.split(".")
            for parent in parents:
                if not isinstance(section.get(parent), dict):
                    known = [name for name, value in section.items() if isinstance(value, dict)]
                    raise ConfigError(
                        f"{where}: no section {parent!r} in {path!r}: {nearest(parent, known)}"
                    )
                section = section[parent]
            if key == "kind" and len(section) > 1 and section.get("kind") != value:
                raise ConfigError(
                    f"{where}: another kind has other keys: expected all of it, "
                    f"{{{'.'.join(parents)!r}: {{'kind': {value!r}, ...}}}}, got {path!r} alone"
                )
            if value is None and parents and parents[-1] in {"terms", "metrics"}:
                if key not in section:
                    hint = nearest(key, [*section])
                    raise ConfigError(f"{where}: no {path!r} to take away: {hint}")
                del section[key]
            else:
                section[key] = value
        return _validate(data, where=where)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for `Recipe.load` or a YAML file; what is usual is left out.

        Example:
            >>> recipe = Recipe.load("dr_seg").override({"name": "mine", "terms.look": None})
            >>> recipe.to_dict()["terms"]["think_format"]
            {'weight': 1.0, 'kind': 'blocks'}
            >>> Recipe.load(recipe.to_dict()) == recipe
            True
        """
        data: dict[str, Any] = self.model_dump(by_alias=True, exclude_defaults=True)
        if "tolerate" in data["response"]:
            data["response"]["tolerate"] = list(data["response"]["tolerate"])
        return data

    def resized(self, width: int, height: int | None = None) -> Recipe:
        """The same recipe for images of another size: distances keep their share of the frame.

        Args:
            width: width of the image as the policy sees it, in pixels.
            height: its height; `width` if left out.

        Returns:
            A recipe whose frame is `width` x `height` and whose pixel distances are scaled with
            it; ranks, weights and formats are untouched. A recipe whose frame is a grid, or that
            has none, fits images of any size and stays as it is.

        Raises:
            InputError: the size is not positive, or has another aspect ratio than the recipe's
                frame, so that no one factor would scale both axes.

        Example:
            >>> point = Recipe.load("dr_seg").resized(84).accuracy.metrics["point"]
            >>> point.near, point.far
            (3.0, 20.0)
        """
        old, height = self.response.frame, width if height is None else height
        if not all(type(side) is int and side > 0 for side in (width, height)):
            raise InputError(f"frame: expected whole positive sizes, got {width!r} x {height!r}")
        if old is None or old.unit == "grid":
            return self
        if width * old.height != height * old.width:
            raise InputError(
                f"frame: expected the aspect ratio {old.width}:{old.height} of recipe "
                f"{self.name!r}, got {width} x {height}"
            )
        if self.released and (width, height) != (old.width, old.height):
            raise InputError(
                f"frame: the released code behind recipe {self.name!r} has its distances built in "
                f"for {old.width} x {old.height}; its paper form can be resized"
            )
        factor = width / old.width
        frame = Frame(width=width, height=height)
        response = self.response.model_copy(update={"frame": frame})
        metrics = {
            name: metric.model_copy(
                update={field: getattr(metric, field) * factor for field in metric.pixels}
            )
            for name, metric in self.accuracy.metrics.items()
        }
        accuracy = self.accuracy.model_copy(update={"metrics": metrics})
        update = {"response": response, "accuracy": accuracy, "terms": dict(self.terms)}
        return self.model_copy(update=update)


# What an answer has to have for a kind of term or metric to make sense.
_OBJECTS: tuple[SchemaName, ...] = (
    *("grounding_list", "keypoint_list", "grounding_object", "captioned_object"),
    *("boxes", "labelled_boxes", "points", "prompt_tags"),
)
_BOXES = tuple(name for name in _OBJECTS if name not in {"points", "prompt_tags"})
_POINTS: tuple[SchemaName, ...] = (*_OBJECTS[:4], "points")
_SCHEMAS: dict[str, tuple[SchemaName, ...]] = {
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
    "mask_iou": _OBJECTS,
    "boundary_iou": _OBJECTS,
    "s_measure": _OBJECTS,
    "text_match": ("text",),
}


def recipes() -> tuple[str, ...]:
    """The names of the recipes that ship with the library, sorted.

    Example:
        >>> "dr_seg" in recipes()
        True
    """
    files = _builtin_folder().iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def _check_warm_start(window: int, warm_start: int) -> None:
    if warm_start > window:
        raise ValueError(f"warm_start must be at most window ({window}), got {warm_start}")


def _builtin_folder() -> Traversable:
    return resources.files("rankreward") / "recipes"


def _unknown_recipe(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), recipes(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"unknown recipe {name!r}: {hint}expected one of {', '.join(recipes())}, "
        "or the path of a file that ends in .yaml"
    )


def _read_yaml(file: Traversable) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"recipe file {str(file)!r} does not exist") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"recipe file {str(file)!r} cannot be read: {error}") from None
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"recipe file {str(file)!r} is not YAML: {reason}") from None


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand once; plain YAML would keep the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            keys = [key.value for key, _ in node.value]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} stands twice", node.start_mark
            )
        return mapping


def _validate(data: Any, *, where: str) -> Recipe:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a mapping of keys, got {type(data).__name__}")
    try:
        return Recipe.model_validate(copy.deepcopy(dict(data)))
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, data, _known_keys())}") from None


def _known_keys() -> dict[str, list[str]]:
    """The keys of each section of a recipe, and of each kind of part."""
    kinds = (*TERMS, *METRICS, Ecdf, ReleasedEcdf, Raw, ZScore, Group, LengthBudget)
    models: dict[str, type[BaseModel]] = {
        get_args(model.model_fields["kind"].annotation)[0]: model for model in kinds
    }
    models |= {"response": Response, "frame": Frame, "accuracy": Accuracy, "": Recipe}
    models |= {"matching": Matching, "clip": Clip}
    return {
        name: [field.alias or key for key, field in model.model_fields.items()]
        for name, model in models.items()
    }
