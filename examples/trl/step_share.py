"""How much of a GRPO step the reward takes, by TRL's own trainer.

    python examples/trl/step_share.py --width 7B --layers 8    # one GPU
    python examples/trl/step_share.py --rollouts 4096    # the reward alone
    python examples/trl/step_share.py --tiny    # no GPU

The policy has the shape of Qwen2.5-VL and random weights, so that nothing is downloaded. What it
writes is noise, quickly scored; so the reward is given well-formed answers near the references in
its place, and its share is not flattered. There is no reference model, which makes steps shorter
and the share larger. The first step, which compiles and allocates, is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "grounding")]

import numpy as np
import torch
import transformers
from digit_rows import tiny_policy
from train import make_trainer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, TrainerCallback
from trl import GRPOConfig

import rankreward as rr
from rankreward.adapters.trl import RankReward
from rankreward.datasets.digits import scenes, to_dataset

policy = tiny_policy()
# The shapes as their config.json files have them.
TEXT = {
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "3B": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
}
ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    args = parse_args(arguments)
    result = alone(args.rollouts) if args.rollouts else share(args)
    print(", ".join(f"{name} {value:.4g}" for name, value in result.items()))
    return result


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", choices=TEXT, default="7B", help="of Qwen2.5-VL")
    parser.add_argument("--layers", type=int, help="of the language model; all if left out")
    parser.add_argument("--prompts", type=int, default=2, help="a step, with 8 rollouts each")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--steps", type=int, default=5, help="timed, after one that is not")
    parser.add_argument("--rollouts", type=int, help="score so many, and train nothing")
    parser.add_argument("--tiny", action="store_true", help="the demo's policy, on the CPU")
    return parser.parse_args(arguments)


class Clock(TrainerCallback):
    """Seconds of each step, generation included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.begin)


class Answered(RankReward):
    """The ranked reward, of answers near the references in place of what was written."""

    rng = np.random.default_rng(0)

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        texts = answers(columns[self.reference], self.rng, self.scorer.recipe)
        return super().__call__(texts, **columns)


def answers(references: Sequence[str], rng: np.random.Generator, recipe: rr.Recipe) -> list[str]:
    """One answer a reference: thought over at some length, its boxes and points a little off."""
    frame = recipe.response.frame
    assert frame is not None  # recipes of objects in pixels have one
    texts = []
    for reference in references:
        objects = json.loads(reference)
        for each in objects:
            for key, values in each.items():
                moved = np.array(values) + rng.integers(-9, 10, len(values))
                each[key] = moved.clip(0, frame.width).tolist()
        thoughts = " ".join(f"Candidate {n} at {rng.integers(840)} is no match." for n in range(30))
        think = f"<think>{thoughts} <look>the best one</look></think>"
        texts.append(f"{think}\n<answer>{json.dumps(objects)}</answer>")
    return texts


def share(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step, seconds of them in the reward, and that part in percent."""
    side = policy.SIZE if args.tiny else 840
    recipe = rr.Recipe.load("dr_seg").resized(side)
    torch.manual_seed(0)
    model, processor = tiny() if args.tiny else random_policy(args.width, args.layers)
    rows = args.prompts * (args.steps + 1)
    data = to_dataset(list(scenes(rows, seed=1, size=side)), recipe)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            model, processor, data, None, settings(args, processor, model, folder), Answered(recipe)
        )
        trainer.add_callback(clock)
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    step = statistics.median(clock.seconds[1:])
    reward = statistics.median(entry["rankreward/seconds"] for entry in log[1:])
    count = sum(parameter.numel() for parameter in model.parameters())
    return {
        "parameters": count,
        "rollouts a step": 8 * args.prompts,
        "seconds a step": step,
        "seconds in the reward": reward,
        "percent": 100 * reward / step,
    }


def settings(args: argparse.Namespace, processor: Any, model: Any, folder: str) -> GRPOConfig:
    """A step of `prompts` x 8 rollouts, generated at once and learnt from two at a time."""
    vocabulary = model.config.text_config.vocab_size
    banned = policy.text_tokens_only(processor.tokenizer)
    banned += range(len(processor.tokenizer), vocabulary)  # which no tokenizer here can read
    on_gpu = torch.cuda.is_available() and not args.tiny
    return GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4 * args.prompts,
        num_generations=8,
        max_steps=args.steps + 1,
        max_completion_length=64 if args.tiny else args.tokens,
        temperature=1.0,
        generation_kwargs={"suppress_tokens": banned},
        gradient_checkpointing=True,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )


def tiny() -> tuple[Any, Any]:
    """The demo's policy."""
    return policy.load()


def random_policy(width: str, layers: int | None) -> tuple[Any, Any]:
    """A Qwen2.5-VL of that shape in bfloat16, with the demo's tokenizer."""
    tokenizer = policy.load()[1].tokenizer
    kept, device = torch.get_default_dtype(), "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(shape(width, layers, tokenizer))
    finally:
        torch.set_default_dtype(kept)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    processor = policy.make_processor(tokenizer)
    processor.image_processor.size = {"shortest_edge": 3136, "longest_edge": 12845056}
    return model, processor


def shape(width: str, layers: int | None, tokenizer: Any) -> Qwen2_5_VLConfig:
    """The configuration of a Qwen2.5-VL with another tokenizer's special tokens."""
    token = tokenizer.convert_tokens_to_ids
    text = {**TEXT[width], "rope_parameters": ROPE, "max_position_embeddings": 128000}
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "num_hidden_layers": layers or text["num_hidden_layers"],
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**VISION, "out_hidden_size": text["hidden_size"]},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def alone(rollouts: int) -> dict[str, float]:
    """Seconds to score and flush a batch at once, and row by row; medians of five."""
    recipe = rr.Recipe.load("dr_seg")
    references = [scene.reference for scene in scenes(max(rollouts // 8, 1), seed=1, size=840)]
    references = (references * 8)[:rollouts]
    texts = answers(references, np.random.default_rng(0), recipe)
    rr.warmup()

    def at_once(scorer: rr.Scorer) -> None:
        scorer.score(texts, references)

    def row_by_row(scorer: rr.Scorer) -> None:
        for text, reference in zip(texts, references, strict=True):
            scorer.score([text], [reference])

    one, other = timed(at_once, recipe), timed(row_by_row, recipe)
    return {
        "rollouts": len(texts),
        "seconds at once": one,
        "row by row": other,
        "times as long": other / one,
    }


def timed(score: Any, recipe: rr.Recipe) -> float:
    """The median time of a step, flush included, the first one left out."""
    scorer, seconds = rr.Scorer(recipe), []
    for step in range(6):
        begin = time.perf_counter()
        score(scorer)
        scorer.flush(step)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    main()
