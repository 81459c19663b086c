"""Tests for reward functions, ours and yours: their weaknesses, found before a policy finds them.

Goes in: a reward function in the signature of a trainer, and what answers look like. Comes out: a
report of the invariants that hold, and of those that do not the smallest counterexample.

    from rankreward.testing import check_reward

    print(check_reward(my_reward, "grounding_list", signature="trl"))

Check: `check_reward`, `assert_reward`, `reward_tests` (a test an invariant, for pytest).
Invariants: `INVARIANTS`, `Invariant`, `Trial`. Hypothesis strategies: `boxes`, `points`, `answers`,
`references`, `completions`, `batches`, `windows`. Stand-ins: `warmed`, `FilledBoxes`,
`crop_similarity`. What answers look like: `Layout`.

Needs the extra ``testing``. The names load on first use: pytest imports this package in every run
where rankreward is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankreward.testing.check import assert_reward, check_reward, reward_tests
    from rankreward.testing.invariants import INVARIANTS
    from rankreward.testing.layouts import Layout
    from rankreward.testing.report import Counterexample, Finding, Report, RewardFailure
    from rankreward.testing.stand_ins import FilledBoxes, crop_similarity, warmed
    from rankreward.testing.strategies import (
        answers,
        batches,
        boxes,
        completions,
        points,
        references,
        windows,
    )
    from rankreward.testing.trial import Invariant, Trial

_HOME = {
    "INVARIANTS": "invariants",
    "Counterexample": "report",
    "FilledBoxes": "stand_ins",
    "Finding": "report",
    "Invariant": "trial",
    "Layout": "layouts",
    "Report": "report",
    "RewardFailure": "report",
    "Trial": "trial",
    "answers": "strategies",
    "assert_reward": "check",
    "batches": "strategies",
    "boxes": "strategies",
    "check_reward": "check",
    "completions": "strategies",
    "crop_similarity": "stand_ins",
    "points": "strategies",
    "references": "strategies",
    "reward_tests": "check",
    "warmed": "stand_ins",
    "windows": "strategies",
}

__all__ = [  # noqa: RUF022 - in the order in which they are met
    "check_reward",
    "assert_reward",
    "reward_tests",
    "Report",
    "Finding",
    "Counterexample",
    "RewardFailure",
    "INVARIANTS",
    "Invariant",
    "Trial",
    "Layout",
    "boxes",
    "points",
    "answers",
    "references",
    "completions",
    "batches",
    "windows",
    "warmed",
    "FilledBoxes",
    "crop_similarity",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rankreward.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rankreward.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
