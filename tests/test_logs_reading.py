"""Logs are read whatever trainer wrote them, and what is no rollout is named."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from log_makers import REFERENCE, rollouts, write_generations, write_lines, write_verl
from PIL import Image

import rankreward as rr
from rankreward.logs.gaps import Gaps
from rankreward.logs.pictures import Pictures
from rankreward.logs.reading import read_log, size_of
from rankreward.logs.rows import BadRow, LogRow

ROWS = rollouts(11, groups=2, size=2)


def told(path: Path, **options: Any) -> tuple[list[LogRow | BadRow], list[str]]:
    lines: list[str] = []
    return list(read_log([path], say=lines.append, **options)), lines


def plainly(rows: list[Any]) -> list[tuple[Any, ...]]:
    """What a log's rows hold."""
    assert all(isinstance(row, LogRow) for row in rows), rows
    return [(r.step, r.completion, r.reference, r.columns["prompt"]) for r in rows]


WANTED = [(r["step"], r["completion"], r["reference"], r["prompt"]) for r in ROWS]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_plain_logs_are_read_from_each_kind_of_file(tmp_path: Path, kind: str) -> None:
    """JSON lines, compressed or not, and Parquet give the same rows with their other columns."""
    path = tmp_path / f"log.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=7)
    else:
        write_lines(tmp_path / "log.jsonl", ROWS)
        text = (tmp_path / "log.jsonl").read_bytes()
        path.write_bytes(gzip.compress(text) if kind == "jsonl.gz" else text)
    rows, lines = told(path)
    assert plainly(rows) == WANTED
    assert [row.group for row in rows] == [str(row["group"]) for row in ROWS]
    assert [row.columns["tokens"] for row in rows] == [row["tokens"] for row in ROWS]
    assert rows[4].place == f"log.{kind}:5"
    said = "plain: completion in 'completion', reference in 'reference', group in 'group', "
    assert lines == [said + "step in 'step'"]


def test_dumps_of_verl_are_read_in_the_order_of_their_steps(tmp_path: Path) -> None:
    """10.jsonl comes after 9.jsonl, and a group is the rollouts of one sample."""
    rows, lines = told(write_verl(tmp_path / "dump", ROWS))
    assert plainly(rows) == WANTED
    assert [row.group for row in rows] == [f"5c1e_{row['group']}"[:6] for row in ROWS]
    assert lines[0].startswith("verl's dump: completion in 'output', reference in 'gts'")


def test_steps_order_files_whatever_their_names(tmp_path: Path) -> None:
    """A file's first step counts, not its name nor the order given."""
    late = write_lines(tmp_path / "a.jsonl", [r for r in ROWS if r["step"] > 5])
    early = write_lines(tmp_path / "b.jsonl", [r for r in ROWS if r["step"] <= 5])
    assert plainly(list(read_log([late, early]))) == WANTED


def test_generations_of_easyr1_are_read(tmp_path: Path) -> None:
    """Its text gives prompts, answers and references, and no steps; answers may have many lines."""
    rows, lines = told(write_generations(tmp_path / "generations.log", ROWS))
    assert plainly(rows) == [(None, *each[1:]) for each in WANTED]
    assert "no step" in lines[0]


def test_an_answer_with_easyr1s_own_marks_is_a_bad_row(tmp_path: Path) -> None:
    """Where an answer holds a delimiter, nobody can tell what was answered."""
    odd = {**ROWS[0], "completion": "a\n[ground_truth] b"}
    rows, _ = told(write_generations(tmp_path / "generations.log", [ROWS[0], odd, ROWS[1]]))
    assert [type(row).__name__ for row in rows] == ["LogRow", "BadRow", "LogRow"]
    assert "[ground_truth]" in rows[1].reason


def test_chat_messages_are_texts(tmp_path: Path) -> None:
    """A completion may be a chat message, with its think block apart as TRL keeps it."""
    message = {"role": "assistant", "content": "<answer>[]</answer>", "reasoning_content": "hm"}
    row = {"step": 1, "prompt": [], "completion": [message], "advantage": 0.0, "reference": "[]"}
    rows, lines = told(write_lines(tmp_path / "log.jsonl", [row]))
    assert rows[0].completion == "<think>hm</think><answer>[]</answer>"
    assert lines[0].startswith("TRL's completions table")


def test_columns_can_be_named(tmp_path: Path) -> None:
    """A log with other columns is read once these are named."""
    other = [{"text": "a", "truth": "[]", "question": 3, "at": 7}]
    path = write_lines(tmp_path / "log.jsonl", other)
    rows, _ = told(path, completion="text", reference="truth", group="question", step="at")
    row = rows[0]
    assert (row.completion, row.reference, row.group, row.step) == ("a", "[]", "3", 7)
    (bad,), _ = told(path)
    assert "name yours with --completion" in bad.reason


def test_references_come_from_a_file_by_prompt(tmp_path: Path) -> None:
    """A log without references gets them by the text of its prompts, chat or not."""
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "where?"}]}]
    log = write_lines(tmp_path / "log.jsonl", [{"completion": "a", "prompt": chat}])
    lacking, _ = told(log)
    assert "--references" in lacking[0].reason
    pairs = [{"prompt": "where?", "reference": "[]"}, {"prompt": "who?", "reference": "[1]"}]
    references = write_lines(tmp_path / "pairs.jsonl", [*pairs, pairs[0]])
    (row,), _ = told(log, references=references)
    assert row.reference == "[]"
    write_lines(references, [*pairs, {"prompt": "where?", "reference": "[2]"}])
    with pytest.raises(rr.InputError, match=r"pairs.jsonl:3: expected one reference a prompt"):
        told(log, references=references)


HOSTILE = {
    "torn": b'{"completion": "a", "refer',
    "no object": b"[1, 2]",
    "no UTF-8": b'{"completion": "\xff", "reference": "[]"}',
    "surrogates as bytes": b'{"completion": "\xed\xa0\x80", "reference": "[]"}',
    "NUL": b"\x00\x00\x00",
    "deep": b'{"completion": "a", "reference": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep and open": b"[" * 100_000,
    "a number": b'{"completion": NaN, "reference": "[]"}',
    "no completion": b'{"reference": "[]"}',
    "none": b'{"completion": null, "reference": "[]"}',
    "a list": b'{"completion": ["a", "b"], "reference": "[]"}',
    "no reference": b'{"completion": "a"}',
    "digits": b'{"completion": ' + b"9" * 5000 + b', "reference": "[]"}',
    "huge": b'{"completion": "' + b"x" * (1 << 26) + b'", "reference": "[]"}',
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_costs_only_itself(tmp_path: Path, line: bytes) -> None:
    """Whatever a line holds, it is one bad row with its place, and its neighbours are read."""
    good = json.dumps({"completion": "a", "reference": "[]"}).encode()
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([good, line, good]) + b"\n")
    rows, _ = told(tmp_path / "log.jsonl")
    assert [type(row).__name__ for row in rows] == ["LogRow", "BadRow", "LogRow"]
    assert rows[1].place == "log.jsonl:2"
    assert rows[1].reason.startswith("expected ")
    assert len(rows[1].reason) < 300


def test_what_json_can_say_of_a_completion_is_data(tmp_path: Path) -> None:
    """NUL, lone surrogates and control characters in a completion are for the scorer to judge."""
    text = "\x00 \ud800 \x1b[2J"
    rows, _ = told(write_lines(tmp_path / "a.jsonl", [{"completion": text, "reference": "[]"}]))
    assert rows[0].completion == text
    assert rr.Scorer("dr_seg").score([text], ["[]"]).failures[0] is not None


@pytest.mark.parametrize("step", [-1, 1.5, "3", None, True, float("nan"), 2**63])
def test_a_step_is_a_whole_number(tmp_path: Path, step: Any) -> None:
    """Once a log has steps, a row without a proper one is a bad row."""
    rows = [{"completion": "a", "reference": "[]", "step": each} for each in (1, step, 2.0)]
    read, _ = told(write_lines(tmp_path / "log.jsonl", rows))
    assert [getattr(row, "step", None) for row in read] == [1, None, 2]
    assert "expected a whole number" in read[1].reason


def test_a_compressed_file_that_breaks_off_is_read_up_to_there(tmp_path: Path) -> None:
    """Its writer may have been killed: whole lines count, and the break is a bad row."""
    lines = "".join(json.dumps(row) + "\n" for row in rollouts(200))
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-3000])
    rows, _ = told(tmp_path / "log.jsonl.gz")
    good = [row for row in rows if isinstance(row, LogRow)]
    assert 100 < len(good) < 2400
    assert len(rows) - len(good) in (1, 2)
    assert isinstance(rows[-1], BadRow)


def test_a_damaged_parquet_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    """A table without its end cannot be read in part."""
    path = tmp_path / "log.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(rr.InputError, match=r"log.parquet: expected a whole Parquet file"):
        told(path)


def test_wrong_paths_are_errors(tmp_path: Path) -> None:
    """A file that is not there, of another kind, or a folder without logs says so."""
    with pytest.raises(rr.InputError, match="no such file"):
        told(tmp_path / "gone.jsonl")
    with pytest.raises(rr.InputError, match=r"expected files that end in .jsonl"):
        told(tmp_path)
    (tmp_path / "log.csv").write_text("a")
    with pytest.raises(rr.InputError, match=r"log.csv: expected a name that ends in"):
        told(tmp_path / "log.csv")


@pytest.mark.parametrize("kind", ["path", "bytes", "mapping", "list"])
def test_images_are_opened(tmp_path: Path, kind: str) -> None:
    """A path beside the log, bytes, or a mapping of either; one that is broken is a bad row."""
    Image.new("RGB", (6, 4), (9, 8, 7)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    given = {"path": "a.png", "bytes": data, "mapping": {"bytes": data}, "list": ["a.png"]}[kind]
    broken = {"path": "b.png", "bytes": b"x", "mapping": {"bytes": b"x"}, "list": ["b.png"]}[kind]
    rows = [{"completion": "a", "reference": "[]", "image": each} for each in (given, broken)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "log.parquet")
    (row, bad), _ = told(tmp_path / "log.parquet", images=True)
    assert np.array(row.image).tolist() == [[[9, 8, 7]] * 6] * 4
    assert "expected an image that can be opened" in bad.reason
    assert told(tmp_path / "log.parquet")[0][0].image is None


def test_progress_ends_at_the_size_of_the_log(tmp_path: Path) -> None:
    """The bytes reported never fall, and end with all of them."""
    folder = write_verl(tmp_path / "dump", ROWS)
    seen: list[int] = []
    list(read_log([folder], progress=seen.append))
    assert seen == sorted(seen)
    assert seen[-1] == size_of([folder])


def test_tables_that_trl_writes_again_are_left_out(tmp_path: Path) -> None:
    """A step that trains on the rollouts of the one before adds none; new ones are read."""
    rows = [
        {"prompt": "q", "completion": str(n), "reference": "[]", "advantage": 0.0, "step": n}
        for n in range(2)
    ]
    for step, table in enumerate([rows, rows, rows[::-1]], 1):
        columns = pyarrow.Table.from_pylist([{**row, "step": step} for row in table])
        pyarrow.parquet.write_table(columns, tmp_path / f"completions_{step:05d}.parquet")
    read, lines = told(tmp_path)
    assert [(row.step, row.completion) for row in read] == [(1, "0"), (1, "1"), (3, "1"), (3, "0")]
    assert "completions_00002.parquet" in lines[-1]


def test_a_line_that_is_longer_than_any_rollout_is_not_held(tmp_path: Path) -> None:
    """The rest of an endless line is skipped without being kept."""
    path = tmp_path / "log.jsonl"
    with path.open("wb") as file:
        for _ in range(3):
            file.write(b"x" * (1 << 26))
        file.write(b"\n" + json.dumps({"completion": "a", "reference": REFERENCE}).encode())
    bad, row = told(path)[0]
    assert "64 MiB" in bad.reason
    assert (row.place, row.completion) == ("log.jsonl:2", "a")


def opened(folder: Path, given: list[Any]) -> list[LogRow | BadRow]:
    """A log of one image a row, in Parquet where they are bytes."""
    rows = [{"completion": "a", "reference": "[]", "image": each} for each in given]
    if not any(isinstance(each, bytes) for each in given):
        return told(write_lines(folder / "log.jsonl", rows), images=True)[0]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "log.parquet")
    return told(folder / "log.parquet", images=True)[0]


def picture(size: tuple[int, int] = (4, 4), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("1" if kind == "PNG" else "L", size).save(stream, kind)
    return stream.getvalue()


def test_images_lie_in_the_logs_folder(tmp_path: Path) -> None:
    """A log from elsewhere opens no other file: not by a path up, nor a whole one, nor a link."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log/a.png").write_bytes(picture())
    (tmp_path / "b.png").write_bytes(picture())
    (tmp_path / "log/link.png").symlink_to(tmp_path / "b.png")
    whole = str(tmp_path / "log/a.png")
    inside = opened(tmp_path / "log", ["a.png", "../log/a.png", whole])
    assert [type(each) for each in inside] == [LogRow] * 3
    for each in opened(tmp_path / "log", ["../b.png", str(tmp_path / "b.png"), "link.png"]):
        assert isinstance(each, BadRow)
        assert "outside the log's folder" in each.reason


def test_images_are_regular_files(tmp_path: Path) -> None:
    """A pipe, which would be waited for, and a folder are bad rows."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for each in opened(tmp_path, ["pipe.png", "folder.png"]):
        assert isinstance(each, BadRow)
        assert "no regular file" in each.reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "EPS", "PPM"])
def test_images_are_of_usual_formats(tmp_path: Path, kind: str) -> None:
    """Others are not opened: Pillow would start a program for EPS."""
    (row,) = opened(tmp_path, [picture(kind=kind)])
    assert isinstance(row, BadRow if kind in {"EPS", "PPM"} else LogRow)


def test_an_image_that_takes_too_much_memory_is_a_bad_row(tmp_path: Path) -> None:
    """A file of some kilobytes may be of gigabytes once it is open."""
    small, large, huge = (picture((1 << 13, height)) for height in (1 << 13, 8193, 1 << 15))
    assert len(huge) < 1 << 20
    read = opened(tmp_path, [small, large, huge])
    assert [type(each) for each in read] == [LogRow, BadRow, BadRow]
    assert "8192 x 8193 pixels" in read[1].reason  # type: ignore[union-attr]


def test_many_images_are_opened_each_once_for_its_group(tmp_path: Path) -> None:
    """Neighbours share one; earlier ones are let go, and opened again where they come back."""
    for n in range(40):
        Image.new("L", (4, 4), n).save(tmp_path / f"{n}.png")
    names = [f"{n}.png" for n in range(40) for _ in range(2)]
    rows = opened(tmp_path, [*names, "0.png"])
    images = [row.image for row in rows if isinstance(row, LogRow)]
    assert [image.getpixel((0, 0)) for image in images] == [n // 2 for n in range(80)] + [0]
    assert all(one is other for one, other in zip(images[:80:2], images[1:80:2], strict=True))
    assert images[-1] is not images[0]


def test_large_images_are_not_kept(tmp_path: Path) -> None:
    """Those that are kept for neighbours are bounded in pixels, too."""
    for n in range(3):
        Image.new("1", (1 << 13, 1 << 12)).save(tmp_path / f"{n}.png")
    pictures = Pictures(tmp_path)
    for n in (0, 0, 1, 2):
        pictures.add(LogRow("log:1", 1, None, "a", "[]", {"image": f"{n}.png"}))
    assert list(pictures._open) == ["1.png", "2.png"]


def test_files_without_steps_keep_their_order(tmp_path: Path) -> None:
    """As given; those of a folder by the numbers in their names."""
    for name in ("b", "a"):
        write_lines(tmp_path / f"{name}.jsonl", [{"completion": name, "reference": "[]"}])
    paths = [tmp_path / "b.jsonl", tmp_path / "a.jsonl"]
    assert [row.completion for row in read_log(paths)] == ["b", "a"]  # type: ignore[union-attr]
    (tmp_path / "many").mkdir()
    for n in (10, 9, 100):
        write_lines(tmp_path / f"many/{n}.jsonl", [{"completion": str(n), "reference": "[]"}])
    rows, _ = told(tmp_path / "many")
    assert [row.completion for row in rows] == ["9", "10", "100"]  # type: ignore[union-attr]


def test_the_pattern_of_verls_keys_is_for_verls_dumps(tmp_path: Path) -> None:
    """A column uid of a log of one's own is taken as it is."""
    rows = [{"completion": "a", "reference": "[]", "uid": f"sample_{n}_0"} for n in range(2)]
    read, _ = told(write_lines(tmp_path / "log.jsonl", rows), group="uid")
    assert [row.group for row in read] == ["sample_0_0", "sample_1_0"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("group", "got"), [(float("nan"), "float nan"), (None, "none")])
def test_a_row_without_its_group_is_a_bad_row(tmp_path: Path, group: Any, got: str) -> None:
    """In a log that has groups; such rows are no group together."""
    rows = [{"completion": "a", "reference": "[]", "group": each} for each in (1, group, group)]
    read, _ = told(write_lines(tmp_path / "log.jsonl", rows))
    assert [type(row) for row in read] == [LogRow, BadRow, BadRow]
    assert read[1].reason == f"expected a group as 'group', got {got}"  # type: ignore[union-attr]


def test_results_in_a_folder_are_no_log(tmp_path: Path) -> None:
    """What `rankreward score` wrote is left out, with a word; a folder of nothing else is refused."""
    write_lines(tmp_path / "log.jsonl", ROWS)
    write_lines(tmp_path / "examples.jsonl", ROWS[:2])
    assert len(told(tmp_path)[0]) == len(ROWS) + 2
    (tmp_path / "settings.json").write_text("{}")
    rows, lines = told(tmp_path)
    assert len(rows) == len(ROWS)
    assert "left out examples.jsonl" in lines[0]
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(rr.InputError, match="got what rankreward score made"):
        told(tmp_path)


def table(rows: list[tuple[str, int, int]], step: int, path: Path) -> None:
    """One of TRL's tables, as with our reward: split, rollout_step and rollout of each row."""
    columns = [
        {
            "step": step, "prompt": "q", "completion": f"{split} {at} {n}", "advantage": 0.0,
            "reference": "[]", "group": n, "split": split, "rollout_step": at, "rollout": n,
        }
        for split, at, n in rows
    ]  # fmt: skip
    name = path / f"completions_{step:05d}.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(columns), name)


def test_evaluation_in_tables_of_trl_is_left_out(tmp_path: Path) -> None:
    """Training's rollouts are read once, at their own steps, and what lacks is said."""
    table([("train", 1, n) for n in range(4)], 1, tmp_path)
    table([("train", 1, 2), ("train", 1, 3), ("eval", 3, 0), ("eval", 3, 1)], 2, tmp_path)
    table([("train", 3, n) for n in (2, 3, 4, 5)], 3, tmp_path)
    table([("train", 5, n) for n in range(4)], 6, tmp_path)
    gaps = Gaps()
    rows, lines = told(tmp_path, gaps=gaps)
    assert [(row.step, row.completion) for row in rows] == [  # type: ignore[union-attr]
        (step, f"train {step} {n}") for step, first in ((1, 0), (3, 2), (5, 0))
        for n in range(first, first + 4)
    ]  # fmt: skip
    assert lines[1] == "2 rollouts of evaluation in TRL's tables: left out"
    assert lines[2].startswith("TRL's tables lack 2 rollouts in 1 of the steps")
    assert gaps.as_dict() == {"count": 1, "first": 4, "last": 4}


@pytest.mark.parametrize("part", ["completion", "reference", "group", "step"])
def test_a_column_that_is_named_and_not_there(tmp_path: Path, part: str) -> None:
    """A misspelt column is told beside those that there are, with the option that named it."""
    write_lines(tmp_path / "log.jsonl", [{"completion": "a", "reference": "[]", "step": 1}])
    (bad,) = read_log([tmp_path / "log.jsonl"], **{part: "misspelt"})  # type: ignore[arg-type]
    assert isinstance(bad, BadRow)
    assert bad.reason == (
        f"expected a column 'misspelt', as --{part} says, got 'completion', 'reference', 'step'"
    )


def test_the_folder_above_trls_tables_points_to_them(tmp_path: Path) -> None:
    """A trainer's folder is no log, and the error says where the log is."""
    (tmp_path / "completions").mkdir()
    with pytest.raises(rr.InputError, match=r"TRL's tables are in .*completions"):
        list(read_log([tmp_path]))
