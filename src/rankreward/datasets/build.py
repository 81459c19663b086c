"""Build a data set: rows in, checked Parquet shards out.

Goes in: rows of any reader, a layout, and the recipe that will score answers. Comes out: shards for
TRL, verl, EasyR1 or evaluation, and a report of the rows that were left out. One row group is held
in memory at a time.

Needs the extra ``eval`` (Pillow, pycocotools and `datasets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rankreward.datasets import layouts
from rankreward.datasets.checks import Report, problems_of
from rankreward.datasets.layouts import Columns, Layout
from rankreward.datasets.rows import Row
from rankreward.datasets.shards import Shard, origin_of, seal, shard_path, standing, write_shard
from rankreward.errors import InputError
from rankreward.recipe import Recipe

_VERSION = 2  # of what is written; outputs of another are not used again


@dataclass(frozen=True)
class Built:
    """A data set that stands.

    Attributes:
        paths: its shards, in order.
        rows: how many rows they hold.
        reused: whether nothing had to be written.
        report: what was left out and why, also where an earlier run had found it.
    """

    paths: tuple[Path, ...]
    rows: int
    reused: bool
    report: Report


@dataclass(frozen=True)
class _Job:
    """What all shards of a build share."""

    layout: Layout
    recipe: Recipe | None
    split: str
    strata: tuple[str, ...]
    quality: int | None
    data_source: str
    needs_query: bool


def build(
    rows: Iterable[Row],
    out: str | Path,
    *,
    layout: Layout,
    origin: str,
    recipe: str | Recipe | None = None,
    split: str = "train",
    strata: Sequence[str] = ("category", "size", "count"),
    quality: int | None = None,
    data_source: str = "rankreward",
    needs_query: bool = True,
    shard_rows: int = 2048,
    report: Report | None = None,
    progress: Callable[[Iterable[Row]], Iterable[Row]] = iter,
) -> Built:
    """Check rows and write them, or find them written.

    Args:
        rows: of a reader, the same ones in the same order for the same origin.
        out: the folder that the shards go to, made if need be.
        layout: one of `rankreward.datasets.layouts.LAYOUTS`.
        origin: what the rows were made from and how, by `rankreward.datasets.shards.origin_of`;
            the settings of this call are added to it.
        recipe: the recipe that will score answers; only evaluation goes without.
        split: the shards' name, and the split that verl and EasyR1 are told of.
        strata: which strata get a column for evaluation.
        quality: as for `rankreward.datasets.layouts.to_training`.
        data_source: the name that verl is told of.
        needs_query: whether a row without a query is left out.
        shard_rows: rows of the source that go into one shard; what a broken run has to do again.
        report: takes what is wrong with rows, which are then left out; a strict one raises.
        progress: wraps the loop over rows, as `tqdm.tqdm` does.

    Returns:
        What stands. Rows that were checked by an earlier run are not looked at again; its
        findings are in the report.

    Raises:
        InputError: the folder holds another output, the report is strict and there is a problem,
            or no row is left.
        ConfigError: there is no such recipe.
    """
    report = Report() if report is None else report
    if recipe is None and layout != "eval":
        raise InputError(f"recipe: expected one for the layout {layout!r}, got None")
    if shard_rows < 1:
        raise InputError(f"shard_rows: expected at least 1, got {shard_rows}")
    if not split or not split.replace("_", "").replace("-", "").isalnum():
        raise InputError(f"split: expected letters, digits, - and _, got {split!r}")
    loaded = None if recipe is None else Recipe.load(recipe)
    if loaded is not None and loaded.response.frame is None:
        raise InputError(f"recipe {loaded.name!r}: expected one that pays objects, not texts")
    job = _Job(layout, loaded, split, tuple(strata), quality, data_source, needs_query)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    whole = _origin(origin, job, shard_rows)
    before = report.drain()  # the reader adds to it while rows are taken
    there = standing(folder, split, whole)
    if there.complete:
        shards = [there.shards[place] for place in sorted(there.shards)]
        notes = [before, there.notes]
    else:
        parts = _parts(progress(rows), shard_rows)
        shards = _write(parts, folder, there.shards, whole, job, report)
        notes = [before, *(each.notes for each in shards), report.drain()]
    for each in notes:
        report.recall(each)
    count = sum(each.rows for each in shards)
    if not count:
        raise InputError(f"build: expected at least one good row, got none; {report}")
    if not there.complete:
        seal(folder, split, whole, shards, _summed(notes[1:]))
    return Built(tuple(folder / each.name for each in shards), count, there.complete, report)


def _summed(notes: Iterable[Any]) -> Any:
    """The notes of several reports as those of one."""
    report = Report()
    for each in notes:
        report.recall(each)
    return report.drain()


def _origin(origin: str, job: _Job, shard_rows: int) -> str:
    settings = asdict(replace(job, recipe=None))
    settings["recipe"] = None if job.recipe is None else job.recipe.to_dict()
    return origin_of(version=_VERSION, origin=origin, shard_rows=shard_rows, **settings)


def _parts(rows: Iterable[Row], size: int) -> Iterator[Iterator[Row]]:
    """Rows in parts; each has to be used up before the next is asked for."""
    iterator = iter(rows)
    for first in iterator:
        yield chain([first], islice(iterator, size - 1))


def _write(
    parts: Iterable[Iterator[Row]],
    folder: Path,
    found: Mapping[int, Shard],
    origin: str,
    job: _Job,
    report: Report,
) -> list[Shard]:
    """Write the shards that do not stand yet."""
    columns, seen, shards = layouts.features(job.layout, job.strata), set[str](), list[Shard]()
    for place, part in enumerate(parts):
        if place in found:
            seen.update(row.id for row in part)
            report.drain()  # the shard knows it already
            shards.append(found[place])
            continue
        index = sum(each.rows for each in shards)
        good = _good(part, job, seen, report, index)
        path = shard_path(folder, job.split, place)
        shards.append(write_shard(path, good, columns, origin, report.drain))
    return shards


def _good(
    rows: Iterable[Row], job: _Job, seen: set[str], report: Report, index: int
) -> Iterator[Columns]:
    """The columns of the rows that nothing is wrong with."""
    for row in rows:
        wrong = problems_of(row, job.recipe, seen=seen, needs_query=job.needs_query)
        for problem in wrong:
            report.add(problem)
        if not wrong:
            yield _columns(row, job, index)
            index += 1


def _columns(row: Row, job: _Job, index: int) -> Columns:
    """A row in the job's layout."""
    if job.recipe is None or job.layout == "eval":
        return layouts.to_eval(row, job.strata)
    made = layouts.to_training(row, job.recipe, quality=job.quality)
    match job.layout:
        case "trl":
            return layouts.to_trl(made, job.recipe)
        case "verl":
            return layouts.to_verl(
                made, job.recipe, split=job.split, index=index, data_source=job.data_source
            )
        case "easyr1":
            return layouts.to_easyr1(made, job.recipe, split=job.split)
    return made
