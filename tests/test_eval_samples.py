"""Samples: what was written for evaluation and for training is read back, a row group at a time."""

from __future__ import annotations

import json
import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_makers import coco, digit_rows, disc
from eval_makers import RECIPE, SCENES
from PIL import Image

import rankreward as rr
from rankreward import evaluation as ev
from rankreward.datasets.build import build
from rankreward.datasets.coco import read_instances
from rankreward.datasets.layouts import features, to_eval, to_training
from rankreward.datasets.pictures import rows_of
from rankreward.datasets.rows import decode_mask, encode_mask
from rankreward.evaluation.facts import facts_of, overlap_of

ROWS = digit_rows(20)
STRATA = ("size", "count")


def table(rows: list[dict[str, Any]], layout: Any = "eval") -> pa.Table:
    """The rows as the library's own writer types them."""
    columns = features(layout, STRATA) if layout == "eval" else features(layout)
    return datasets.Dataset.from_list(rows, features=columns).with_format("arrow")[:]


def write(path: Path, rows: list[dict[str, Any]], layout: Any = "eval", group: int = 6) -> Path:
    pq.write_table(table(rows, layout), path, row_group_size=group)
    return path


EVAL = [to_eval(row, STRATA) for row in ROWS]


def test_rows_for_evaluation_come_back(tmp_path: Path) -> None:
    """Two files in row groups of six: ids, images, boxes, masks and strata, in order."""
    write(tmp_path / "a.parquet", EVAL[:13])
    write(tmp_path / "b.parquet", EVAL[13:])
    samples = ev.read_samples(tmp_path, RECIPE)
    assert samples.ids == [row.id for row in ROWS]
    for place, (row, sample) in enumerate(zip(ROWS, samples, strict=True)):
        question = sample.load()
        assert (sample.id, sample.place, question.query) == (row.id, place, row.query)
        np.testing.assert_array_equal(np.asarray(question.image), np.asarray(row.image))
        np.testing.assert_array_equal(question.boxes, row.boxes)
        np.testing.assert_array_equal(question.mask, decode_mask(row.mask, row.id))
        assert question.ignore is None
        assert question.strata == dict(row.strata)
    again = ev.read_samples([tmp_path / "a.parquet", tmp_path / "b.parquet"], RECIPE)
    assert again.fingerprint == samples.fingerprint


@pytest.mark.parametrize("name", ["ignore", "void"])
def test_pixels_to_ignore_are_read(tmp_path: Path, name: str) -> None:
    """The columns `ignore` and `void` each become a mask of the image's size, and not the other."""
    aside = disc(84, 84, 20, 30, 9)
    row = {**EVAL[0], name: json.dumps(encode_mask(aside))}
    (sample,) = ev.read_samples(write(tmp_path / "x.parquet", [row]), RECIPE)
    question = sample.load()
    np.testing.assert_array_equal(getattr(question, name), aside)
    assert (question.ignore is None) != (question.void is None)


def test_a_column_of_void_pixels_may_be_missing(tmp_path: Path) -> None:
    """Files of others, which have neither column, have no such pixels."""
    path = tmp_path / "x.parquet"
    pq.write_table(table(EVAL[:1]).drop_columns(["ignore", "void"]), path)
    (sample,) = ev.read_samples(path, RECIPE)
    assert sample.load().ignore is sample.load().void is None


@pytest.mark.parametrize("protocol", ev.PROTOCOLS)
def test_a_crowd_costs_nothing_in_any_protocol(tmp_path: Path, protocol: str) -> None:
    """From a COCO file on: a mask equal to the reference scores 1, also with the crowd on it."""
    images = tmp_path / "images"
    rows = list(rows_of(read_instances(coco(images), images)))
    build(rows, tmp_path / "out", layout="eval", origin="x", split="val")
    (sample,) = (s for s in ev.read_samples(tmp_path / "out", "dr_seg") if s.id == "2_cup")
    question = sample.load()
    crowd = disc(60, 80, 60, 40, 8)
    np.testing.assert_array_equal(question.void, crowd)
    text = '<think>x</think><answer>[{"bbox_2d": [1, 1, 9, 9], "point_2d": [5, 5]}]</answer>'
    elsewhere = disc(60, 80, 70, 10, 5)
    extra = int(elsewhere.sum()) / int((question.mask | elsewhere).sum())
    for added, iou in ((crowd & False, 1.0), (crowd, 1.0), (elsewhere, 1.0 - extra)):
        mask = question.mask | added

        class Segmenter:
            def segment(self, pixels: Any, boxes: Any, points: Any, mask: Any = mask) -> Any:
                return mask[None]

        facts = facts_of(question, text, rr.Recipe.load("dr_seg"), Segmenter())
        overlap = overlap_of(facts["pixels"], ev.PROTOCOLS[protocol], count=1)
        assert ev.PROTOCOLS[protocol].measures([overlap])["gIoU"].value == pytest.approx(iou)


def test_splits_of_a_folder(tmp_path: Path) -> None:
    """One split is read without its name, of several the one that is named; files are as named."""
    how: dict[str, Any] = {"layout": "eval", "origin": "x", "shard_rows": 4}
    parts = {"train": ROWS[:9], "train-hard": ROWS[9:14]}
    build(parts["train"], tmp_path, **how)
    assert len(ev.read_samples(tmp_path, RECIPE)) == 9
    build(parts["train-hard"], tmp_path, **how, split="train-hard")
    with pytest.raises(rr.InputError, match="got those of train, train-hard; name one"):
        ev.read_samples(tmp_path, RECIPE)
    for split, rows in parts.items():
        assert ev.read_samples(tmp_path, RECIPE, split).ids == [row.id for row in rows]
    with pytest.raises(rr.InputError, match="the split 'val', got train, train-hard"):
        ev.read_samples(tmp_path, RECIPE, "val")
    named = tmp_path / "train-hard-00001.parquet"
    assert ev.read_samples(named, RECIPE, "train").ids == [ROWS[13].id]


def test_shards_of_others_are_told_apart(tmp_path: Path) -> None:
    """Shards that say how many there are have splits as well, and no list beside them."""
    for split in ("test", "train"):
        for part in range(2):
            row = {**EVAL[part], "id": f"{split}{part}"}
            write(tmp_path / f"{split}-0000{part}-of-00002.parquet", [row])
    with pytest.raises(rr.InputError, match="got those of test, train; name one"):
        ev.read_samples(tmp_path, RECIPE)
    assert ev.read_samples(tmp_path, RECIPE, "train").ids == ["train0", "train1"]


def test_a_build_that_was_killed_is_no_set(tmp_path: Path) -> None:
    """Shards without their list are an error that says to finish the build; named, they are read."""
    built = build(ROWS, tmp_path, layout="eval", origin="x", shard_rows=8)
    (tmp_path / "train.json").unlink()
    for split in (None, "train"):
        with pytest.raises(rr.InputError, match=r"expected train\.json.*finish the build"):
            ev.read_samples(tmp_path, RECIPE, split)
    assert ev.read_samples(built.paths, RECIPE).ids == [row.id for row in ROWS]


def test_rows_for_training_are_read_in_the_image_stored(tmp_path: Path) -> None:
    """The image in the recipe's frame, and references in its pixels; a grid is scaled to it."""
    pixels = rr.Recipe.load("dr_seg")
    frame = {"width": 1000, "height": 1000, "unit": "grid"}
    grid = pixels.override({"name": "grid", "response.frame": frame})
    for recipe, side in ((pixels, 840), (grid, 84)):
        made = [to_training(row, recipe) for row in ROWS[:5]]
        path = write(tmp_path / f"{recipe.name}.parquet", made, "training")
        for row, sample in zip(ROWS, ev.read_samples(path, recipe), strict=False):
            question = sample.load()
            assert question.image.size == (side, side)
            size = np.tile(question.image.size, 2) / np.tile([row.width, row.height], 2)
            np.testing.assert_allclose(question.boxes, row.boxes * size, atol=1.0)
            assert question.mask is None
            assert question.query == row.query


def test_only_the_row_groups_that_are_needed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two samples of twenty cost two groups, not four."""
    samples = ev.read_samples(write(tmp_path / "x.parquet", EVAL, group=5), RECIPE)
    read, original = [], pq.ParquetFile.iter_batches

    def spy(self: Any, *args: Any, **options: Any) -> Any:
        read.append(options["row_groups"])
        return original(self, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    wanted = samples.without({row.id for row in ROWS} - {ROWS[7].id, ROWS[16].id})
    assert [sample.id for sample in wanted] == [ROWS[7].id, ROWS[16].id]
    assert read == [[1], [3]]


def test_a_row_group_larger_than_what_is_held_at_a_time(tmp_path: Path) -> None:
    """Seventy rows of one group have the places that they stand at."""
    rows = [{**EVAL[0], "id": f"r{i}"} for i in range(70)]
    samples = ev.read_samples(write(tmp_path / "x.parquet", rows, group=70), RECIPE)
    assert [(s.id, s.place) for s in samples] == [(f"r{i}", i) for i in range(70)]
    part = samples.shard(34, 35)
    assert [(s.id, s.place) for s in part] == [("r34", 34), ("r69", 69)]


def test_shards_and_limits() -> None:
    """Every n-th sample by the stable order; shards are a partition, limits come first."""
    samples = ev.scene_samples(SCENES)
    parts = [samples.shard(i, 5).ids for i in range(5)]
    assert sorted(chain(*parts)) == sorted(samples.ids)
    assert parts[2] == [f"scene-{i}" for i in (2, 7, 12, 17, 22)]
    assert samples.limit(6).shard(1, 2).ids == ["scene-1", "scene-3", "scene-5"]
    assert [s.place for s in samples.shard(3, 10).without({"scene-3"})] == [13, 23]
    assert len(samples.limit(100)) == len(SCENES)
    with pytest.raises(rr.InputError, match="limit: expected at least 1"):
        samples.limit(0)


def test_fingerprints_tell_data_apart() -> None:
    """Equal scenes, equal fingerprints; another scene, another; a part has that of the whole."""
    one, two = ev.scene_samples(SCENES), ev.scene_samples(SCENES)
    assert one.fingerprint == two.fingerprint == one.limit(3).fingerprint
    assert one.fingerprint != ev.scene_samples(SCENES[:-1]).fingerprint


def test_samples_travel_to_other_processes(tmp_path: Path) -> None:
    """Pickled, they read the same."""
    path = write(tmp_path / "x.parquet", EVAL)
    for samples in (ev.scene_samples(SCENES), ev.read_samples(path, RECIPE)):
        copy = pickle.loads(pickle.dumps(samples.shard(1, 4)))  # noqa: S301 - our own
        assert copy.ids == samples.shard(1, 4).ids
        assert [s.load().query for s in copy] == [s.load().query for s in samples.shard(1, 4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": {"bytes": b"no image", "path": None}}, "image: cannot be read"),
        ({"image": {"bytes": None, "path": "x.png"}}, "image: expected the bytes of a file"),
        ({"mask": "{"}, "mask: expected the JSON of a COCO RLE"),
        ({"mask": json.dumps({"size": [2, 2], "counts": "0120"})}, r"mask: expected the image's"),
        ({"mask": json.dumps({"size": [84, 84], "counts": [1]})}, "mask: expected the JSON of a"),
        ({"problem": ""}, "query: expected a text"),
    ],
)
def test_a_row_that_cannot_be_read_costs_itself(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Its line says why; the rows around it are judged."""
    rows = [*EVAL[:2], {**EVAL[2], **change}, *EVAL[3:5]]
    samples = ev.read_samples(write(tmp_path / "x.parquet", rows), RECIPE)

    class Empty:
        def complete(self, images: Any, prompts: Any, ids: Any) -> Any:
            return [ev.Completion("<think>x</think><answer>[]</answer>")] * len(ids)

    file = ev.run_policy(Empty(), samples, recipe=RECIPE, out=tmp_path / "run")
    records = ev.merge(file)
    assert ["error" in record for record in records] == [False, False, True, False, False]
    assert records[2]["stage"] == "sample"
    with pytest.raises(rr.InputError, match=message):
        raise rr.InputError(records[2]["error"])


def test_images_are_squashed_to_the_frame(tmp_path: Path) -> None:
    """A policy sees 840 x 840, bilinear; masks and boxes are of the original size all the same."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    mask = disc(60, 80, 40, 30, 15)
    row = {
        **EVAL[0], "id": "a", "boxes": [[25.0, 15.0, 56.0, 46.0]], "points": [[[40.0, 30.0]]],
        "mask": json.dumps(encode_mask(mask)), "image": to_eval(ROWS[0])["image"],
    }  # fmt: skip
    image.save(tmp_path / "x.png")
    row["image"] = {"bytes": (tmp_path / "x.png").read_bytes(), "path": None}
    seen: list[Any] = []

    class Right:
        def complete(self, images: Any, prompts: Any, ids: Any) -> Any:
            seen.extend(images)
            box = [25 * 840 / 80, 15 * 840 / 60, 56 * 840 / 80, 46 * 840 / 60]
            entry = [{"bbox_2d": box, "point_2d": [420, 420]}]
            return [ev.Completion(f"<think>x</think><answer>{json.dumps(entry)}</answer>")]

    class Segmenter:
        def segment(self, pixels: Any, boxes: Any, points: Any) -> Any:
            np.testing.assert_array_equal(pixels, np.asarray(image))
            np.testing.assert_allclose(boxes, [[25, 15, 56, 46]])
            np.testing.assert_allclose(points, [[[40, 30]]])
            return mask[None]

    samples = ev.read_samples(write(tmp_path / "x.parquet", [row]), "dr_seg")
    options = {"recipe": "dr_seg", "segmenter": Segmenter(), "keep_masks": True}
    (record,) = ev.merge(ev.run_policy(Right(), samples, out=tmp_path / "run", **options))
    expected = image.resize((840, 840), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(seen[0]), np.asarray(expected))
    np.testing.assert_allclose(record["boxes"], [[25, 15, 56, 46]])
    assert record["size"] == [80, 60]
    assert record["pixels"]["both"] == mask.sum()
    np.testing.assert_array_equal(decode_mask(record["mask"], "a"), mask)


def test_files_that_hold_no_samples(tmp_path: Path) -> None:
    """No file, no Parquet, other columns, ids that stand twice."""
    with pytest.raises(rr.InputError, match="samples: expected Parquet files"):
        ev.read_samples(tmp_path, RECIPE)
    (tmp_path / "x.parquet").write_text("?")
    with pytest.raises(rr.InputError, match="expected a Parquet file"):
        ev.read_samples(tmp_path, RECIPE)
    pq.write_table(pa.table({"id": ["a"], "image": ["b"]}), tmp_path / "x.parquet")
    with pytest.raises(rr.InputError, match="expected the columns id, image, problem"):
        ev.read_samples(tmp_path, RECIPE)
    with pytest.raises(rr.InputError, match="expected each id once"):
        ev.read_samples(write(tmp_path / "x.parquet", [EVAL[0], EVAL[0]]), RECIPE)
