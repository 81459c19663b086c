"""Train a Qwen2.5-VL to find things, with EasyR1 and the ranked reward.

    python examples/easyr1/train.py    # four GPUs of 80 GB
    python examples/easyr1/train.py --config examples/easyr1/lora.yaml    # one GPU
    python examples/easyr1/train.py --tiny    # no GPU, no download

Prepares model and data, holds the configuration to EasyR1's own classes, and starts EasyR1. What
follows as ``key=value`` goes to EasyR1 as it is. README.md says what to expect.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "grounding")]

import which_verl
from digit_rows import START, tiny_source
from hub import DATA, model_folder
from layouts import parquet
from omegaconf import OmegaConf
from rows import Source

from rankreward.adapters.paths import easyr1_entry

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.tiny:
        which_verl.demand("EasyR1")
    settings = prepare(args)
    config = OmegaConf.load(args.config)
    missing = validate(args.config, settings)
    if missing and not args.tiny:
        raise missing
    if args.tiny and not args.check:
        from easyr1_tiny import rehearse  # noqa: PLC0415 - it needs torch

        print(f"settings NOT checked, for {missing}" if missing else "EasyR1 takes all settings")
        rehearse(OmegaConf.merge(config, OmegaConf.from_dotlist(settings)))
        return
    command = [sys.executable, "-m", "verl.trainer.main", f"config={args.config}", *settings]
    print(" ".join(command))
    if not args.check:
        subprocess.run(command, check=True)  # noqa: S603 - what was just printed


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.yaml", help="EasyR1's YAML")
    parser.add_argument("--model", help="a name on the Hub, or a folder; else the YAML's")
    parser.add_argument("--data", default=DATA, help="a name on the Hub, or a folder")
    parser.add_argument("--held-out", type=int, default=100, help="rows kept for evaluation")
    parser.add_argument("--out", type=Path, help="where data and checkpoints go")
    parser.add_argument("--check", action="store_true", help="prepare and check, do not train")
    parser.add_argument("--tiny", action="store_true", help="a tiny policy and data, on the CPU")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for EasyR1")
    args = parser.parse_args(arguments)
    args.out = args.out or Path("runs/easyr1-tiny" if args.tiny else "runs/easyr1")
    return args


def prepare(args: argparse.Namespace) -> list[str]:
    """Model and data on this machine, and EasyR1's settings that name them."""
    config = OmegaConf.merge(OmegaConf.load(args.config), OmegaConf.from_dotlist(args.overrides))
    recipe = config.worker.reward.reward_function_kwargs.recipe
    if args.tiny:
        source, model = tiny_source(args.out / "digits"), str(START)
    else:
        source = Source(args.data, recipe, held_out=args.held_out, seed=config.data.seed)
        model = args.model or config.worker.actor.model.model_path
    train, val = parquet(source, "easyr1", args.out / "data")
    checkpoints = args.out / config.trainer.experiment_name
    return [
        f"data.train_files={train.resolve()}",
        f"data.val_files={val.resolve()}",
        f"worker.actor.model.model_path={model_folder(model, processor=not args.tiny)}",
        f"worker.reward.reward_function={easyr1_entry()}:compute_score",
        f"worker.reward.reward_function_kwargs.recipe={source.recipe}",
        f"trainer.save_checkpoint_path={checkpoints.resolve()}",
        *args.overrides,
    ]


def validate(file: Path, settings: Sequence[str]) -> ImportError | None:
    """Hold a configuration to EasyR1's own classes, as its main does.

    Returns:
        What is not installed, so that nothing could be held to anything; None if all is well.

    Raises:
        omegaconf.errors.OmegaConfBaseException: a key or a value that EasyR1 does not take.
    """
    try:
        which_verl.demand("EasyR1")
        from verl.trainer.config import PPOConfig  # noqa: PLC0415 - it needs vLLM
    except ImportError as error:
        return error
    merged = OmegaConf.merge(
        OmegaConf.structured(PPOConfig()), OmegaConf.load(file), OmegaConf.from_dotlist([*settings])
    )
    config: Any = OmegaConf.to_object(merged)
    config.deep_post_init()
    check_batch(config)
    return None


def check_batch(config: Any) -> None:
    """Refuse what EasyR1's workers would refuse after minutes of loading.

    Raises:
        ValueError: the rollouts of an update do not go evenly onto the GPUs.
    """
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    rollouts = config.worker.actor.global_batch_size * config.worker.rollout.n
    micro = config.worker.actor.micro_batch_size_per_device_for_update
    if rollouts % (gpus * micro):
        raise ValueError(
            f"worker.actor: expected global_batch_size x rollout.n = {rollouts} to be a multiple "
            f"of {gpus} GPUs x {micro} a micro-batch"
        )


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
