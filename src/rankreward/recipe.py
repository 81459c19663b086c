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
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from rankreward.errors import ConfigError, InputError
from rankreward.explain import explain, nearest
from rankreward.kinds import (
    COMPONENTS,
    MASKED,
    METRICS,
    PAIRWISE,
    SCHEMAS_OF,
    TERMS,
    Clip,
    Consistency,
    Detection,
    Discriminative,
    Ecdf,
    Group,
    Keyword,
    LengthBudget,
    Matching,
    Metric,
    Normalizer,
    Part,
    Raw,
    Released,
    ReleasedEcdf,
    ReleasedMetric,
    RevisionGain,
    SchemaName,
    Term,
    Tolerance,
    ZScore,
)
from rankreward.own import term

__all__ = ["Recipe", "recipes", "term"]  # the public part; stages import the models by name


class Frame(Part):
    """The coordinate frame of boxes and points, which a recipe declares and nothing guesses.

    `pixels` are those of the image as the policy sees it; a `grid` (Qwen3-VL's 0 to 1000) spans
    the image whatever its size.
    """

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    unit: Literal["pixels", "grid"] = "pixels"


class Response(Part):
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
        if self.keyword in {"think", "answer", "caption", "bbox", "points", "labels"}:
            raise ValueError(f"keyword must be a tag of its own, got {self.keyword!r}")
        if self.keyword is not None and not self.think:
            raise ValueError(f"keyword {self.keyword!r} needs a think block, got think: false")
        if (self.frame is None) != (self.schema_ == "text"):
            raise ValueError("every schema but 'text' needs a frame, and 'text' has none")
        return self


# What looks at references as this library reads them.
_READERS = {*SCHEMAS_OF, "consistency"} - {"caption", "discriminative"}


_LEAST = 1e-6  # of a share: what is smaller would make others too large to add up


class Accuracy(Part):
    """The weight that the metrics share, and how they are made comparable.

    Each defined metric is paid its `share` of `weight`. `failure` is the raw value of every
    metric for a completion without a readable answer.
    """

    weight: float = Field(ge=0, le=1e6)
    failure: float = Field(default=0.0, ge=0, le=1)
    matching: Matching | None = None
    metrics: dict[str, Metric] = Field(min_length=1)
    normalizer: Normalizer

    @model_validator(mode="after")
    def _complete(self) -> Accuracy:
        positive = [metric.share for metric in self.metrics.values() if metric.share > 0]
        if not positive:
            raise ValueError("one of the metrics must have a share above 0")
        if min(positive) < _LEAST:
            raise ValueError(f"shares above 0 must be at least {_LEAST:g}, got {min(positive):g}")
        pairwise = any(isinstance(metric, PAIRWISE) for metric in self.metrics.values())
        if pairwise and self.matching is None:
            raise ValueError("its metrics compare pairs of objects: it needs a matching")
        ranked = isinstance(self.normalizer, ReleasedEcdf)
        if ranked and not all(isinstance(m, ReleasedMetric) for m in self.metrics.values()):
            raise ValueError("the normalizer released_ecdf is for released metrics alone")
        return self


class Recipe(Part):
    """A reward: the response it expects, its terms, and its accuracy metrics.

    Made by `Recipe.load`; frozen. The names of `terms` and of `accuracy.metrics` are the names
    under which a `RewardBatch` reports them. `scale` is a factor of the whole reward, `clip`
    bounds it.
    """

    name: str = Field(min_length=1)
    source: str = ""
    response: Response
    terms: dict[str, Term] = Field(default_factory=dict)
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
        matching = self.accuracy.matching
        points = self.response.schema_ in SCHEMAS_OF["counting"]
        if matching is not None and matching.cost == "point" and not points:
            raise ValueError(
                f"matching by cost point needs answers with points, got {self.response.schema_}"
            )
        for name, part in (*self.terms.items(), *self.accuracy.metrics.items()):
            self._check_part(name, part)
        return self

    def _check_part(self, name: str, part: Any) -> None:
        """Whether a term or a metric can stand in this recipe."""
        schema, fitting = self.response.schema_, SCHEMAS_OF.get(part.kind)
        if isinstance(part, Released | ReleasedMetric):
            known, components = COMPONENTS[part.system]
            fitting = (known,)
            if name not in components:
                hint = nearest(name, components)
                raise ValueError(f"the released code of {part.system} has no {name!r}: {hint}")
        elif self.released and part.kind in _READERS:
            raise ValueError(
                f"{name!r} ({part.kind}) compares with a reference that is read, and released "
                "parts read it their own way: they cannot stand in one recipe"
            )
        if isinstance(part, Detection) and part.part == "label":
            fitting = ("labelled_boxes",)
        if fitting is not None and schema not in fitting:
            raise ValueError(
                f"{name!r} ({part.kind}) needs a response with the schema {', '.join(fitting)}, "
                f"got {schema}"
            )
        if isinstance(part, Keyword) and self.response.keyword is None:
            raise ValueError(f"{name!r} (keyword) needs response.keyword, got none")
        if isinstance(part, Consistency) and part.metric not in self.accuracy.metrics:
            names = ", ".join(self.accuracy.metrics)
            raise ValueError(f"{name!r} needs one of the metrics {names}, got {part.metric!r}")

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
    def parts(self) -> tuple[str, ...]:
        """What a reward is the sum of: terms, metrics, and what clipping took."""
        return (*self.terms, *self.accuracy.metrics, *(["clip"] if self.clip is not None else []))

    @property
    def needs_images(self) -> bool:
        """Whether it looks at the images, for masks or to compare a caption with them."""
        parts = (*self.terms.values(), *self.accuracy.metrics.values())
        return any(isinstance(part, (*MASKED, Discriminative)) for part in parts)

    @property
    def needs_groups(self) -> bool:
        """Whether it compares the answers to one question with one another."""
        consistent = any(isinstance(part, Consistency) for part in self.terms.values())
        return consistent or isinstance(self.accuracy.normalizer, Group)

    @property
    def needs_steps(self) -> bool:
        """Whether what it pays depends on earlier steps, through its window."""
        return self.accuracy.normalizer.kind not in {"none", "group"}

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
    except (LookupError, AttributeError):  # what PyYAML raises of `!!int ''` and its like
        raise ConfigError(
            f"recipe file {str(file)!r} is not YAML: a value does not fit the tag (!!...) before it"
        ) from None


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand once; plain YAML would keep the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        written = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        mapping = super().construct_mapping(node, deep=deep)
        # As values: `yes` and `true` are one key, and so are 1 and 0x1.
        keys = [self.construct_object(key, deep=deep) for key in written]
        if len(set(keys)) != len(keys):
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
    models: dict[str, type[BaseModel]] = {
        "response": Response,
        "frame": Frame,
        "accuracy": Accuracy,
        "matching": Matching,
        "clip": Clip,
        "": Recipe,
    }
    others = (Ecdf, ReleasedEcdf, Raw, ZScore, Group, LengthBudget)
    for section, kinds in (("terms.", TERMS), ("metrics.", METRICS), ("", others)):
        for model in kinds:
            kind = get_args(model.model_fields["kind"].annotation)[0]
            models[section + kind] = model
    return {
        name: [field.alias or key for key, field in model.model_fields.items()]
        for name, model in models.items()
    }
