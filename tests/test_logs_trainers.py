"""What trainers wrote down is paid again what it was paid in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
from tiny import BATCH, rows, trainer

import rankreward as rr
from policy import RECIPE
from rankreward.adapters.easyr1_rollouts import write_rollouts
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
    """A step that was done twice is in the log once, as the second time; later ones are given up."""
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
    assert {row.step for row in rows} == {1, 2, 3}  # type: ignore[union-attr]


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


def test_easyr1s_rollouts_need_a_split(tmp_path: Path) -> None:
    """Without one, validation would be written over the steps of training."""
    batch = inputs(["broken"], {"reference": truth()["reference"]})
    with pytest.raises(
        rr.InputError, match=r"reward_inputs\[0\]: expected a ground truth with a s"
    ):
        worker().compute_score(batch, recipe=EASYR1.to_dict(), rollouts=str(tmp_path / "log"))
    assert not (tmp_path / "log").exists()


def test_a_new_easyr1_run_replaces_the_rollouts_of_an_old_one(tmp_path: Path) -> None:
    """None of its steps stays to be taken for one of the new run; other files are left alone."""
    folder = tmp_path / "log"
    for calls, kept in ((3, "a"), (2, "b")):
        process = worker()
        for call in range(calls):
            train(process, tmp_path / kept, call, rollouts=str(folder))
        (folder / "mine.jsonl").touch()
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["00000001.jsonl", "00000002.jsonl", "mine.jsonl"]


def test_what_a_ground_truth_holds_never_ends_training(tmp_path: Path) -> None:
    """The log's own columns come first, and what is no JSON is written as Python shows it."""
    circle: list[object] = []
    circle.append(circle)
    odd = {"step": "hard", "group": "g", "completion": "mine", "reward": 7, "raw": b"\xff" * 9000}
    truths = [{**truth(), **odd}, {**truth(), "pairs": {(1, 2): 3}}, {**truth(), "array": circle}]
    folder = tmp_path / "log"
    for each in truths[:2]:
        worker().compute_score(inputs(["broken"], each), recipe=EASYR1, rollouts=str(folder))
        (row,) = [json.loads(line) for line in (folder / "00000001.jsonl").read_text().splitlines()]
        assert (row["step"], row["group"], row["completion"]) == (1, 0, "broken")
        assert row["reward"] != 7
        assert len(row.get("raw", "")) <= 1000
    assert row["pairs"] == "{(1, 2): 3}"
    write_rollouts(folder, 2, inputs(["a"], None), [truths[2]], [1.0])
    assert json.loads((folder / "00000002.jsonl").read_text())["array"] == "[[...]]"


@trl
@pytest.mark.parametrize(
    ("options", "steps", "said"),
    [
        (
            {"gradient_accumulation_steps": 4, "steps_per_generation": 2},
            [(1, 16), (2, 16)], "lack 32 rollouts in 2 of the steps",
        ),
        (
            {
                "eval_dataset": rows(1), "eval_strategy": "steps", "eval_steps": 1,
                "per_device_eval_batch_size": 4,
            },
            [(1, 4), (2, 4)], "lack 8 rollouts in 2 of the steps",
        ),
    ],
    ids=["several batches a step", "evaluation"],
)  # fmt: skip
def test_what_tables_of_trl_lack_is_said(
    tmp_path: Path, options: dict[str, Any], steps: list[tuple[int, int]], said: str
) -> None:
    """A table has room for one batch of generation; what is left in it is of training alone."""
    made = trainer(
        tmp_path, RankReward(RECIPE), max_steps=2, log_completions=True,
        num_completions_to_print=0, max_completion_length=8, **options,
    )  # fmt: skip
    made.train()
    lines: list[str] = []
    read = list(read_log([tmp_path / "completions"], say=lines.append))
    assert all(row.columns["split"] == "train" for row in read)  # type: ignore[union-attr]
    found = [(each.step, len(each.rows)) for each in chunks(read)]
    assert found == steps
    assert any(said in line for line in lines)
    tables = [pyarrow.parquet.read_table(path) for path in (tmp_path / "completions").iterdir()]
    for each in tables:
        splits, groups = each["split"].to_pylist(), each["group"].to_pylist()
        kinds = {group: {s for s, g in zip(splits, groups, strict=True) if g == group}
                 for group in groups}  # fmt: skip
        assert all(len(kind) == 1 for kind in kinds.values())
