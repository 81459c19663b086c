"""Settings of the tests in verl's own environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["TRANSFER_QUEUE_ENABLE"] = "1"

# What the libraries beneath warn of; ours stay errors.
IGNORED = [
    "ignore:.* engine is not available:UserWarning:verl",
    "ignore:Ray state API is no longer experimental:DeprecationWarning:ray",
    "ignore:.*load_extern_type.* is deprecated:FutureWarning",
]


def pytest_configure(config: pytest.Config) -> None:
    for line in IGNORED:
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    from verl_tokens import save_tokenizer  # noqa: PLC0415 - the path is this file's own doing

    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray for tests that make everything in their own process."""
    import ray  # noqa: PLC0415

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def no_window_left() -> Iterator[None]:
    from verl_manager import end_window  # noqa: PLC0415

    yield
    end_window()


@pytest.fixture
def configure(tokenizer: str, tmp_path: Path) -> Callable[..., Any]:
    """verl's configuration with our manager and some changes."""
    import verl_flow as vf  # noqa: PLC0415

    def configure(*overrides: str, recipe: object = "dr_seg") -> Any:
        section = [f"+rankreward.recipe={recipe}"]
        return vf.compose(
            *vf.MANAGER, *section, *overrides, tokenizer=tokenizer, output=tmp_path / "run"
        )

    return configure
