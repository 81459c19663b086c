"""Shards of a run as Ray tasks, where there is a cluster.

Goes in: how to make a policy, samples, and what each task needs. Comes out: the files of the
shards, in a folder that all machines see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rankreward.errors import InputError, require
from rankreward.evaluation.policies import Policy
from rankreward.evaluation.running import run_policy
from rankreward.evaluation.samples import Samples
from rankreward.evaluation.segmenters import Segmenter


def run_on_ray(
    make_policy: Callable[[], Policy],
    samples: Samples,
    *,
    shards: int,
    out: str | Path,
    make_segmenter: Callable[[], Segmenter] | None = None,
    resources: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Path]:
    """Run all shards of a run on Ray's cluster; each task makes its own policy.

    A task whose machine dies is started again by Ray, and goes on where it was.

    Args:
        make_policy: makes the policy; called once in each task.
        samples: as for `run_policy`; files have to be where every machine sees them.
        shards: how many tasks.
        out: the folder, which every machine sees.
        make_segmenter: makes the segmenter, likewise; None for boxes alone.
        resources: what Ray's ``options`` takes for each task, such as ``{"num_gpus": 1}``.
        options: further arguments of `run_policy`.

    Returns:
        The shards' files.

    Raises:
        InputError: `shards` is less than 1.
        MissingExtraError: Ray is not installed.
        Exception: what a shard raised, once all others are done.
    """
    if shards < 1:
        raise InputError(f"shards: expected at least 1, got {shards}")
    ray: Any = require("ray", extra="ray")
    task = ray.remote(_shard).options(**(resources or {}))
    folder = Path(out).absolute()
    running = [
        task.remote(make_policy, make_segmenter, samples, (i, shards), folder, options)
        for i in range(shards)
    ]
    ray.wait(running, num_returns=shards)
    return list(ray.get(running))


def _shard(
    make_policy: Callable[[], Policy],
    make_segmenter: Callable[[], Segmenter] | None,
    samples: Samples,
    shard: tuple[int, int],
    out: Path,
    options: Mapping[str, Any],
) -> Path:
    segmenter = None if make_segmenter is None else make_segmenter()
    return run_policy(make_policy(), samples, shard=shard, out=out, segmenter=segmenter, **options)
