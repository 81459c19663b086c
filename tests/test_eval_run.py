"""Runs: killed, resumed, sharded, merged; and what one bad sample costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from eval_makers import RECIPE, SCENES, answers, run, timeless, write

import rankreward as rr
from rankreward import evaluation as ev
from rankreward.evaluation.records import RecordFile


class Fails:
    """Answers nothing, but fails for some."""

    def __init__(self, bad: set[str]) -> None:
        self.bad, self.asked = bad, []

    def complete(self, images: Any, prompts: Any, ids: Any) -> Any:
        self.asked.append(list(ids))
        if self.bad & set(ids):
            raise RuntimeError(f"no memory for {sorted(self.bad & set(ids))}")
        return [ev.Completion("<think>x</think><answer>[]</answer>") for _ in ids]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """A process is killed at work, three times; the file is then that of an uninterrupted run."""
    texts = write(tmp_path / "texts", answers())
    whole = lines(run(tmp_path / "whole", ev.StoredPolicy(texts)))
    command = [sys.executable, Path(__file__).parent / "eval_makers.py", tmp_path / "cut", texts]
    file, kills = tmp_path / "cut" / "samples-0of1.jsonl", 0
    for _ in range(3):
        before = len(file.read_bytes().splitlines()) if file.exists() else 0
        process = subprocess.Popen(command)
        while process.poll() is None:
            if file.exists() and len(file.read_bytes().splitlines()) >= before + 3:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            time.sleep(0.005)
    assert kills == 3
    assert 9 <= len(lines(file)) < len(SCENES)
    subprocess.run(command, check=True)
    assert timeless(lines(file)) == timeless(whole)
    assert [record["id"] for record in whole] == [f"scene-{i}" for i in range(len(SCENES))]


def test_a_line_cut_by_death_is_dropped(tmp_path: Path) -> None:
    """Wherever the last line breaks off, its sample is judged again and no other is; whole, it is read."""
    file = run(tmp_path / "run")
    content = file.read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for length in (last, last + 1, last + 40, len(content) - 1):
        file.write_bytes(content[:length])
        asked = Fails(set())
        cut = length < len(content) - 1  # else whole but for its line's end
        assert len(list(ev.read_records(file))) == len(SCENES) - cut
        run(tmp_path / "run", as_stored(asked, tmp_path))
        assert asked.asked == [["scene-23"]]
        assert lines(file)[:-1] == [json.loads(line) for line in content.splitlines()[:-1]]


def as_stored(policy: Fails, folder: Path) -> Any:
    """The policy under the settings of the run's first one."""
    policy.settings = ev.StoredPolicy(folder / "run.answers").settings
    return policy


def test_a_cut_line_longer_than_a_block(tmp_path: Path) -> None:
    """The end of the last whole line is found however far back it lies."""
    path = tmp_path / "file"
    path.write_bytes(b'{"id": "a"}\n' + b"x" * 200_000)
    with RecordFile(path) as file:
        file.write([{"id": "b"}])
    assert [record["id"] for record in ev.read_records(path)] == ["a", "b"]
    path.write_bytes(b"x" * 200_000)
    with RecordFile(path):
        pass
    assert path.read_bytes() == b""


def test_a_finished_run_asks_nothing(tmp_path: Path) -> None:
    """Called again it changes no byte, and reports that all is done."""
    file = run(tmp_path / "run")
    before, asked, seen = file.read_bytes(), Fails(set()), []
    run(tmp_path / "run", as_stored(asked, tmp_path), progress=lambda *n: seen.append(n))
    assert (file.read_bytes(), asked.asked, seen) == (before, [], [])


def test_shards_together_are_one_run(tmp_path: Path) -> None:
    """Three shards, merged, are the run of one; in one folder or in three."""
    whole = ev.merge(run(tmp_path / "whole"))
    policy = ev.StoredPolicy(tmp_path / "whole.answers")
    for folders in (["all"] * 3, ["a", "b", "c"]):
        for i, folder in enumerate(folders):
            run(tmp_path / folder, policy, shard=(i, 3))
        merged = ev.merge([tmp_path / folder for folder in dict.fromkeys(folders)])
        assert timeless(merged) == timeless(whole)
        assert [record["id"] for record in merged] == [f"scene-{i}" for i in range(len(SCENES))]
    names = sorted(file.name for file in (tmp_path / "all").glob("*.jsonl"))
    assert names == [f"samples-{i}of3.jsonl" for i in range(3)]


def test_a_run_goes_on_in_other_shards(tmp_path: Path) -> None:
    """What one process began two may end: no sample is asked twice."""
    run(tmp_path / "run", samples=ev.scene_samples(SCENES).limit(7))
    policy = ev.StoredPolicy(tmp_path / "run.answers")
    for i in range(2):
        run(tmp_path / "run", policy, shard=(i, 2))
    found = [record["id"] for file in (tmp_path / "run").glob("*.jsonl") for record in lines(file)]
    assert sorted(found) == sorted(f"scene-{i}" for i in range(len(SCENES)))
    asked = as_stored(Fails(set()), tmp_path)
    for shard in ((0, 1), (1, 3)):
        run(tmp_path / "run", asked, shard=shard)
    assert asked.asked == []


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    """Policy, recipe, segmenter, data, protocol: each is an error that says what was and what is."""
    run(tmp_path / "run")
    texts = answers()
    texts["scene-0"] = "?"
    policy = ev.StoredPolicy(tmp_path / "run.answers")
    for message, options in (
        ("policy.sha256 was", {"policy": ev.StoredPolicy(write(tmp_path / "x", texts))}),
        ("policy.kind was 'stored', now 'Fails'", {"policy": Fails(set())}),
        ("recipe.response.keyword", {"recipe": RECIPE.override({"response.keyword": "wait"})}),
        ("segmenter.slack was 0.2, now 0.0", {"segmenter": ev.GrabCut(slack=0.0)}),
        ("protocol was None, now 'lisa'", {"protocol": "lisa"}),
        ("data was 'sha256:", {"samples": ev.scene_samples(SCENES[:20])}),
        ("masks was False, now True", {"keep_masks": True}),
    ):
        with pytest.raises(rr.CheckpointError, match=message):
            run(tmp_path / "run", **{"policy": policy, **options})


def test_what_only_speed_depends_on_is_no_setting(tmp_path: Path) -> None:
    """A run may go on with another batch size."""
    run(tmp_path / "run", samples=ev.scene_samples(SCENES).limit(5))
    run(tmp_path / "run", ev.StoredPolicy(tmp_path / "run.answers"), batch_size=7)
    assert len(ev.merge(tmp_path / "run")) == len(SCENES)


def test_one_sample_that_fails_costs_itself(tmp_path: Path) -> None:
    """A policy that fails for a batch is asked one by one; the line says what failed."""
    bad = {"scene-9", "scene-14"}
    records = lines(run(tmp_path / "run", Fails(bad)))
    assert [record["id"] for record in records] == [f"scene-{i}" for i in range(len(SCENES))]
    failed = {record["id"]: record for record in records if "error" in record}
    assert failed.keys() == bad
    assert failed["scene-9"] == {
        "id": "scene-9", "place": 9, "stage": "policy",
        "error": "RuntimeError: no memory for ['scene-9']",
    }  # fmt: skip
    assert ev.summarise(records, "seg_zero").errors == 2
    assert ev.summarise(records, "seg_zero").samples == len(SCENES) - 2


def test_errors_are_asked_again_only_when_told_so(tmp_path: Path) -> None:
    """Without `retry_errors` they stay; with it the result takes the error's place."""
    run(tmp_path / "run", Fails({"scene-9"}))
    mended = Fails(set())
    run(tmp_path / "run", mended)
    assert mended.asked == []
    file = run(tmp_path / "run", mended, retry_errors=True)
    assert mended.asked == [["scene-9"]]
    merged = ev.merge(file)
    assert len(merged) == len(SCENES)
    assert not any("error" in record for record in merged)
    run(tmp_path / "run", mended, retry_errors=True)
    assert mended.asked == [["scene-9"]]


def test_a_segmenter_and_an_image_may_fail(tmp_path: Path) -> None:
    """Whatever stage fails, the others of the batch are judged."""
    broken = SCENES[5]

    class Segmenter:
        def segment(self, image: Any, boxes: Any, points: Any) -> Any:
            if (image == broken.image).all():
                raise ValueError("no mask")
            return ev.GrabCut().segment(image, boxes, points)

    records = ev.merge(run(tmp_path / "run", segmenter=Segmenter()))
    stages = {record["id"]: record["stage"] for record in records if "error" in record}
    assert stages == {"scene-5": "judgement"}
    whole = timeless(ev.merge(run(tmp_path / "whole")))
    assert [r for r in timeless(records) if r["id"] != "scene-5"] == [
        r for r in whole if r["id"] != "scene-5"
    ]


@pytest.mark.parametrize("batch_size", [3, 8, 16])
def test_a_broken_policy_stops_the_run(tmp_path: Path, batch_size: int) -> None:
    """Where the first 8 fail alike the run stops and leaves no line; mended, it asks them all."""
    with pytest.raises(
        rr.StateError, match=r"first 8 samples all failed at the stage 'policy': Run"
    ):
        run(tmp_path / "run", Fails({f"scene-{i}" for i in range(24)}), batch_size=batch_size)
    assert lines(tmp_path / "run" / "samples-0of1.jsonl") == []
    mended = Fails(set())
    run(tmp_path / "run", mended, batch_size=batch_size)
    assert list(chain(*mended.asked)) == [f"scene-{i}" for i in range(24)]


def test_seven_failures_do_not_stop_it(tmp_path: Path) -> None:
    """The eighth sample decides; errors held back until then are written."""
    file = run(tmp_path / "run", Fails({f"scene-{i}" for i in range(7)}))
    assert sum("error" in record for record in lines(file)) == 7
    few = ev.scene_samples(SCENES).limit(5)
    file = run(tmp_path / "few", Fails({f"scene-{i}" for i in range(5)}), samples=few)
    assert [record["id"] for record in lines(file)] == [f"scene-{i}" for i in range(5)]


def test_a_policy_that_breaks_its_protocol(tmp_path: Path) -> None:
    """Too few answers, or answers of another kind, are no samples' fault."""
    for answer in ([], ["text"] * 4):
        policy = type("Odd", (), {"complete": lambda self, *_, answer=answer: answer})()
        with pytest.raises(rr.InputError, match="policy: expected 4 of Completion or Exception"):
            run(tmp_path / "run", policy)


def test_missing_answers_are_named_before_anything_is_asked(tmp_path: Path) -> None:
    """A stored policy that lacks an answer stops the run at once."""
    texts = answers()
    del texts["scene-20"]
    with pytest.raises(rr.InputError, match="1 have none: 'scene-20'"):
        run(tmp_path / "run", ev.StoredPolicy(write(tmp_path / "x", texts)))


def test_two_processes_never_write_one_shard(tmp_path: Path) -> None:
    """The second one is told so; once the first is gone the file is free."""
    path = tmp_path / "file"
    with RecordFile(path), pytest.raises(rr.StateError, match="another process is writing"):
        RecordFile(path)
    with RecordFile(path) as file:
        file.write([{"id": "a"}])


def test_merge_refuses_two_results_of_a_sample(tmp_path: Path) -> None:
    """Equal ones are one, whatever their seconds; others are an error that names both."""
    file = run(tmp_path / "run")
    other = tmp_path / "samples-other.jsonl"
    record = lines(file)[3]
    other.write_text(json.dumps({**record, "seconds": 9}) + "\n")
    assert len(ev.merge([file, other])) == len(SCENES)
    other.write_text(json.dumps({**record, "completion": "?"}) + "\n")
    with pytest.raises(rr.InputError, match=r"'scene-3' has another result before, other in compl"):
        ev.merge([file, other])
    other.write_text(json.dumps({"id": "scene-3", "error": "late"}) + "\n")
    assert timeless(ev.merge([other, file])) == timeless(ev.merge([file, other]))
    assert "error" not in ev.merge([file, other])[3]


def test_merge_refuses_runs_with_other_settings(tmp_path: Path) -> None:
    """Shards of different policies are no run."""
    run(tmp_path / "a", shard=(0, 2))
    run(tmp_path / "b", ev.StoredPolicy(write(tmp_path / "x", answers(1))), shard=(1, 2))
    with pytest.raises(rr.InputError, match=r"with the same settings.*policy.sha256"):
        ev.merge([tmp_path / "a", tmp_path / "b"])


def test_files_that_are_none(tmp_path: Path) -> None:
    """A missing folder and a line that is no record are errors that say where."""
    with pytest.raises(rr.InputError, match="expected a file, or a folder"):
        ev.merge(tmp_path)
    (tmp_path / "x").write_text('{"id": "a"}\nnonsense\n')
    with pytest.raises(rr.InputError, match="x:2: expected a line of JSON"):
        ev.merge(tmp_path / "x")
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(rr.CheckpointError, match="expected the settings of a run"):
        ev.read_settings(tmp_path)


def test_progress_counts_the_shard(tmp_path: Path) -> None:
    """Progress goes from what was done before to all of the shard."""
    seen: list[tuple[int, int]] = []
    run(tmp_path / "run", shard=(1, 2), progress=lambda *n: seen.append(n))
    assert seen == [(4, 12), (8, 12), (12, 12)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "perception_r1"}, None),
        ({"protocol": "none"}, "protocol: expected one of seg_zero"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"shard": (2, 2)}, "shard: expected 0 <= i < n, got 2/2"),
        ({"shard": (0, 0)}, "shard: expected 0 <= i < n"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, options: Any, message: str | None) -> None:
    """Each is named."""
    if message is None:
        texts = [name for name in rr.recipes() if rr.Recipe.load(name).response.schema_ == "text"]
        options, message = {"recipe": texts[0]}, "expected one that pays objects"
    with pytest.raises(rr.InputError, match=message):
        run(tmp_path / "run", **options)
