"""Logs of runs that were resumed, cut short or written oddly: what is old is not shown as new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import trl, verl, write_lines

from rankreward.runs import read_run
from rankreward.runs.examples import from_dumps, from_score
from rankreward.runs.lines import read_entries
from rankreward.runs.names import DEAD, GROUP_STD, OF_TRAINERS, OWN
from rankreward.runs.parts import Notes


def history(steps: range) -> str:
    return json.dumps({"log_history": [{"step": step, "reward": step / 10} for step in steps]})


@pytest.mark.parametrize(("top", "last"), [(10, 24), (24, 24), (30, 30)])
def test_the_history_that_goes_furthest_counts(tmp_path: Path, top: int, last: int) -> None:
    """TRL's history of the end counts, unless that of the newest checkpoint goes further."""
    trl(tmp_path)
    (tmp_path / "trainer_state.json").write_text(history(range(1, top + 1)))
    run = read_run(tmp_path)
    assert run.steps == list(range(1, last + 1))
    assert (run.figure("reward")[1][0] == 0.1) == (top >= 24)
    noted = "trainer_state.json ends before that of the newest checkpoint, which was read"
    assert (noted in run.notes) == (top < 24)


def test_a_history_without_checkpoints_counts(tmp_path: Path) -> None:
    """Of a run without checkpoints the history of its end is all there is."""
    (tmp_path / "trainer_state.json").write_text(history(range(1, 4)))
    assert read_run(tmp_path).steps == [1, 2, 3]


def test_other_logs_of_verl_are_named(tmp_path: Path) -> None:
    """Of two logs of verl in a folder one is read, and a note names the other."""
    for name in ("a", "b"):
        write_lines(tmp_path / f"{name}.jsonl", [{"step": 1, "data": {"critic/score/mean": 1.0}}])
    assert "b.jsonl was not read, as a.jsonl is a log, too" in read_run(tmp_path).notes
    assert not any("was not read" in note for note in read_run(tmp_path / "b.jsonl").notes)


def test_a_resumed_run_replaces_what_was_later(tmp_path: Path) -> None:
    """Steps 1 to 50 and then again 20 to 30 are 1 to 30, the later values from 20 on, with a note."""
    file = tmp_path / "steps.jsonl"
    again = [{"step": step, "reward": 0.1} for step in range(20, 31)]
    write_lines(file, [{"step": step, "reward": 0.9} for step in range(1, 51)] + again)
    run = read_run(tmp_path)
    assert run.steps == list(range(1, 31))
    assert run.figure("reward")[1].tolist() == [0.9] * 19 + [0.1] * 11
    (note,) = [note for note in run.notes if "goes back" in note]
    assert note == (
        "steps.jsonl: the step goes back from 50 to 20, as in a resumed run; "
        "30 earlier entries of later steps are left out"
    )


def test_a_figure_of_its_own_may_come_late(tmp_path: Path) -> None:
    """An evaluation that is logged after later steps replaces none of them, and needs no note."""
    file, notes = tmp_path / "log.jsonl", Notes()
    lines = [{"step": 1, "reward": 1}, {"step": 2, "reward": 2}, {"step": 1, "eval": 3}]
    write_lines(file, [*lines, {"step": 2, "eval": 4}])
    want = [{"step": 1, "reward": 1, "eval": 3}, {"step": 2, "reward": 2, "eval": 4}]
    assert read_entries(file, OWN, notes) == want
    assert not notes.all()


def test_what_was_replaced_replaces_nothing(tmp_path: Path) -> None:
    """After a resuming, a late evaluation is not held against those that the resuming took away."""
    file, notes = tmp_path / "log.jsonl", Notes()
    old = [{"step": step, "reward": 1, "eval": 1} for step in range(1, 6)]
    new = [{"step": 2, "reward": 2}, {"step": 4, "reward": 4}, {"step": 3, "eval": 3}]
    write_lines(file, old + new)
    assert read_entries(file, OWN, notes) == [
        old[0],
        {"step": 2, "reward": 2, "eval": 1},
        {"step": 3, "eval": 3},
        {"step": 4, "reward": 4},
    ]
    assert len(notes.all()) == 1


def test_rollouts_after_the_log_are_of_an_earlier_run(tmp_path: Path) -> None:
    """verl's rollouts of steps that its log no longer has add no entries, and a note counts them."""
    verl(tmp_path)
    log = tmp_path / "my_experiment.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:20]))
    run = read_run(tmp_path)
    assert run.steps == list(range(1, 21))
    assert max(example.step or 0 for example in run.examples) <= 20
    assert "4 files of rollouts are of steps after the log's last; left out" in run.notes


def test_equal_rewards_are_a_dead_group(tmp_path: Path) -> None:
    """Three rewards of 0.1 have no spread, whose mean a float can only come near."""
    paid = [0.1] * 3 + [0.0, 0.5, 1.0]
    assert np.std(paid[:3]) > 0
    rows = [
        {"output": "", "step": 1, "score": score, "uid": f"q{place // 3}_{place}_0"}
        for place, score in enumerate(paid)
    ]
    write_lines(tmp_path / "1.jsonl", rows)
    ((step, figures),) = from_dumps([tmp_path / "1.jsonl"], "", Notes())[1]
    assert (step, figures) == (1, {GROUP_STD: pytest.approx(np.std(paid[3:]) / 2), DEAD: 0.5})


HUGE = 10**400


def test_a_step_beyond_every_float_is_noted(tmp_path: Path) -> None:
    """A step that no float holds costs its line alone, in a log, an example and a rollout."""
    write_lines(tmp_path / "steps.jsonl", [{"step": 1, "reward": 1}, {"step": HUGE, "reward": 1}])
    example = {"completion": "x", "step": HUGE, "total": HUGE, "failure": {"position": HUGE}}
    write_lines(tmp_path / "examples.jsonl", [example])
    run = read_run(tmp_path)
    assert run.steps == [1]
    assert any(
        note.startswith("steps.jsonl:2: expected a whole number up to 2**53") for note in run.notes
    )
    (found,) = from_score(tmp_path / "examples.jsonl", Notes())
    assert (found.step, found.total, found.position) == (None, None, None)
    row = {"output": "", "step": HUGE, "score": HUGE, "uid": "q_0_0"}
    write_lines(tmp_path / "1.jsonl", [row, row])
    assert from_dumps([tmp_path / "1.jsonl"], "", Notes()) == ([], [])


@pytest.mark.parametrize("entry", [None, 3, "x", [["step", 1]]])
def test_a_broken_entry_costs_itself_alone(tmp_path: Path, entry: Any) -> None:
    """Of TRL's history only what is no object is left out, and the note says where it stands."""
    state = {"log_history": [{"step": 1, "reward": 0.1}, entry, {"step": 2, "reward": 0.2}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    run = read_run(tmp_path)
    assert run.steps == [1, 2]
    said = f"trainer_state.json: log_history[1]: expected an object, got {type(entry).__name__}"
    assert said in run.notes


def test_numbers_as_texts_are_noted(tmp_path: Path) -> None:
    """A reward that is logged as a text is left out, and a note counts it; a word is no figure."""
    file, notes = tmp_path / "log.jsonl", Notes()
    write_lines(file, [{"step": 1, "reward": "0.5", "name": "x"}, {"step": 2, "reward": "1e3"}])
    assert read_entries(file, OF_TRAINERS, notes) == [{"step": 1.0}, {"step": 2.0}]
    (note,) = notes.all()
    assert note.startswith("log.jsonl: reward was no number")
    assert "in 2 entries" in note
