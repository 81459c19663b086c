"""NeMo-RL 0.7: the example by the shape of the calls that its source makes; NeMo-RL is not run.

The stand-ins below have the names and fields that `calculate_rewards` in
nemo_rl/experience/rollouts.py and `create_env` in nemo_rl/environments/utils.py use.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from builders import G1, entry, wrap

import rankreward as rr

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugins" / "nemo_rl_env.py"
ANSWERS = [wrap([entry([100, 100, x, 300], [200, 200])]) for x in (300, 250, 200)] + ["no answer"]


class EnvironmentReturn(NamedTuple):
    observations: Any
    metadata: Any
    next_stop_strings: Any
    rewards: Any
    terminateds: Any
    answers: Any


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file, loaded beside stand-ins for the four modules that it imports."""
    names = {
        "nemo_rl.distributed.ray_actor_environment_registry": {"ACTOR_ENVIRONMENT_REGISTRY": {}},
        "nemo_rl.distributed.virtual_cluster": {"PY_EXECUTABLES": type("", (), {"SYSTEM": "py"})},
        "nemo_rl.environments.interfaces": {
            "EnvironmentInterface": object,
            "EnvironmentReturn": EnvironmentReturn,
        },
        "nemo_rl.environments.utils": {"ENV_REGISTRY": {"vlm": {"actor_class_fqn": "theirs"}}},
    }
    for name in ("nemo_rl", "nemo_rl.distributed", "nemo_rl.environments"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, attributes in names.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("nemo_rl_env", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nemo_rl_env", module)
    spec.loader.exec_module(module)
    return module


def make(example: ModuleType, window: str, rows_per_step: int) -> Any:
    """The environment in this process, not in an actor of its own."""
    plain = example.RankRewardEnvironment.__ray_metadata__.modified_class
    return plain({"recipe": "dr_seg", "window": window, "rows_per_step": rows_per_step})


def step(environment: Any, texts: list[str], reference: str = json.dumps(G1)) -> Any:
    logs = [
        [{"role": "user", "content": "Find the cup."}, {"role": "assistant", "content": text}]
        for text in texts
    ]
    return environment.step(logs, [{"ground_truth": reference}] * len(texts))


def test_steps_and_validation_are_a_plain_scorers(example: ModuleType, window_name: str) -> None:
    """Called once a step or once a rollout, with a validation between, it pays the same."""
    plain = rr.Scorer("dr_seg")
    training = make(example, window_name, len(ANSWERS))
    validation = make(example, window_name, 0)
    window = training.scorer.quantiles
    for number, at_once in ((1, True), (2, False), (3, True)):
        calls = [ANSWERS] if at_once else [[text] for text in ANSWERS]
        returned = [step(training, texts) for texts in calls]
        batch = plain.score(ANSWERS, [G1] * len(ANSWERS))
        plain.flush(number)
        paid = torch.cat([each.rewards for each in returned])
        assert paid.dtype == torch.float32
        assert torch.equal(paid, torch.tensor(batch.total, dtype=torch.float32))
        seen = step(validation, ANSWERS)
        batch = plain.score(ANSWERS, [G1] * len(ANSWERS), record=False)
        assert np.allclose(seen.rewards, batch.total)
        assert (window.step, window.pending) == (number, 0)
        assert np.array_equal(window.rows, plain.quantiles.rows)


def test_a_rollout_ends_with_its_answer(example: ModuleType, window_name: str) -> None:
    """Every field has one entry a rollout, and each is terminated."""
    returned = step(make(example, window_name, 0), ANSWERS)
    assert returned.terminateds.tolist() == [True] * len(ANSWERS)
    assert returned.observations == [{"role": "environment", "content": ""}] * len(ANSWERS)
    assert returned.metadata == [{"ground_truth": json.dumps(G1)}] * len(ANSWERS)
    assert returned.next_stop_strings == [None] * len(ANSWERS)


def test_a_broken_reference_raises(example: ModuleType, window_name: str) -> None:
    """In a Ray actor that ends the driver's `ray.get`, and so the run."""
    with pytest.raises(rr.BadReferenceError):
        step(make(example, window_name, 4), ANSWERS, reference="[{]")


def test_register_takes_the_place_of_the_vlm_environment(example: ModuleType) -> None:
    """Under the name by which Ray's workers import it."""
    example.register()
    name = "nemo_rl_env.RankRewardEnvironment"
    assert example.ENV_REGISTRY["vlm"] == {"actor_class_fqn": name}
    assert example.ACTOR_ENVIRONMENT_REGISTRY[name] == "py"
