"""The example for verl, run as a user runs it, with the tiny policy in vLLM's place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rankreward as rr
from rankreward.quantiles.checkpoint import load_state

EXAMPLE = Path(__file__).parents[3] / "examples" / "verl"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in a folder of its own, with no network."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "home"),
        "RAY_AUTH_MODE": "disabled",
    }
    command = [sys.executable, str(EXAMPLE / "train.py"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr[-3000:]
    return [line for line in done.stdout.splitlines() if " rollouts, reward " in line]


@pytest.mark.parametrize("files", [("full.yaml",), ("full.yaml", "lora.yaml")])
def test_three_steps_run_through_verls_own_data_flow(
    files: tuple[str, ...], tmp_path: Path
) -> None:
    """Images reach the policy, every rollout is paid, each step enters the window and no validation
    does; the window stands in the checkpoint."""
    done = run(tmp_path, "--tiny", "--config", *(str(EXAMPLE / file) for file in files))
    titles = [line.partition(",")[0] for line in lines(done)]
    steps = [f"step {step}: 32 rollouts" for step in (1, 2, 3)]
    assert titles == ["validation: 4 rollouts", *steps, "validation: 4 rollouts"]
    sizes = [line.rpartition(" ")[2] for line in lines(done)[1:4]]
    assert sizes == ["128", "160", "192"]  # of the window that each step was ranked in
    name = "verl-lora" if "lora.yaml" in files else "verl-full"
    checkpoint = tmp_path / "runs" / "verl-tiny" / name / "global_step_3" / "rankreward.npz"
    scorer = rr.Scorer(rr.Recipe.load("dr_seg").resized(84))
    scorer.load_state_dict(load_state(checkpoint))
    assert (scorer.quantiles.size, scorer.quantiles.step) == (224, 3)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("actor_rollout_ref.actor.optim.lrr=1", "Could not override"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size=32", "train_batch_size"),
        ("+rankreward.window=8", "rankreward.window: expected one of recipe"),
    ],
)
def test_a_setting_that_nobody_takes_stops_before_anything_starts(
    setting: str, said: str, tmp_path: Path
) -> None:
    """verl's own configuration and checks, and this library's, refuse what they do not know."""
    done = run(tmp_path, "--tiny", "--set", setting)
    assert done.returncode != 0
    assert said in done.stderr
    assert "rollouts" not in done.stdout


def test_without_vllm_a_real_run_does_not_begin(tmp_path: Path) -> None:
    """Where vLLM is missing, that is said before anything is downloaded."""
    pytest.importorskip("verl")
    try:
        import vllm  # noqa: F401, PLC0415
    except ImportError:
        done = run(tmp_path)
        assert done.returncode != 0
        assert "expected vLLM" in done.stderr
