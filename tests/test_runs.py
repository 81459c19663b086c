"""Runs: whoever wrote one, the same figures come out, and what is missing or damaged is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from run_files import (
    STEPS,
    WRITERS,
    Training,
    events,
    scored,
    trl,
    trl_entry,
    verl,
    write_lines,
)

import rankreward as rr
from rankreward.errors import InputError, MissingExtraError
from rankreward.parsing.response import parse_for
from rankreward.quantiles.checkpoint import save_state
from rankreward.runs import Run, read_run
from rankreward.runs.examples import A_CODE, from_tables
from rankreward.runs.lines import read_entries
from rankreward.runs.names import DEAD, GROUP_STD, OF_TRAINERS, OWN, TOKENS, renamed
from rankreward.runs.parts import Notes
from rankreward.runs.windows import MOST, spread


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Training]]:
    folders = {source: tmp_path_factory.mktemp("run") / "my run" for source in WRITERS}
    for folder in folders.values():
        folder.mkdir()
    return {source: (folders[source], write(folders[source])) for source, write in WRITERS.items()}


@pytest.mark.parametrize("source", WRITERS)
def test_every_writer_gives_the_same_figures(written: Any, source: str) -> None:
    """Reward, raw metrics, ranks, ties and failures are those that the reward itself had."""
    folder, training = written[source]
    run = read_run(folder)
    assert (run.source, run.name, run.recipe) == (source, "my run", "dr_seg")
    assert run.steps == list(range(1, STEPS + 1))
    rewards = [batch.total.mean() for batch in training.batches]
    np.testing.assert_allclose(run.figure("reward")[1], rewards, rtol=1e-6)
    for name in training.figures[0]:
        want = [(s, f[name]) for s, f in enumerate(training.figures, 1) if name in f]
        np.testing.assert_allclose(np.transpose(run.figure(name)), want, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("source", WRITERS)
def test_every_writer_gives_its_windows(written: Any, source: str) -> None:
    """The windows come in order, with the rows that the scorer saved, and the last is the newest."""
    folder, training = written[source]
    windows = read_run(folder).windows
    assert [window.step for window in windows] == sorted({window.step for window in windows})
    assert windows[-1].step == STEPS
    assert windows[-1].metrics == ("iou", "count", "point")
    raw = np.stack([batch.raw["iou"] for batch in training.batches]).ravel()
    kept = windows[-1].rows[:, 0]
    np.testing.assert_array_equal(np.sort(kept), np.sort([*np.zeros(128), *raw]))


@pytest.mark.parametrize(
    ("source", "tokens"), [("TRL", 18), ("verl", 20), ("EasyR1", 20), ("TensorBoard", 18)]
)
def test_trainers_own_figures_get_one_name(written: Any, source: str, tokens: int) -> None:
    """Length in tokens, entropy and KL are found under the same names in every trainer."""
    run = read_run(written[source][0])
    np.testing.assert_allclose(run.figure(TOKENS)[1], tokens + np.arange(1, STEPS + 1))
    assert len(run.figure("entropy")[0]) == len(run.figure("kl")[0]) == STEPS


@pytest.mark.parametrize("source", ["rankreward score", "TRL", "verl", "TensorBoard"])
def test_dead_groups(written: Any, source: str) -> None:
    """The share of groups without any spread is the same, be it logged or seen in the rollouts."""
    folder, training = written[source]
    dead = [(training.groups(step).std(axis=1) == 0).mean() for step in range(1, STEPS + 1)]
    run = read_run(folder)
    np.testing.assert_allclose(run.figure(DEAD)[1], dead, rtol=1e-6)
    if source in {"rankreward score", "verl"}:
        within = [training.groups(step).std(axis=1).mean() for step in range(1, STEPS + 1)]
        np.testing.assert_allclose(run.figure(GROUP_STD)[1], within)


@pytest.mark.parametrize("source", ["TRL", "verl"])
def test_examples_are_of_every_failure(written: Any, source: str) -> None:
    """Each failure that came has up to three examples, with the code, message and position."""
    folder, training = written[source]
    examples = read_run(folder).examples
    counts = {code: sum(b.codes.count(code) for b in training.batches) for code in _codes(training)}
    assert {code: min(n, A_CODE) for code, n in counts.items()} == {
        code: sum(e.code == code for e in examples) for code in {e.code for e in examples}
    }
    for example in examples:
        failure = parse_for(example.completion, training.recipe.response).failure
        assert failure is not None
        assert (example.code, example.position) == (failure.code, failure.position)
        assert example.message == failure.message
        assert example.reference.startswith("[{")


def _codes(training: Training) -> set[str]:
    return {code for batch in training.batches for code in batch.codes if code is not None}


def test_examples_of_score_are_all_kept(written: Any) -> None:
    """The examples that `rankreward score` chose are taken as they are."""
    folder, _ = written["rankreward score"]
    lines = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    examples = read_run(folder).examples
    assert [e.completion for e in examples] == [line["completion"] for line in lines]
    assert [e.why for e in examples if e.code is None] == ["best"]
    assert all(
        e.position == line["failure"]["position"]
        for e, line in zip(examples, lines, strict=True)
        if e.code
    )


def test_demo_folder(tmp_path: Path, written: Any) -> None:
    """The demo's folder is TRL's, with the log and the last window beside it."""
    shutil.copytree(written["TRL"][0], tmp_path / "trainer")
    shutil.copy(written["EasyR1"][0] / "rankreward.npz", tmp_path / "window.npz")
    training = written["TRL"][1]
    write_lines(tmp_path / "log.jsonl", [trl_entry(training, s) for s in range(1, STEPS + 1)])
    run, inner = read_run(tmp_path), read_run(tmp_path / "trainer")
    assert run.source == "the digits demo (TRL)"
    assert run.figure("reward")[1].tolist() == inner.figure("reward")[1].tolist()
    assert [w.step for w in run.windows] == [12, 24]
    assert run.examples


def test_a_log_file_is_a_run_too(written: Any) -> None:
    """The path of verl's log, or of TRL's history, stands for the folder it is in."""
    folder, _ = written["verl"]
    run = read_run(folder / "my_experiment.jsonl")
    assert (run.source, run.name, len(run.windows)) == ("verl", "my_experiment.jsonl", 2)
    state = written["TRL"][0] / "checkpoint-12" / "trainer_state.json"
    assert read_run(state).steps == list(range(1, 13))


def test_verl_may_call_its_log_anything(tmp_path: Path) -> None:
    """VERL_FILE_LOGGER_PATH may well end in log.jsonl, which the demo writes, too."""
    verl(tmp_path)
    (tmp_path / "my_experiment.jsonl").rename(tmp_path / "log.jsonl")
    run = read_run(tmp_path)
    assert (run.source, len(run.windows)) == ("verl", 2)


def test_validation_rollouts_of_verl_stay_out(tmp_path: Path) -> None:
    """Rollouts of validation are not mixed with those of training."""
    verl(tmp_path)
    row = {"output": "<think>", "gts": "", "score": 0.0, "step": 1, "uid": "v_0_0"}
    write_lines(tmp_path / "validation" / "1.jsonl", [{**row, "uid": f"v_{k}_0"} for k in range(9)])
    before = read_run(tmp_path).figure(DEAD)[1]
    shutil.rmtree(tmp_path / "validation")
    assert before.tolist() == read_run(tmp_path).figure(DEAD)[1].tolist()


def test_last_history_counts_unless_damaged(tmp_path: Path) -> None:
    """TRL's newest checkpoint has the history; where it is damaged the one before, and a note."""
    trl(tmp_path)
    (tmp_path / "checkpoint-24" / "trainer_state.json").write_text('{"log_history": [')
    run = read_run(tmp_path)
    assert run.steps == list(range(1, 13))
    assert any(note.startswith("trainer_state.json: expected JSON") for note in run.notes)


def test_damaged_pieces_are_noted(tmp_path: Path) -> None:
    """A broken line, window or table costs itself alone, and the notes name it."""
    scored(tmp_path / "a")
    lines = (tmp_path / "a" / "steps.jsonl").read_bytes().splitlines(keepends=True)
    lines[4] = b'{"step": 5, "reward": \xff\n'
    lines[5] = b"[" * 100_000 + b"\n"
    lines[6] = b'{"step": "7", "reward": 1}\n'
    lines[7] = b"[1]\n"
    lines[-1] = lines[-1][:40]
    (tmp_path / "a" / "steps.jsonl").write_bytes(b"".join(lines))
    window = tmp_path / "a" / "windows" / "step-00000001.npz"
    window.write_bytes(window.read_bytes()[:-30])
    run = read_run(tmp_path / "a")
    assert run.steps == [*range(1, 5), *range(9, STEPS)]
    for number in (5, 6, 7, 8, STEPS):
        assert any(note.startswith(f"steps.jsonl:{number}: expected") for note in run.notes), number
    assert sum("step-00000001.npz" in note for note in run.notes) == 1
    assert 1 not in [each.step for each in run.windows]

    trl(tmp_path / "b")
    (tmp_path / "b" / "completions" / "completions_00003.parquet").write_bytes(b"PAR1 no")
    noted = read_run(tmp_path / "b").notes
    assert [
        note for note in noted if note.startswith("completions_00003.parquet: expected a Parquet")
    ]


def test_many_alike_notes_are_counted(tmp_path: Path) -> None:
    """A thousand broken lines are five notes and a number."""
    scored(tmp_path)
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write("{\n" * 1000)
    notes = read_run(tmp_path).notes
    assert sum(note.startswith("steps.jsonl:") for note in notes) == 6
    assert "steps.jsonl: 995 more pieces like these were left out" in notes


def test_what_is_not_there_is_noted(tmp_path: Path) -> None:
    """Without windows, examples or settings the run is read, and a note names each."""
    scored(tmp_path)
    shutil.rmtree(tmp_path / "windows")
    for name in ("examples.jsonl", "settings.json"):
        (tmp_path / name).unlink()
    write_lines(tmp_path / "bad.jsonl", [{"place": "log:1", "reason": "expected a completion"}] * 2)
    run = read_run(tmp_path)
    assert not run.windows
    assert not run.examples
    for part in ("windows/*.npz", "examples.jsonl", "settings.json", "2 rows of the log"):
        assert sum(part in note for note in run.notes) == 1, part


def test_unknown_folders_say_what_was_looked_for(tmp_path: Path) -> None:
    """An empty folder, another file, a missing path and an empty log are errors in one line."""
    with pytest.raises(InputError, match=r"steps\.jsonl \(rankreward score\).*got none of them"):
        read_run(tmp_path)
    (tmp_path / "notes.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="got another file"):
        read_run(tmp_path / "notes.jsonl")
    with pytest.raises(InputError, match="expected a folder or the file"):
        read_run(tmp_path / "nothing")
    (tmp_path / "steps.jsonl").write_text("{\n")
    with pytest.raises(InputError, match=r"expected figures by step, got none.*steps\.jsonl:1"):
        read_run(tmp_path)


def test_events_name_what_they_need(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tensorboard its event files cannot be read, and the error says what to install."""

    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("rankreward.runs.events.importlib.import_module", refuse)
    with pytest.raises(MissingExtraError, match="pip install tensorboard"):
        read_run(written["TensorBoard"][0])


def test_damaged_events_cost_their_rest(tmp_path: Path) -> None:
    """An event file that was cut short gives the steps before the cut."""
    events(tmp_path)
    file = next(tmp_path.rglob("events.out.tfevents.*"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    run = read_run(tmp_path)
    assert 0 < len(run.entries) < STEPS


def test_endless_numbers_are_left_out_and_noted(tmp_path: Path) -> None:
    """NaN, infinity and numbers beyond every float are no points of a curve, and a note counts them."""
    text = '{"step": 1, "reward": NaN, "entropy": 1, "kl": null}\n{"step": 2, "reward": 1e999}\n'
    text += (
        '{"step": 3, "reward": 1'
        + "0" * 400
        + ', "other": true, "word": "x"}\n{"step": 4, "reward": 2}\n'
    )
    (tmp_path / "log.jsonl").write_text(text)
    notes = Notes()
    entries = read_entries(tmp_path / "log.jsonl", OWN, notes)
    assert entries == [
        {"step": 1.0, "entropy": 1.0},
        {"step": 2.0},
        {"step": 3.0},
        {"step": 4.0, "reward": 2.0},
    ]
    assert notes.all() == (
        "log.jsonl: reward was no number, not finite, or beyond 1e+100, in 3 entries; left out",
        "log.jsonl: kl was no number, not finite, or beyond 1e+100, in 1 entries; left out",
    )


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda name: name not in {"step", "data"} and list(renamed({name: 0.0}, OWN)) == [name]
)
figures = st.dictionaries(names, st.floats(-1e100, 1e100), max_size=5)


@given(st.lists(st.tuples(st.integers(0, 9), figures), max_size=12))
def test_entries_are_the_last_word_on_each_step(tmp_path_factory: Any, log: list[Any]) -> None:
    """However a log orders steps, an entry has the last value of each name since the last resuming.

    A figure at a step before one that it already had was resumed there: what came after is gone.
    """
    file = tmp_path_factory.mktemp("log") / "log.jsonl"
    write_lines(file, [{"step": step, **values} for step, values in log])
    want: dict[int, dict[str, float]] = {}
    for step, values in log:
        if any(name in entry for at, entry in want.items() if at > step for name in values):
            want = {at: entry for at, entry in want.items() if at <= step}
        want.setdefault(step, {"step": step}).update(values)
    assert read_entries(file, OWN, Notes()) == [want[step] for step in sorted(want)]
    wrapped = [{"step": step, "data": values} for step, values in log]
    write_lines(file, wrapped)
    assert read_entries(file, OWN, Notes()) == [want[step] for step in sorted(want)]


def test_names_of_trainers_do_not_clash() -> None:
    """No name that is drawn is itself renamed, but TRL's length, which is in tokens."""
    assert {name for name in OF_TRAINERS.values() if name in OF_TRAINERS} == set()


def test_windows_are_few_and_evenly_spaced() -> None:
    """Of many windows the first, the last, and some between them are read."""
    assert spread(list(range(101)), MOST) == [0, 20, 40, 60, 80, 100]
    assert spread([1, 2], MOST) == [1, 2]


def test_a_window_of_several_keys(tmp_path: Path) -> None:
    """Each key's rows are a window of its own."""
    service = rr.QuantileService(metrics=("iou",), keys=("a", "b"), warm_start=0)
    service.push([[0.1], [0.2], [0.9]], keys=["a", "a", "b"])
    service.flush(step=3)
    scored(tmp_path)
    shutil.rmtree(tmp_path / "windows")
    (tmp_path / "windows").mkdir()
    save_state(
        tmp_path / "windows" / "step-00000003.npz", {"recipe": "mine", **service.state_dict()}
    )
    windows = read_run(tmp_path).windows
    assert [(w.step, w.key, sorted(w.rows.ravel())) for w in windows] == [
        (3, "a", [0.1, 0.2]),
        (3, "b", [0.9]),
    ]


def test_failures_of_an_unknown_recipe_have_no_position(tmp_path: Path) -> None:
    """The table's own code and message stand, where the recipe is not known here."""
    training = trl(tmp_path)
    for folder in tmp_path.glob("checkpoint-*"):
        (folder / "rankreward.npz").unlink()
    run = read_run(tmp_path)
    assert run.recipe == ""
    assert {example.code for example in run.examples} == _codes(training)
    assert {example.position for example in run.examples} == {None}


def test_tables_are_looked_through_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more files of rollouts than the limit some are read, the newest first, and a note says so."""
    trl(tmp_path)
    monkeypatch.setattr("rankreward.runs.examples.FILES", 5)
    run = read_run(tmp_path)
    assert any("5 of 24 files" in note for note in run.notes)
    first = [e.step for e in run.examples if e.code == "bad_json"]
    assert first == sorted(first, reverse=True)


def test_a_run_says_its_figures() -> None:
    """A figure that no entry has is empty, and names come in the order of their first appearance."""
    run = Run("r", "TRL", [{"step": 1.0, "b/x": 1.0}, {"step": 2.0, "b/y": 2.0, "b/x": 3.0}])
    assert [values.tolist() for values in run.figure("b/x")] == [[1.0, 2.0], [1.0, 3.0]]
    assert [values.tolist() for values in run.figure("c")] == [[], []]
    assert run.names("b/") == ["b/x", "b/y"]


def test_failures_of_evaluation_are_no_examples(tmp_path: Path) -> None:
    """A table of the adapter holds rows of evaluation, too, and these are not the policy's training."""
    rows = [
        {
            "step": 1,
            "completion": "a",
            "failure": "missing_tag: x",
            "reference": "[]",
            "split": split,
        }
        for split in ("train", "eval")
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "completions_00001.parquet")
    (found,) = from_tables(tmp_path, "dr_seg", Notes())
    assert found.place == "completions_00001.parquet:0"
