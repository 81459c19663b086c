"""A run on a real Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import ray
from eval_makers import RECIPE, SCENES, run, timeless

import rankreward as rr
from rankreward import evaluation as ev


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.shutdown()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    paths = Path(__file__).parent, Path(rr.__file__).parents[1]  # workers import what is tested
    here = {"env_vars": {"PYTHONPATH": os.pathsep.join(map(str, paths))}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=here)
    yield
    ray.shutdown()


def test_shards_on_ray_are_one_run(tmp_path: Path) -> None:
    """Two tasks in processes of their own write what one process does."""
    whole = ev.merge(run(tmp_path / "whole"))
    files = ev.run_on_ray(
        partial(ev.StoredPolicy, tmp_path / "whole.answers"), ev.scene_samples(SCENES),
        shards=2, out=tmp_path / "ray", make_segmenter=ev.GrabCut,
        resources={"num_cpus": 0.5}, recipe=RECIPE, batch_size=4,
    )  # fmt: skip
    assert [file.name for file in files] == ["samples-0of2.jsonl", "samples-1of2.jsonl"]
    assert timeless(ev.merge(tmp_path / "ray")) == timeless(whole)


def test_a_shard_that_fails_is_heard_of(tmp_path: Path) -> None:
    """What a task raises is raised here."""
    (tmp_path / "none").write_text("")
    with pytest.raises(rr.InputError, match="have none"):
        ev.run_on_ray(
            partial(ev.StoredPolicy, tmp_path / "none"), ev.scene_samples(SCENES),
            shards=2, out=tmp_path / "ray", resources={"num_cpus": 0.5}, recipe=RECIPE,
        )  # fmt: skip
    with pytest.raises(rr.InputError, match="shards: expected at least 1"):
        ev.run_on_ray(ev.GrabCut, ev.scene_samples([]), shards=0, out=tmp_path)
