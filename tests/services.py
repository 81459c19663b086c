"""Every kind of quantile service, each made with the arguments of the local one."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist

from rankreward.quantiles.distributed import DistributedQuantileService
from rankreward.quantiles.owner import Owner
from rankreward.quantiles.ray import RayQuantileService
from rankreward.quantiles.shared import SharedQuantileService

_names = map("window-{}".format, itertools.count())


class DirectQuantileService(SharedQuantileService):
    """A client whose owner is an object in the same process."""

    def __init__(self, metrics: Any, *, owner: Owner | None = None, **arguments: Any) -> None:
        arguments.setdefault("max_age", 0.0)
        super().__init__(metrics, **arguments)
        self.owner = owner or Owner(self._config(), None, resume=False)

    def _ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self.owner, method)(*arguments)


def start_group() -> None:
    """A gloo group of this process alone."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def start_ray() -> None:
    """A Ray cluster of this machine."""
    if not ray.is_initialized():
        os.environ["RAY_AUTH_MODE"] = "disabled"
        here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # workers import the tests
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=here)


def distributed(metrics: Any, **arguments: Any) -> DistributedQuantileService:
    start_group()
    return DistributedQuantileService(metrics, verify=True, **arguments)


def on_ray(metrics: Any, **arguments: Any) -> RayQuantileService:
    start_ray()
    arguments = {"name": next(_names), "max_age": 0.0, **arguments}
    return RayQuantileService(metrics, **arguments)
