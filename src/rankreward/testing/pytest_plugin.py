"""The pytest plugin: rewards checked from the command line, and failures without a traceback.

Goes in: ``pytest --rankreward my_rewards:my_reward --rankreward-layout boxes``. Comes out: one
test for each invariant, and nothing else is collected. Where an invariant is broken, there or in
a test of `rankreward.testing.reward_tests` or `assert_reward`, the report stands alone.

pytest loads this in every run where rankreward is installed, so it imports nothing else before it
is used; Hypothesis may be missing until then.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_PLACE = "rankreward.testing.report"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, in a group of their own."""
    group = parser.getgroup("rankreward", "check a reward function")
    group.addoption("--rankreward", metavar="MODULE:NAME", help="check this reward, or this recipe")
    group.addoption(
        "--rankreward-layout", metavar="NAME", help="what answers look like: schema, recipe"
    )
    group.addoption(
        "--rankreward-signature",
        default="ours",
        metavar="NAME",
        help="how the function is called: ours, trl, verl or easyr1",
    )
    group.addoption(
        "--rankreward-column", default="solution", metavar="NAME", help="TRL's reference"
    )
    group.addoption("--rankreward-skip", default="", metavar="A,B", help="invariants not to check")
    group.addoption("--rankreward-examples", type=int, default=None, metavar="N", help="of each")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With a reward on the command line no file is collected."""
    del collection_path
    return True if config.getoption("--rankreward") else None


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """One test an invariant, of the reward on the command line."""
    name = config.getoption("--rankreward")
    if not name:
        return
    check = _check(name, config)
    items[:] = [
        RewardItem.from_parent(session, name=f"{name}::{each}", check=check, invariant=each)
        for each in check.names
    ]


class RewardItem(pytest.Item):
    """A test of one invariant."""

    def __init__(self, *, check: Any, invariant: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check, self.invariant = check, invariant

    def runtest(self) -> None:
        """Check it."""
        self.check.run(self.invariant)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it is, and its name."""
        return self.config.rootpath, None, self.name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show a broken invariant by its report alone."""
    report = yield
    error = None if call.excinfo is None else call.excinfo.value
    if type(error).__module__ == _PLACE:  # no import: whoever raised it has imported it
        report.longrepr = str(error)
    return report


def _check(name: str, config: pytest.Config) -> Any:
    """The invariants of the reward, or what is wrong with the options."""
    errors = importlib.import_module("rankreward.errors")
    options = {
        "signature": config.getoption("--rankreward-signature"),
        "reference": config.getoption("--rankreward-column"),
        "skip": [each for each in config.getoption("--rankreward-skip").split(",") if each],
    }
    if config.getoption("--rankreward-examples") is not None:
        options["max_examples"] = config.getoption("--rankreward-examples")
    try:
        check = importlib.import_module("rankreward.testing.check")
        reward = _load(name, config) if ":" in name else name
        return check.Check.of(reward, config.getoption("--rankreward-layout"), **options)
    except errors.RankRewardError as error:
        raise pytest.UsageError(f"--rankreward {name}: {error}") from None


def _load(name: str, config: pytest.Config) -> Any:
    """The function of a module, which may lie where pytest was started or in its root folder."""
    module, _, attribute = name.partition(":")
    folders = [str(config.invocation_params.dir), str(config.rootpath)]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise pytest.UsageError(f"--rankreward {name}: {error}") from None
    return found
