"""Train a Qwen2.5-VL to find things, with verl and the ranked reward.

    python examples/verl/train.py    # four GPUs of 80 GB
    python examples/verl/train.py --config examples/verl/full.yaml examples/verl/lora.yaml
    python examples/verl/train.py --tiny    # no GPU, no download

Prepares model and data, holds every setting to verl's own configuration, and starts verl. What
follows as ``key=value`` goes to verl as it is. README.md says what to expect.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "grounding")]

import which_verl
import yaml
from digit_rows import START, tiny_source
from hub import DATA, model_folder
from layouts import parquet
from rows import Source

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_args(arguments)
    which_verl.demand("verl")
    if not (args.tiny or args.check) and not has_vllm():
        raise ImportError("expected vLLM, which verl generates with, got none: pip install vllm")
    settings = read(args.config)
    settings += prepare(args, compose([*settings, *args.overrides]))
    if args.tiny and not args.check:
        from verl_tiny import SETTINGS, rehearse  # noqa: PLC0415 - it starts Ray

        rehearse(check(compose([*settings, *SETTINGS, *args.overrides])))
        return
    settings += args.overrides
    check(compose(settings))
    command = [sys.executable, "-m", "verl.trainer.main_ppo", *settings]
    print(" ".join(command))
    if not args.check:
        subprocess.run(command, check=True)  # noqa: S603 - what was just printed


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[HERE / "full.yaml"], help="the later file wins"
    )
    parser.add_argument("--model", help="a name on the Hub, or a folder; else the settings'")
    parser.add_argument("--data", default=DATA, help="a name on the Hub, or a folder")
    parser.add_argument("--held-out", type=int, default=100, help="rows kept for evaluation")
    parser.add_argument("--out", type=Path, help="where data and checkpoints go")
    parser.add_argument("--check", action="store_true", help="prepare and check, do not train")
    parser.add_argument("--tiny", action="store_true", help="a tiny policy and data, on the CPU")
    parser.add_argument(
        "--set", dest="overrides", nargs="+", default=[], metavar="key=value", help="for verl"
    )
    args = parser.parse_args(arguments)
    args.out = args.out or Path("runs/verl-tiny" if args.tiny else "runs/verl")
    return args


def read(files: Sequence[Path]) -> list[str]:
    """The settings of the files, in their order.

    Raises:
        ValueError: a file is no list of settings.
    """
    settings: list[str] = []
    for file in files:
        listed = yaml.safe_load(file.read_text())
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise ValueError(f"{file}: expected a list of key=value, got {listed!r:.80}")
        settings += listed
    return settings


def compose(settings: Sequence[str]) -> Any:
    """verl's configuration with these settings, composed as its main does.

    Raises:
        hydra.errors.HydraException: verl has no such key, or the value is none.
    """
    import hydra  # noqa: PLC0415 - after it is clear which verl is here
    import verl.trainer.config  # noqa: PLC0415

    folder = str(Path(verl.trainer.config.__file__).parent)
    with hydra.initialize_config_dir(config_dir=folder, version_base=None):
        return hydra.compose(config_name="ppo_trainer", overrides=[*settings])


def has_vllm() -> bool:
    """Whether vLLM is installed; it is not loaded."""
    return importlib.util.find_spec("vllm") is not None


def check(config: Any) -> Any:
    """Hold a configuration to verl's own checks, and to this library's.

    Raises:
        Whatever either of them says.
    """
    from verl.trainer.ppo.utils import need_critic, need_reference_policy  # noqa: PLC0415
    from verl.utils.config import validate_config  # noqa: PLC0415

    from rankreward.adapters.verl_window import load_recipe, read_settings  # noqa: PLC0415

    checked = copy.deepcopy(config)
    if not has_vllm():
        # For a rank verl asks vLLM, which says yes to 64; all else is checked with or without it.
        checked.actor_rollout_ref.model.lora_rank = 0
    validate_config(checked, need_reference_policy(checked), need_critic(checked))
    load_recipe(read_settings(config).recipe)
    return config


def prepare(args: argparse.Namespace, config: Any) -> list[str]:
    """Model and data on this machine, and verl's settings that name them."""
    if args.tiny:
        source, model = tiny_source(args.out / "digits"), str(START)
    else:
        recipe = config.rankreward.recipe
        source = Source(args.data, recipe, held_out=args.held_out, seed=config.data.seed)
        model = args.model or config.actor_rollout_ref.model.path
    train, val = parquet(source, "verl", args.out / "data")
    checkpoints = args.out / config.trainer.experiment_name
    return [
        f"data.train_files={train.resolve()}",
        f"data.val_files={val.resolve()}",
        f"actor_rollout_ref.model.path={model_folder(model, processor=not args.tiny)}",
        f"++rankreward.recipe={source.recipe}",
        f"trainer.default_local_dir={checkpoints.resolve()}",
    ]


if __name__ == "__main__":
    main()
