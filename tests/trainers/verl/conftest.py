"""Settings of the tests in verl's own environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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
