"""Settings of the tests that run the examples inside other packages."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

os.environ["RAY_AUTH_MODE"] = "disabled"


def pytest_configure(config: pytest.Config) -> None:
    """Other packages may warn as they like; a warning of ours stays an error."""
    for line in ("ignore", "error:::rankreward"):
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session")
def ray_job() -> Iterator[None]:
    """A small Ray in this machine."""
    import ray  # noqa: PLC0415 - the tests that need no Ray run without it

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def window_name(ray_job: None) -> str:
    """A name that no window of another test has."""
    return f"window-{uuid.uuid4().hex}"
