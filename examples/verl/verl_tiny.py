"""verl's data flow without its GPUs: three steps of a tiny policy's answers.

Goes in: verl's configuration, checked. Comes out: a line of figures a step. Dataset, TransferQueue,
agent loop, reward loop and replay buffer are verl's own, the reward is ours; the tiny policy stands
in for vLLM, and nothing is trained.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ["TRANSFER_QUEUE_ENABLE"] = "1"  # read by verl when it is imported

import numpy as np
import ray
import transfer_queue as tq
from digits_in_verl import Digits
from sampler import TinySampler
from verl.experimental.reward_loop import RewardLoopManager
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, PPOTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn
from verl.workers.rollout.replica import TokenOutput

HERE = Path(__file__).parent
STEPS, PROMPTS = 3, 4
FIELDS = ["rm_scores", "extra_fields"]
# What is put in place of the configuration's values for two cores without a GPU.
SETTINGS = [
    "data.max_prompt_length=512",
    "data.max_response_length=64",
    f"data.train_batch_size={PROMPTS}",
    f"data.custom_cls.path={HERE / 'digits_in_verl.py'}",
    "data.custom_cls.name=Digits",
    "data.filter_overlong_prompts_workers=1",
    f"actor_rollout_ref.actor.ppo_mini_batch_size={PROMPTS}",
    "actor_rollout_ref.model.external_lib=digits_in_verl",
    "+actor_rollout_ref.model.override_config.attn_implementation=eager",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "reward.num_workers=2",
    "trainer.n_gpus_per_node=1",
    "trainer.resume_mode=disable",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
]


def rehearse(config: Any) -> None:
    """Validation, three steps, the window's checkpoint, and validation again."""
    config.transfer_queue.enable = True
    start_ray()
    try:
        tq.init(config.transfer_queue)
        flow = Flow(config)
        flow.show("validation", flow.run(0, "val"))
        for step in range(1, STEPS + 1):
            flow.show(f"step {step}", flow.run(step, "train"))
        flow.save(STEPS)
        flow.show("validation", flow.run(STEPS, "val"))
        tq.close()
    finally:
        ray.shutdown()


def start_ray() -> None:
    """A small Ray, whose workers find these files."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent / "grounding")])
    kept = os.environ.get("PYTHONPATH")
    variables = {
        "PYTHONPATH": paths if not kept else os.pathsep.join([paths, kept]),
        "TRANSFER_QUEUE_ENABLE": "1",
        "OMP_NUM_THREADS": "1",
    }
    ray.init(
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": variables},
    )


@ray.remote(num_cpus=0)
class Server:
    """The tiny policy, in place of a server of vLLM; it answers with the step of its weights."""

    def __init__(self) -> None:
        self.sampler, self.step = TinySampler(), 0

    def load(self, step: int) -> None:
        self.step = step

    def generate(self, ids: list[int], image: Any, *, sample: bool) -> tuple[list[int], int]:
        return self.sampler.generate([ids], [image], sample=sample)[0], self.step


class Client:
    """Asks the server as verl's own client asks vLLM."""

    def __init__(self, server: Any) -> None:
        self.server = server

    async def generate(
        self,
        request_id: str,
        *,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        image_data: list[Any] | None = None,
        **others: Any,
    ) -> TokenOutput:
        if not image_data:
            raise ValueError("expected an image with each prompt, got none")
        sample = sampling_params["temperature"] > 0
        ids, step = await self.server.generate.remote(prompt_ids, image_data[0], sample=sample)
        steps = dict.fromkeys(("global_steps", "min_global_steps", "max_global_steps"), step)
        return TokenOutput(token_ids=ids, stop_reason="completed", extra_fields=steps)


class Flow:
    """The parts of verl's trainer that a reward meets, in the trainer's order."""

    def __init__(self, config: Any) -> None:
        self.config, self.server = config, Server.remote()
        self.callback = build_checkpoint_callback(config)
        trainer = SimpleNamespace(
            config=config,
            trainer_mode=config.trainer.v1.trainer_mode,
            _add_prompts_to_generate=None,
            _resolve_filter_groups_metric=lambda: None,
        )
        self.buffer = PPOTrainer._build_replay_buffer(trainer)  # noqa: SLF001 - with verl's choice
        self.buffer.poll_interval = 0.1  # seconds; verl's own suits minutes
        self.rewards = RewardLoopManager(config)
        self.agents = AgentLoopManagerTQ.create(
            config=config,
            llm_client=Client(self.server),
            teacher_client=None,
            reward_loop_worker_handles=self.rewards.reward_loop_worker_handles,
        )
        self.data = {"train": rows(config, "train"), "val": rows(config, "val")}

    def run(self, step: int, part: str) -> tuple[Any, dict[str, Any]]:
        """Rollouts of a batch with their rewards, and what is logged."""
        data, begin = self.data[part], (step - 1) * PROMPTS
        wanted = range(begin, begin + PROMPTS) if part == "train" else range(len(data))
        ray.get(self.server.load.remote(step - (part == "train")))
        self.ask(collate_fn([data[index] for index in wanted]), step, part)
        batch, log = self.buffer.sample(
            global_steps=step, partition_id=part, batch_size=len(wanted)
        )
        found = tq.kv_batch_get(keys=batch.keys, partition_id=part, select_fields=FIELDS)
        tq.kv_clear(keys=batch.keys, partition_id=part)
        return found, log

    def ask(self, batch: dict[str, Any], step: int, part: str) -> None:
        """Hand prompts to the agent loop, as the trainer does."""
        count = len(batch["raw_prompt"])
        batch["uid"] = np.array([uuid.uuid4().hex for _ in range(count)], dtype=object)
        prompts = tu.get_tensordict(batch)
        tu.assign_non_tensor_data(prompts, "global_steps", step)
        if part == "val":
            tu.assign_non_tensor_data(prompts, "validate", part == "val")
        tag = {"is_prompt": True, "status": "pending", "global_steps": step}
        tq.kv_batch_put(keys=list(batch["uid"]), partition_id=part, tags=[tag] * count)
        self.agents.generate_sequences(prompts)

    def save(self, step: int) -> None:
        """A checkpoint of the window alone."""
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{step}"
        folder.mkdir(parents=True, exist_ok=True)
        self.callback.on_save(None, step, str(folder))

    def show(self, title: str, result: tuple[Any, dict[str, Any]]) -> None:
        """One line: the rewards that the trainer finds, and what it logs."""
        found, log = result
        scores = [float(score.sum()) for score in found["rm_scores"].unbind()]
        infos = [getattr(each, "data", each)["reward_extra_info"] for each in found["extra_fields"]]
        broken = [info["rankreward/error"] for info in infos if info["rankreward/error"]]
        if broken:
            raise RuntimeError(f"{len(broken)} rollouts could not be scored: {broken[0]}")
        shown = ", ".join(f"{name} {mean(infos, name):.3f}" for name in ("iou", "count", "point"))
        size = f", window {log['rankreward/window/size']:.0f}" if title != "validation" else ""
        print(f"{title}: {len(scores)} rollouts, reward {np.mean(scores):.3f}, {shown}{size}")


def mean(infos: list[dict[str, Any]], metric: str) -> float:
    """Over the rollouts that the metric applies to."""
    values = [info[f"rankreward/raw/{metric}"] for info in infos]
    return float(np.mean([value for value in values if value is not None]))


def rows(config: Any, part: str) -> Digits:
    """The rows of a file, as verl's dataset gives them."""
    from verl.utils import hf_processor, hf_tokenizer  # noqa: PLC0415 - patched by digits_in_verl

    folder = config.actor_rollout_ref.model.path
    file = config.data.train_files if part == "train" else config.data.val_files
    return Digits(file, hf_tokenizer(folder), config.data, hf_processor(folder))
