"""NeMo-RL: the ranked reward as an environment, a Ray actor.

Put this folder on PYTHONPATH; in a copy of NeMo-RL's examples/run_vlm_grpo.py call
`nemo_rl_env.register()` before `main()`. In the configuration:

env:
  train: {recipe: dr_seg, window: my-run, rows_per_step: 512}
  validation: {recipe: dr_seg, window: my-run, rows_per_step: 0}
"""

from functools import partial

import ray
import torch
from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
from nemo_rl.environments.interfaces import EnvironmentInterface, EnvironmentReturn
from nemo_rl.environments.utils import ENV_REGISTRY

import rankreward as rr
from rankreward.quantiles.ray import RayQuantileService


@ray.remote
class RankRewardEnvironment(EnvironmentInterface):
    def __init__(self, cfg):
        self.rows_per_step = cfg["rows_per_step"]  # 0: an evaluation, which adds none
        window = partial(RayQuantileService, name=cfg["window"])
        self.scorer = rr.Scorer(cfg["recipe"], quantiles=window)

    def step(self, message_log_batch, metadata):
        texts = [
            "".join(turn["content"] for turn in log if turn["role"] == "assistant")
            for log in message_log_batch
        ]
        references = [each["ground_truth"] for each in metadata]
        batch = self.scorer.score(texts, references, record=self.rows_per_step > 0)
        # With an asynchronous engine this is called rollout by rollout, else once a step.
        window = self.scorer.quantiles
        if 0 < self.rows_per_step <= window.pending:
            self.scorer.flush((window.step or 0) + 1)
        return EnvironmentReturn(
            observations=[{"role": "environment", "content": ""} for _ in texts],
            metadata=metadata,
            next_stop_strings=[None] * len(texts),
            rewards=torch.tensor(batch.total, dtype=torch.float32),
            terminateds=torch.ones(len(texts), dtype=torch.bool),
            answers=None,
        )

    def global_post_process_and_metrics(self, batch):
        return batch, {}


def register():
    name = f"{__name__}.RankRewardEnvironment"
    ENV_REGISTRY["vlm"] = {"actor_class_fqn": name}  # a run of a VLM takes this one, always
    ACTOR_ENVIRONMENT_REGISTRY[name] = PY_EXECUTABLES.SYSTEM
