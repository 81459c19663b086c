"""Recipes: which reward a system pays, as data.

Goes in: a recipe's name, the path of a YAML file, a mapping, or a `Recipe`. Comes out: a frozen,
validated `Recipe` that every later stage reads: the prompt asks for what the recipe pays, the
parser reads what the prompt asked for, the scorer weighs what the parser found.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rankreward.errors import ConfigError, InputError


class _Part(BaseModel):
    # strict: YAML's `yes` is no number, and a text that looks like one is none either
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Frame(_Part):
    """The coordinate frame of boxes and points: pixels of the image as the policy sees it."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)


class Response(_Part):
    """What a completion has to look like."""

    schema_: Literal["grounding_list"] = Field(alias="schema")
    keyword: str = Field(pattern=r"^[a-z][a-z_]*$")
    max_objects: int = Field(gt=0)
    frame: Frame

    @model_validator(mode="after")
    def _keyword_is_its_own_tag(self) -> Response:
        if self.keyword in {"think", "answer"}:
            raise ValueError(f"keyword must be a tag of its own, got {self.keyword!r}")
        return self


class ThinkAnswer(_Part):
    """1 if the text is one think block, white space, one answer block, and nothing else."""

    kind: Literal["think_answer"]
    weight: float


class AnswerJson(_Part):
    """1 if the answer block is a JSON list whose every entry has a box and a point."""

    kind: Literal["answer_json"]
    weight: float


class Keyword(_Part):
    """1 if the think block holds the response's keyword tag around some text."""

    kind: Literal["keyword"]
    weight: float


class NonRepeat(_Part):
    """1 unless sentences are repeated more than `max_repeats` times, or the prompt is copied."""

    kind: Literal["non_repeat"]
    weight: float
    max_repeats: int = Field(ge=0)


class BoxIoU(_Part):
    """Mean IoU over the matched pairs of boxes, in [0, 1]."""

    kind: Literal["box_iou"]


class CountRatio(_Part):
    """min(M, N) / max(M, N) for M predicted and N reference objects, in [0, 1]."""

    kind: Literal["count_ratio"]


class PointRamp(_Part):
    """Mean over matched pairs of a ramp: 1 up to `near` pixels apart, 0 from `far` pixels on."""

    kind: Literal["point_ramp"]
    near: float = Field(ge=0)
    far: float

    @model_validator(mode="after")
    def _ordered(self) -> PointRamp:
        if self.far <= self.near:
            raise ValueError(f"far must be above near ({self.near:g}), got {self.far:g}")
        return self


class Ecdf(_Part):
    """Replace each metric by its rank in a rolling window of recent rollouts."""

    kind: Literal["ecdf"]
    window: int = Field(gt=0)
    warm_start: int = Field(ge=0)
    ties: Literal["weak", "strict", "mid"]
    order: Literal["canonical", "arrival"]

    @model_validator(mode="after")
    def _fits(self) -> Ecdf:
        if self.warm_start > self.window:
            raise ValueError(
                f"warm_start must be at most window ({self.window}), got {self.warm_start}"
            )
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


Normalizer = Annotated[Ecdf | Raw | ZScore | Group, Field(discriminator="kind")]
Term = Annotated[ThinkAnswer | AnswerJson | Keyword | NonRepeat, Field(discriminator="kind")]
Metric = Annotated[BoxIoU | CountRatio | PointRamp, Field(discriminator="kind")]


class Accuracy(_Part):
    """The weight that the metrics share equally, and how they are made comparable.

    `failure` is the raw value of every metric for a completion without a readable answer.
    """

    weight: float = Field(ge=0)
    failure: float = Field(ge=0, le=1)
    metrics: dict[str, Metric] = Field(min_length=1)
    normalizer: Normalizer


class Recipe(_Part):
    """A reward: the response it expects, its terms, and its accuracy metrics.

    Made by `Recipe.load`; frozen. The names of `terms` and of `accuracy.metrics` are the names
    under which a `RewardBatch` reports them.
    """

    name: str = Field(min_length=1)
    source: str = ""
    response: Response
    terms: dict[str, Term]
    accuracy: Accuracy

    @model_validator(mode="after")
    def _distinct_names(self) -> Recipe:
        shared = self.terms.keys() & self.accuracy.metrics.keys()
        if shared:
            raise ValueError(f"a term and a metric share the name {min(shared)!r}")
        return self

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

    def resized(self, width: int, height: int | None = None) -> Recipe:
        """The same recipe for images of another size: distances keep their share of the frame.

        Args:
            width: width of the image as the policy sees it, in pixels.
            height: its height; `width` if left out.

        Returns:
            A recipe whose frame is `width` x `height` and whose pixel distances are scaled with
            it; ranks, weights and formats are untouched.

        Raises:
            InputError: the size is not positive, or has another aspect ratio than the recipe's
                frame, so that no one factor would scale both axes.

        Example:
            >>> Recipe.load("dr_seg").resized(84).accuracy.metrics["point"]
            PointRamp(kind='point_ramp', near=3.0, far=20.0)
        """
        old, height = self.response.frame, width if height is None else height
        if not all(type(side) is int and side > 0 for side in (width, height)):
            raise InputError(f"frame: expected whole positive sizes, got {width!r} x {height!r}")
        if width * old.height != height * old.width:
            raise InputError(
                f"frame: expected the aspect ratio {old.width}:{old.height} of recipe "
                f"{self.name!r}, got {width} x {height}"
            )
        factor = width / old.width
        frame = Frame(width=width, height=height)
        response = self.response.model_copy(update={"frame": frame})
        metrics = {
            name: metric.model_copy(
                update={"near": metric.near * factor, "far": metric.far * factor}
            )
            if isinstance(metric, PointRamp)
            else metric
            for name, metric in self.accuracy.metrics.items()
        }
        accuracy = self.accuracy.model_copy(update={"metrics": metrics})
        update = {"response": response, "accuracy": accuracy, "terms": dict(self.terms)}
        return self.model_copy(update=update)


def recipes() -> tuple[str, ...]:
    """The names of the recipes that ship with the library, sorted.

    Example:
        >>> "dr_seg" in recipes()
        True
    """
    files = _builtin_folder().iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def _builtin_folder() -> Traversable:
    return resources.files("rankreward") / "recipes"


def _unknown_recipe(name: str) -> str:
    near = difflib.get_close_matches(name, recipes(), n=1)
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
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, data)}") from None


def _explain(error: ValidationError, data: Mapping[str, Any]) -> str:
    """One line for the first thing that is wrong, with the nearest valid key where one is near."""
    # A misspelt key also shows as a missing one: name the misspelling, not its consequence.
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path, parent = _locate(first["loc"], data)
    name = ".".join(path) or "the recipe"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "missing":
        return f"key {name!r} is missing; the recipe 'dr_seg' shows every key{more}"
    if first["type"] == "extra_forbidden":
        known = _known_keys(path, parent)
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        return f"unknown key {name!r}: {hint}{more}"
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return f"{name}: {message[0].lower()}{message[1:]}{got}{more}"


def _locate(
    location: tuple[str | int, ...], data: Mapping[str, Any]
) -> tuple[list[str], Mapping[str, Any]]:
    """The keys that lead to an error, and the mapping that holds the last of them.

    Pydantic also names the kind of a term or metric on the way, which is no key of the recipe.
    """
    path: list[str] = []
    parent: Any = data
    value: Any = data
    for part in location:
        if isinstance(value, Mapping) and part not in value and value.get("kind") == part:
            continue
        path.append(str(part))
        parent, value = value, value.get(part) if isinstance(value, Mapping) else None
    return path, parent


def _known_keys(path: list[str], parent: Mapping[str, Any]) -> list[str]:
    """The keys that are allowed beside an unknown one."""
    kinds = (
        *(ThinkAnswer, AnswerJson, Keyword, NonRepeat),
        *(BoxIoU, CountRatio, PointRamp),
        *(Ecdf, Raw, ZScore, Group),
    )
    models: dict[str, type[BaseModel]] = {
        get_args(k.model_fields["kind"].annotation)[0]: k for k in kinds
    }
    models |= {"response": Response, "frame": Frame, "accuracy": Accuracy}
    section = path[-2] if len(path) > 1 else ""
    model = models.get(parent["kind"] if section and "kind" in parent else section, Recipe)
    return [field.alias or name for name, field in model.model_fields.items()]
