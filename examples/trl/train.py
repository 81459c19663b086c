"""Train a Qwen2.5-VL to find things, with TRL's `GRPOTrainer` and the ranked reward.

    accelerate launch --config_file examples/trl/zero3.yaml examples/trl/train.py \
        --config examples/trl/full.yaml
    python examples/trl/train.py --config examples/trl/lora.yaml    # one GPU
    python examples/trl/train.py --config examples/trl/full.yaml --tiny    # no GPU, no download

Options are those below and every one of TRL's `GRPOConfig`, in the YAML file or on the command
line, which wins; an unknown one is an error. README.md says what to expect.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "grounding"))

import datasets
import torch
from digit_rows import START, tiny_policy, tiny_source
from hub import DATA, MODEL, model_folder
from layouts import trl_rows
from rows import Source
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer, TrlParser

import rankreward as rr
from rankreward.adapters.trl import RankReward

LANGUAGE = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"  # its linear layers, no vision's
PATCH = 28  # pixels a side of what becomes one token of an image
# What --tiny puts in place of a configuration's values; what stands on the command line wins.
TINY = {
    "use_cpu": "True",
    "bf16": "False",
    "max_steps": "3",
    "max_completion_length": "64",
    "per_device_train_batch_size": "8",
    "gradient_accumulation_steps": "2",
    "prompts_per_step": "2",
    "per_device_eval_batch_size": "4",
    "eval_steps": "2",
    "save_steps": "2",
    "held_out": "4",
    "output_dir": "runs/trl-tiny",
}


@dataclass
class Grounding:
    """What to train on what; all else is TRL's."""

    model: str = field(default=MODEL, metadata={"help": "a name on the Hub, or a folder"})
    model_revision: str | None = field(default=None, metadata={"help": "None: the pinned one"})
    data: str = field(default=DATA, metadata={"help": "a name on the Hub, or a folder"})
    data_revision: str | None = field(default=None, metadata={"help": "None: the pinned one"})
    recipe: str = field(default="dr_seg", metadata={"help": "a recipe's name, or a YAML file"})
    held_out: int = field(default=100, metadata={"help": "rows kept for evaluation"})
    prompts_per_step: int = field(default=16, metadata={"help": "checked, not set"})
    max_prompt_length: int = field(default=1300, metadata={"help": "tokens; longer ones go"})
    min_pixels: int = field(default=3136, metadata={"help": "smaller images are enlarged"})
    max_pixels: int = field(default=12845056, metadata={"help": "larger ones are reduced"})
    attention: str = field(default="sdpa", metadata={"help": "or flash_attention_2"})
    lora_r: int = field(default=0, metadata={"help": "rank of the adapters; 0 trains all weights"})
    lora_alpha: int = field(default=128, metadata={"help": "their scale, times lora_r"})
    lora_dropout: float = field(default=0.0, metadata={"help": "of the adapters' input"})
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint"})
    tiny: bool = field(default=False, metadata={"help": "a tiny policy and data, on the CPU"})


def main(arguments: Sequence[str] | None = None) -> GRPOTrainer:
    """Train, and save what came out to the folder ``final``."""
    options, config = parse(sys.argv[1:] if arguments is None else arguments)
    check_batch(options, config)
    trainer = build(options, config)
    checkpoint = last_checkpoint(config) if options.resume else None
    if checkpoint is not None:
        restore_weights(trainer.model, checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    trainer.save_model(str(Path(config.output_dir) / "final"))
    return trainer


def parse(arguments: Sequence[str]) -> tuple[Grounding, GRPOConfig]:
    """Read the command line and the YAML file that it names.

    Raises:
        ValueError: the file, or the line, has an option that nobody knows.
    """
    parser = TrlParser((Grounding, GRPOConfig))
    board = importlib.util.find_spec("tensorboard") is not None
    parser.set_defaults_with_config(report_to="tensorboard" if board else "none")
    tiny = [f"--{name}={value}" for name, value in TINY.items()] if "--tiny" in arguments else []
    options, config = parser.parse_args_and_config([*tiny, *arguments])
    return options, config


def check_batch(options: Grounding, config: GRPOConfig) -> None:
    """Hold the batch to what the configuration says of it.

    Raises:
        ValueError: a step on this many processes has another number of prompts, or does not
            generate just once.
    """
    processes = config.world_size
    micro = config.per_device_train_batch_size * processes
    rollouts = options.prompts_per_step * config.num_generations
    if micro * config.gradient_accumulation_steps != rollouts:
        raise ValueError(
            f"expected {options.prompts_per_step} prompts x {config.num_generations} rollouts = "
            f"{rollouts} a step, got {config.per_device_train_batch_size} a device x {processes} "
            f"processes x {config.gradient_accumulation_steps} of accumulation: set "
            f"gradient_accumulation_steps to {rollouts / micro:g}, or prompts_per_step"
        )
    if config.generation_batch_size != rollouts:
        raise ValueError(
            f"expected one generation of {rollouts} rollouts a step, got "
            f"{config.generation_batch_size}: leave steps_per_generation out"
        )


def build(options: Grounding, config: GRPOConfig) -> GRPOTrainer:
    """The trainer with model, data and reward; downloads what is missing, on one process only."""
    with config.main_process_first(desc="download and check"):
        source = _source(options, config)
        train, val = trl_rows(source)
        folder = model_folder(
            str(START) if options.tiny else options.model,
            options.model_revision,
            processor=not options.tiny,
        )
    processor = load_processor(folder, options)
    if options.tiny:
        banned = tiny_policy().text_tokens_only(processor.tokenizer)
        config.generation_kwargs = {"suppress_tokens": banned}
    recipe = rr.Recipe.load(source.recipe)
    return make_trainer(
        load_model(folder, options, config),
        processor,
        short_enough(train, processor, recipe, options.max_prompt_length),
        short_enough(val, processor, recipe, options.max_prompt_length),
        config,
        RankReward(recipe, reference="solution"),
        adapters(options),
    )


def _source(options: Grounding, config: GRPOConfig) -> Source:
    if options.tiny:
        return tiny_source(Path(config.output_dir) / "digits", held_out=options.held_out)
    return Source(
        options.data,
        options.recipe,
        options.data_revision,
        held_out=options.held_out,
        seed=config.seed,
    )


def make_trainer(
    model: Any,
    processor: Any,
    train: datasets.Dataset,
    val: datasets.Dataset | None,
    config: GRPOConfig,
    reward: RankReward,
    peft: Any = None,
) -> GRPOTrainer:
    """TRL's trainer with the ranked reward and its callback."""
    return GRPOTrainer(
        model=model,
        reward_funcs=[reward],
        args=config,
        train_dataset=train,
        eval_dataset=val,
        processing_class=processor,
        callbacks=[reward.callback()],
        peft_config=peft,
    )


def load_processor(folder: Path, options: Grounding) -> Any:
    """Qwen's own processor, or the tiny policy's.

    Raises:
        ImportError: transformers found no torchvision, and left the image processor out.
    """
    if options.tiny:
        return tiny_policy().load(folder)[1]
    processor = AutoProcessor.from_pretrained(
        folder, min_pixels=options.min_pixels, max_pixels=options.max_pixels
    )
    if not hasattr(processor, "image_processor"):
        raise ImportError(
            f"{folder}: expected a processor of images and text, got {type(processor).__name__}: "
            "install torchvision in the build that belongs to your torch"
        )
    return processor


def load_model(folder: Path, options: Grounding, config: GRPOConfig) -> Any:
    """The policy; in bfloat16 where no step of 1e-6 could be lost in rounding.

    Adapters are kept in float32 beside frozen weights, and DeepSpeed keeps float32 copies of its
    own; other weights that are trained are float32 here, and computed with in bfloat16.
    """
    exact = options.lora_r > 0 or is_deepspeed_zero3_enabled()
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder,
        dtype=torch.bfloat16 if config.bf16 and exact else torch.float32,
        attn_implementation=options.attention,
    )


def adapters(options: Grounding) -> Any:
    """The settings of LoRA for the language model's linear layers; None trains all weights."""
    if options.lora_r == 0:
        return None
    from peft import LoraConfig  # noqa: PLC0415 - needed for LoRA alone

    return LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=LANGUAGE,
        task_type="CAUSAL_LM",
    )


def short_enough(
    rows: datasets.Dataset, processor: Any, recipe: rr.Recipe, limit: int
) -> datasets.Dataset:
    """The rows whose prompt, image included, has at most `limit` tokens; TRL itself cuts nothing.

    Raises:
        ValueError: no row is left.
    """
    frame = recipe.response.frame
    assert frame is not None  # recipes of objects in pixels have one
    image = (frame.width // PATCH) * (frame.height // PATCH)
    turns = [
        [{"type": "image"}, {"type": "text", "text": each[0]["content"]}] for each in rows["prompt"]
    ]
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
        )
        for turn in turns
    ]
    # the image's place is one token of the text
    lengths = [len(ids) - 1 + image for ids in processor.tokenizer(texts)["input_ids"]]
    kept = [index for index, length in enumerate(lengths) if length <= limit]
    if not kept:
        raise ValueError(f"max_prompt_length: {limit} tokens, but the shortest is {min(lengths)}")
    return rows.select(kept)


def _rendered(text: str, processor: Any) -> str:
    turn = [{"type": "image"}, {"type": "text", "text": text}]
    rendered: str = processor.apply_chat_template(
        [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
    )
    return rendered


def last_checkpoint(config: GRPOConfig) -> Path:
    """Where an interrupted run can go on from.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    folder = Path(config.output_dir)
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last is None:
        raise FileNotFoundError(f"--resume: expected a checkpoint in {folder}, got none")
    return Path(last)


def restore_weights(model: Any, checkpoint: Path) -> None:
    """Take a model's weights from a checkpoint, where the trainer would miss them.

    The trainer looks for their names inside the model, and a saved Qwen2.5-VL carries the names of
    the original release. The reference of the KL term stays the start. Adapters and what DeepSpeed
    keeps have names of their own, which the trainer finds.

    Raises:
        RuntimeError: the checkpoint's weights are not this model's.
    """
    if is_deepspeed_zero3_enabled() or (checkpoint / "adapter_config.json").exists():
        return
    saved = type(model).from_pretrained(checkpoint, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())


if __name__ == "__main__":
    main()
