"""Check the adapter for EasyR1 against the EasyR1 that is installed.

Goes in: nothing; no model, no data, no GPU, nothing from the network. Comes out: a line a check and
a summary; the exit status is 1 if one failed. EasyR1's own classes read the settings, make the
reward workers, call the reward and average its log, as its trainer does; a plain scorer says what
the rewards should have been.

    python scripts/check_easyr1.py
"""

# ruff: noqa: INP001, T201 - a script, which prints

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # as EasyR1's main does

INSTALL = "https://github.com/hiyouga/EasyR1#installation"
try:
    import numpy as np
    import ray
    import torch
    import verl
    from omegaconf import OmegaConf
    from tensordict import TensorDict
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
except ImportError as error:
    sys.exit(f"this needs EasyR1, got {error}: install it as {INSTALL} says")
try:
    from verl.protocol import DataProto
    from verl.trainer.metrics import reduce_metrics
    from verl.utils.checkpoint import CHECKPOINT_TRACKER, find_latest_ckpt
    from verl.workers.reward import AutoRewardManager, RewardConfig
except ImportError as error:
    sys.exit(
        f"expected EasyR1, which imports as verl, got {verl.__path__} ({error}): another package "
        f"of that name, or half an EasyR1. In another environment install EasyR1 as {INSTALL} says"
    )
try:
    import rankreward as rr
    from rankreward.adapters.paths import paths
except ImportError as error:
    sys.exit(f"this needs rankreward beside EasyR1, got {error}: pip install rankreward")

RECIPE = rr.Recipe.load("dr_seg").override({"accuracy.normalizer.warm_start": 4})
REFERENCE = json.dumps([{"bbox_2d": [100, 100, 400, 400], "point_2d": [200, 200]}])
BATCH, LENGTH, PAD = 8, 400, "<pad>"
_failed: list[str] = []
_passed: list[str] = []


def check(claim: str, holds: bool, detail: object = None) -> None:  # noqa: FBT001
    """Print a line, and remember what failed."""
    (_passed if holds else _failed).append(claim)
    shown = f": {detail}" if detail else ""
    print(f"{'ok  ' if holds else 'FAIL'} {claim}{shown}", flush=True)


def settings(folder: Path | str, load: Path | str | None = None) -> RewardConfig:
    """EasyR1's settings of the reward, from a YAML, through its own classes."""
    ours = {"reward_function_kwargs": {"recipe": json.loads(json.dumps(RECIPE.to_dict()))}}
    places = {"save_checkpoint_path": str(folder), "load_checkpoint_path": load and str(load)}
    own = {"worker": {"reward": ours}, "trainer": {**places, "find_last_checkpoint": True}}
    file = OmegaConf.merge(OmegaConf.create(paths("easyr1")), own)  # what users are told to type
    try:
        from verl.trainer.config import PPOConfig  # needs vLLM, and that a GPU
    except ModuleNotFoundError:
        OmegaConf.resolve(file)
        structure = OmegaConf.structured(RewardConfig())
        reward = OmegaConf.to_object(OmegaConf.merge(structure, file.worker.reward))
        reward.post_init()
        return reward
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(PPOConfig()), file))
    config.deep_post_init()
    return config.worker.reward


def tokenizer() -> Any:
    """A tokenizer of bytes, which gives every text back as it was."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([PAD, *letters])}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def completions(seed: int) -> list[str]:
    """Answers that are off by random distances, and one that is broken."""
    boxes = np.random.default_rng(seed).uniform(50, 250, (BATCH - 1, 2)).round(1).tolist()
    answers = [[{"bbox_2d": [*at, 400, 400], "point_2d": at}] for at in boxes]
    think = "<think>A cup. <look>the red one</look></think>"
    return [*(f"{think}\n<answer>{json.dumps(a)}</answer>" for a in answers), "<answer>?"]


def batch(texts: list[str], tokens: Any, split: str = "train", *, broken: bool = False) -> Any:
    """The batch that EasyR1's trainer hands to its reward worker."""
    ids = torch.zeros(len(texts), LENGTH, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        encoded = tokens.encode(text)
        ids[row, : len(encoded)] = torch.tensor(encoded)
        mask[row, : len(encoded)] = 1
    truth = {"reference": "nonsense" if broken else REFERENCE, "split": split, "difficulty": None}
    return DataProto(
        batch=TensorDict({"responses": ids, "response_mask": mask}, batch_size=len(texts)),
        non_tensor_batch={"ground_truth": np.array([truth] * len(texts), dtype=object)},
    )


class Expected:
    """A plain scorer, flushed before each training batch, that can go back to a checkpoint."""

    def __init__(self) -> None:
        self.scorer, self.calls = rr.Scorer(RECIPE), 0
        self.kept: dict[int, Any] = {}

    def rewards(self, texts: list[str], *, record: bool = True) -> list[float]:
        """The rewards in single precision, as EasyR1 has them in a tensor."""
        if record:
            self.scorer.flush(self.calls)
            self.calls += 1
        scored = self.scorer.score(texts, [REFERENCE] * len(texts), record=record)
        return scored.total.astype(np.float32).tolist()

    def keep(self, step: int) -> None:
        """Keep the window as it is at a checkpoint."""
        self.kept[step] = self.scorer.state_dict(), self.calls

    def back(self, step: int) -> None:
        """Go back to a checkpoint."""
        state, self.calls = self.kept[step]
        self.scorer.load_state_dict(state)


class Job:
    """EasyR1's two reward workers, made as its main does."""

    def __init__(self, config: Any, tokens: Any) -> None:
        manager = ray.remote(AutoRewardManager).options(num_cpus=config.num_cpus)
        self.tokens = tokens
        self.train, self.validate = manager.remote(config, tokens), manager.remote(config, tokens)

    def score(
        self, texts: list[str], split: str = "train", **given: Any
    ) -> tuple[list[float], Any]:
        """The rewards of a batch, and its log as EasyR1 averages it."""
        worker = self.train if split == "train" else self.validate
        data = batch(texts, self.tokens, split, **given)
        rewards, log = ray.get(worker.compute_reward.remote(data))
        return rewards.sum(-1).tolist(), reduce_metrics(log)

    def kill(self) -> None:
        """End both workers at once, as when the job is killed."""
        for worker in (self.train, self.validate):
            ray.kill(worker)


def write_checkpoint(folder: Path, step: int) -> None:
    """Leave the files of a checkpoint that EasyR1 looks for when it resumes."""
    (folder / f"global_step_{step}").mkdir(exist_ok=True)
    (folder / CHECKPOINT_TRACKER).write_text(json.dumps({"last_global_step": step}))
    found = find_latest_ckpt(str(folder))[0] or "nothing"
    check(f"resume: EasyR1 goes on from step {step}", Path(found) == folder / f"global_step_{step}")


def check_in_process(config: Any, tokens: Any, expected: Expected) -> None:
    """One reward manager, in this process."""
    manager = AutoRewardManager(config, tokens)
    same, places = True, True
    for step in range(4):
        texts = completions(step)
        tensor, _ = manager.compute_reward(batch(texts, tokens))
        same &= tensor.sum(-1).tolist() == expected.rewards(texts)
        last = [len(tokens.encode(text)) - 1 for text in texts]
        places &= all(bool(tensor[row, at] > 0) for row, at in enumerate(last[:-1]))
    check("in process: the scorer's rewards, bit for bit, in 4 steps", same)
    check("in process: the reward stands at the last token", places)


def check_workers(job: Job, expected: Expected, folder: Path) -> None:
    """Two Ray workers: steps, validation, log."""
    same, apart, sizes = True, True, []
    for step in range(1, 5):
        texts, others = completions(10 + step), completions(100 + step)
        rewards, log = job.score(texts)
        same &= rewards == expected.rewards(texts)
        sizes.append(int(log["rankreward/window/size"]))
        rewards, _ = job.score(others, "test")
        apart &= rewards == expected.rewards(others, record=False)
        if step == 2:
            expected.keep(2)
            write_checkpoint(folder, 2)
    check("workers: the scorer's rewards, bit for bit, in 4 steps", same)
    warm = RECIPE.accuracy.normalizer.warm_start
    window = [warm + BATCH * step for step in range(4)]
    check("workers: a step enters the window as the next one begins", sizes == window, sizes)
    check("workers: validation ranks in the training window and does not enter", apart)
    check_log(log)


def check_log(log: dict[str, float]) -> None:
    """What EasyR1 shows of a step."""
    names = {f"rankreward/{kind}/{m}" for kind in ("raw", "rank") for m in RECIPE.accuracy.metrics}
    names |= {f"rankreward/term/{name}" for name in (*RECIPE.terms, *RECIPE.accuracy.metrics)}
    names |= {"overall", "rankreward/failures", "rankreward/seconds", "rankreward/window/size"}
    missing = sorted(names - log.keys())
    shown = missing or f"{len(log)} names, such as reward/rankreward/raw/iou"
    check("log: every name is in EasyR1's averages", not missing, shown)
    check("log: a bad completion is counted", log["rankreward/failures"] == 1 / BATCH)


def check_resume(job: Job, expected: Expected, folder: Path) -> None:
    """Kills before and after a checkpoint has its window, and an older checkpoint."""
    job = restart(job, settings(folder), expected, 2)
    check_next(job, expected, "resume: killed in mid step, the checkpoint's window", seed=21)
    expected.keep(4)
    write_checkpoint(folder, 4)
    job = restart(job, settings(folder), expected, 4)
    check_next(job, expected, "resume: killed after a checkpoint, the last window", seed=22)
    job = restart(job, settings(folder, folder / "global_step_2"), expected, 2)
    check_next(job, expected, "resume: an older checkpoint, its own window", seed=23)
    job.kill()


def restart(job: Job, config: RewardConfig, expected: Expected, step: int) -> Job:
    """Kill a job, and make it anew, to go on from a step."""
    job.kill()
    expected.back(step)
    return Job(config, job.tokens)


def check_next(job: Job, expected: Expected, claim: str, seed: int) -> None:
    """The next validation and two steps."""
    texts = completions(seed)
    same = job.score(texts, "test")[0] == expected.rewards(texts, record=False)
    for texts in (completions(seed), completions(seed + 50)):
        same &= job.score(texts)[0] == expected.rewards(texts)
    check(claim, same)


def check_settings(folder: Path) -> None:
    """What the workers are given of EasyR1's settings."""
    kwargs = settings(folder, folder / "global_step_2").reward_function_kwargs
    given = {key: kwargs[key] for key in ("checkpoints", "load", "find_last")}
    load = str(folder / "global_step_2")
    asked = {"checkpoints": str(folder), "load": load, "find_last": True}
    check("settings: EasyR1's YAML carries its own folders over", given == asked)


def check_errors(folder: Path, tokens: Any) -> None:
    """What is broken stops EasyR1: its trainer waits for the reward with `ray.get`."""
    for name, place, broken, message in (
        ("a broken reference", folder, True, "references[0]: expected"),
        ("a relative folder", "runs", False, "checkpoints: expected an absolute path"),
    ):
        job = Job(settings(place), tokens)
        try:
            job.score(completions(1), broken=broken)
            said = "no error"
        except Exception as error:  # noqa: BLE001 - Ray makes a class of its own of each
            said = str(error)
        check(f"errors: {name} raises in the trainer", message in said)
        job.kill()


def main() -> int:
    """Run all checks."""
    start, tokens = time.perf_counter(), tokenizer()
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch, name) for name in ("one", "two", "three")]
        check_settings(folders[0])
        check_in_process(settings(folders[0]), tokens, Expected())
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        expected, job = Expected(), Job(settings(folders[1]), tokens)
        check_workers(job, expected, folders[1])
        check_resume(job, expected, folders[1])
        check_errors(folders[2], tokens)
        ray.shutdown()
    seconds = time.perf_counter() - start
    print(f"{len(_passed)} checks passed, {len(_failed)} failed, in {seconds:.0f} s")
    return 1 if _failed else 0


if __name__ == "__main__":
    sys.exit(main())
