"""What trainers wrote down is paid again what it was paid in training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from easyr1_process import (
    RECIPE as EASYR1,
)
from easyr1_process import (
    completions,
    inputs,
    settings,
    train,
    truth,
    validate,
    worker,
    write_tracker,
)
from tiny import BATCH, trainer

import rankreward as rr
from policy import RECIPE
from rankreward.adapters.trl import RankReward
from rankreward.logs.reading import read_log
from rankreward.logs.scoring import Scored, score_chunks
from rankreward.logs.steps import chunks

trl = pytest.mark.filterwarnings("ignore::Warning:(trl|transformers|torch|accelerate|peft).*")


def rescored(folder: Path, recipe: rr.Recipe) -> list[Scored]:
    said: list[str] = []
    return list(score_chunks(chunks(read_log([folder], say=said.append)), rr.Scorer(recipe)))


@trl
def test_tables_of_trl_are_paid_as_in_training(tmp_path: Path) -> None:
    """The trainer's own tables give its rewards again; those that it wrote twice count once."""
    reward = RankReward(RECIPE)
    made = trainer(
        tmp_path, reward, max_steps=4, num_iterations=2, log_completions=True,
        num_completions_to_print=0,
    )  # fmt: skip
    made.train()
    tables = [
        pyarrow.parquet.read_table(path).to_pydict()
        for path in sorted((tmp_path / "completions").iterdir())
    ]
    assert [table["completion"] == tables[0]["completion"] for table in tables[:3]] == [
        True,
        True,
        False,
    ]
    scored = rescored(tmp_path / "completions", RECIPE)
    assert [(each.step, len(each.rows), each.bad) for each in scored] == [
        (1, BATCH, []),
        (3, BATCH, []),
    ]
    for each, table in zip(scored, tables[::2], strict=True):
        assert each.batch is not None
        assert each.batch.total == pytest.approx(table["dr_seg"])
        assert [row.group for row in each.rows] == [str(group) for group in table["group"]]
        assert [row.reference for row in each.rows] == table["reference"]


def test_rollouts_of_easyr1_are_paid_as_in_training(tmp_path: Path) -> None:
    """Its folder of rollouts, one file a training batch, gives its rewards again to the last bit."""
    process, folder = worker(), tmp_path / "rollouts"
    paid = []
    for call in range(5):
        paid += train(process, tmp_path / "kept", call, rollouts=str(folder))
        validate(process, tmp_path / "kept", call, rollouts=str(folder))
    assert [path.name for path in sorted(folder.iterdir())] == [
        f"{n:08d}.jsonl" for n in range(1, 6)
    ]
    scored = rescored(folder, EASYR1)
    assert [
        total for each in scored if each.batch is not None for total in each.batch.total
    ] == paid
    rows = [row for each in scored for row in each.rows]
    assert [row.columns["reward"] for row in rows] == paid
    assert [row.columns["tokens"] for row in rows] == [len(row.completion) for row in rows]


def test_a_resumed_easyr1_replaces_the_steps_it_does_again(tmp_path: Path) -> None:
    """A step that was done twice is in the log once, as the second time."""
    kept, folder = tmp_path / "kept", tmp_path / "rollouts"
    first = worker()
    for call in range(2):
        train(first, kept, call, rollouts=str(folder))
    (kept / "global_step_2").mkdir()
    write_tracker(kept, 2)
    for call in (2, 3):
        train(first, kept, call, rollouts=str(folder))
    second = worker()
    again = train(second, kept, 77, rollouts=str(folder))
    rows = list(read_log([folder]))
    third = [row for row in rows if getattr(row, "step", None) == 3]
    assert [row.completion for row in third] == completions(77)  # type: ignore[union-attr]
    assert [row.columns["reward"] for row in third] == again  # type: ignore[union-attr]
    assert {row.step for row in rows} == {1, 2, 3, 4}  # type: ignore[union-attr]


def test_easyr1s_groups_are_rollouts_of_one_ground_truth(tmp_path: Path) -> None:
    """EasyR1 shuffles a batch: what shares a ground truth is a group, and its columns are kept."""
    process = worker()
    truths = [{**truth(), "id": np.int64(n % 2)} for n in range(6)]
    batch = [inputs(["broken"], each)[0] for each in truths]
    process.compute_score(batch, **settings(tmp_path / "kept", rollouts=str(tmp_path / "log")))
    rows = [json.loads(line) for line in (tmp_path / "log/00000001.jsonl").read_text().splitlines()]
    assert [row["group"] for row in rows] == [0, 1, 0, 1, 0, 1]
    assert [row["id"] for row in rows] == [0, 1, 0, 1, 0, 1]
    assert "split" not in rows[0]


def test_easyr1s_folder_of_rollouts_is_absolute(tmp_path: Path) -> None:
    """A worker may run in another folder."""
    with pytest.raises(rr.InputError, match="rollouts: expected an absolute path"):
        train(worker(), tmp_path / "kept", 0, rollouts="rollouts")
