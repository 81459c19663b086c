"""Rewards for group-relative RL of vision-language models: fair, fast and visible.

Goes in: completions of a policy and their references. Comes out: rewards in which no metric
drowns the others, because each counts by its rank in a rolling history of recent rollouts
(Dr. Seg, CVPR 2026, arXiv 2603.00152).

    import rankreward as rr

    scorer = rr.Scorer("dr_seg")
    batch = scorer.score(completions, references)  # batch.total, .terms, .raw, .ranks, .failures
    scorer.flush(step)

The names below load on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankreward import metrics, shaping
    from rankreward.compiled import warmup
    from rankreward.errors import (
        BadReferenceError,
        CheckpointError,
        ConfigError,
        InputError,
        MissingExtraError,
        RankRewardError,
        StateError,
        StepOrderError,
    )
    from rankreward.parsing import Failure, Objects, Response, parse, prompt, revision_prompt
    from rankreward.quantiles import FlushStats, MetricSummary, QuantileService
    from rankreward.recipe import Recipe, recipes, term
    from rankreward.rewards import ClipSimilarity, RewardBatch, Sample, Scorer, Target

__version__ = "0.1.0"

_HOME = {
    "BadReferenceError": "errors",
    "ClipSimilarity": "rewards",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "Failure": "parsing",
    "FlushStats": "quantiles",
    "InputError": "errors",
    "MetricSummary": "quantiles",
    "MissingExtraError": "errors",
    "Objects": "parsing",
    "QuantileService": "quantiles",
    "RankRewardError": "errors",
    "Recipe": "recipe",
    "Response": "parsing",
    "RewardBatch": "rewards",
    "Sample": "rewards",
    "Scorer": "rewards",
    "StateError": "errors",
    "StepOrderError": "errors",
    "Target": "rewards",
    "parse": "parsing",
    "prompt": "parsing",
    "recipes": "recipe",
    "revision_prompt": "parsing",
    "term": "recipe",
    "warmup": "compiled",
}

__all__ = [  # noqa: RUF022 - in the order of the way through the house
    "Recipe",
    "recipes",
    "term",
    "prompt",
    "revision_prompt",
    "parse",
    "Response",
    "Objects",
    "Failure",
    "metrics",
    "QuantileService",
    "FlushStats",
    "MetricSummary",
    "warmup",
    "Scorer",
    "RewardBatch",
    "Sample",
    "Target",
    "ClipSimilarity",
    "shaping",
    "RankRewardError",
    "ConfigError",
    "InputError",
    "BadReferenceError",
    "StateError",
    "StepOrderError",
    "CheckpointError",
    "MissingExtraError",
]


def __getattr__(name: str) -> Any:
    if name in {"metrics", "shaping"}:
        return importlib.import_module(f"rankreward.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'rankreward' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rankreward.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({"__version__", *__all__})
