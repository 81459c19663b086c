"""What a study compares: a YAML file, read and checked.

Goes in: the path of a design. Comes out: a `Design`, and for every run of it the settings that its
result depends on. A variant is data alone: a recipe, changes to it, and how its terms are added up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

import rankreward as rr
import study_kinds  # noqa: F401 - registers the metrics that variants name
from policy import SIZE, START
from rankreward.datasets.digits import scenes

Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Part):
    """A reward: a recipe with changes, whose terms are normalised as their sum or one by one."""

    recipe: str = "dr_seg"
    changes: dict[str, Any] = Field(default_factory=dict)
    aggregation: Aggregation = "sum_then_normalize"
    training: dict[str, Any] = Field(default_factory=dict)
    seeds: int | None = Field(default=None, gt=0)
    about: str = ""

    def reward(self) -> rr.Recipe:
        """The recipe in the frame of the scenes; changes are in that frame's pixels."""
        return rr.Recipe.load(self.recipe).resized(SIZE).override(self.changes)


class Training(_Part):
    """A run of GRPO: `prompts` times `rollouts` completions a step, on scenes of these options."""

    prompts: int = Field(gt=0)
    rollouts: int = Field(gt=1)
    steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    max_tokens: int = Field(gt=0)
    scenes: dict[str, Any]


class Registered(_Part):
    """What was asked before any run: which differences, of which measure, how large at least.

    `pairs` are [first, second]: the question is whether the first is better by `least` or more.
    """

    held_out: str
    measure: str
    least: float
    pairs: list[tuple[str, str]]


class Design(_Part):
    """A study: every variant with every seed, or with as many as it says itself.

    `held_out` names sets of scenes: how many, and in which options they differ from those that are
    trained on. `block` is how many steps a point of a curve is the mean of.
    """

    name: str
    about: str = ""
    seeds: int = Field(gt=0)
    block: int = Field(gt=0)
    training: Training
    held_out: dict[str, dict[str, Any]]
    variants: dict[str, Variant]
    registered: Registered | None = None

    @classmethod
    def load(cls, path: Path) -> Design:
        """Read a design, and see that every recipe and every set of scenes can be made."""
        design = cls.model_validate(yaml.safe_load(path.read_text()))
        for variant in design.variants.values():
            variant.reward()
            for options in design.sets(variant).values():
                next(scenes(**{**options, "count": 1, "seed": 0}))
        return design

    def training_of(self, variant: Variant) -> Training:
        """How a variant is trained: as all are, but for what it says."""
        return Training.model_validate({**self.training.model_dump(), **variant.training})

    def sets(self, variant: Variant) -> dict[str, dict[str, Any]]:
        """The held-out sets of a variant, each as arguments of `scenes`."""
        usual = self.training_of(variant).scenes
        return {
            name: {"split": "eval", **usual, **options} for name, options in self.held_out.items()
        }

    def runs(self) -> Iterator[tuple[str, int]]:
        """Variant and seed of every run; the first seed of all variants comes first."""
        for seed in range(max(map(self.seeds_of, self.variants))):
            for name in self.variants:
                if seed < self.seeds_of(name):
                    yield name, seed

    def seeds_of(self, name: str) -> int:
        """How many seeds a variant is run with."""
        return self.variants[name].seeds or self.seeds

    def fingerprint(self, name: str) -> str:
        """Of all that a variant's results depend on, the seed and the code aside."""
        variant = self.variants[name]
        settings = {
            "recipe": variant.reward().to_dict(),
            "aggregation": variant.aggregation,
            "training": self.training_of(variant).model_dump(),
            "held_out": self.sets(variant),
            "block": self.block,
            "start": hashlib.sha256((START / "model.safetensors").read_bytes()).hexdigest(),
        }
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
