"""Referring expressions in the style of RefCOCO and gRefCOCO.

Goes in: a JSON list of references (``ref_id``, ``ann_id`` or ``ann_ids``, ``image_id``,
``sentences``, ``split``), the instances file that they name annotations of, and the images. Comes
out: a `Row` for each sentence; a reference without annotations, as gRefCOCO has them, is a row of
which K is 0. The pickles that RefCOCO is published as are not read: unpickling a file runs whatever
code it holds.

Needs the extra ``eval`` (pycocotools).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rankreward.datasets.checks import Report, note
from rankreward.datasets.coco import load_json
from rankreward.datasets.geometry import Second
from rankreward.datasets.pictures import Instance, Picture, row_of
from rankreward.datasets.rows import Row
from rankreward.errors import InputError

_PICKLES = (".p", ".pkl", ".pickle")


@dataclass(frozen=True)
class Expression:
    """One reference.

    Attributes:
        id: its ``ref_id``.
        image: the id of its image.
        instances: ids of the annotations it is about; none if there is nothing to find.
        sentences: the texts that describe them.
        split: the part of the data set it belongs to.
    """

    id: str
    image: str
    instances: tuple[str, ...]
    sentences: tuple[str, ...]
    split: str


def read_expressions(source: str | Path | Sequence[Mapping[str, Any]]) -> list[Expression]:
    """The references of a file.

    Args:
        source: path of the JSON, or the list it holds. ``ann_ids`` empty, ``ann_id`` -1 or [-1],
            and ``no_target`` true mean that there is nothing to find. A sentence is a text, or a
            mapping with ``sent`` or ``raw``.

    Raises:
        InputError: the file is a pickle, no JSON, or a reference lacks a part.
    """
    if isinstance(source, str | Path):
        _refuse_pickle(Path(source))
    data = load_json(source)
    if not isinstance(data, list):
        raise InputError(f"references: expected a JSON list, got {type(data).__name__}")
    return [_expression(entry, place) for place, entry in enumerate(data)]


def refer_rows(
    expressions: Iterable[Expression],
    pictures: Iterable[Picture],
    *,
    split: str | None = None,
    sentences: Literal["all", "first"] = "all",
    inclusive: bool = True,
    points: int = 1,
    second: Second = "median",
    report: Report | None = None,
    progress: Callable[[Iterable[Expression]], Iterable[Expression]] = iter,
) -> Iterator[Row]:
    """Rows of referring expressions.

    Args:
        expressions: of `read_expressions`.
        pictures: of `rankreward.datasets.coco.read_instances`.
        split: only the references of this split; all unless given, and all where no reference
            has a split.
        sentences: a row for each sentence of a reference, or for its first alone.
        inclusive: see `rankreward.datasets.geometry.box_of`.
        points: points an object, 1 or 2.
        second: see `rankreward.datasets.geometry.interior_points`.
        report: as for `rankreward.datasets.pictures.rows_of`.
        progress: wraps the loop over references, as `tqdm.tqdm` does.

    Yields:
        One `Row` at a time, named by ``ref_id`` and the sentence's place, with the strata
        ``category`` ("none" where there is nothing to find), ``split``, ``size`` and ``count``.
        A crowd annotation that a reference names is an object like any other.

    Raises:
        InputError: there is no reference of that split; or a reference names an image or
            annotation that the instances file lacks, or one that cannot be read, and there is no
            report.
    """
    known = {picture.id: picture for picture in pictures}
    every = list(expressions)
    told_apart = any(each.split for each in every)
    chosen = [each for each in every if not told_apart or split in (None, each.split)]
    if not chosen:
        raise InputError(f"split: expected one that references have, got {split!r}")
    how = {"inclusive": inclusive, "points": points, "second": second}
    for each in progress(chosen):
        try:
            row = _row(each, known, how)
        except InputError as error:
            note(report, each.id, "reference", str(error))
            continue
        taken = each.sentences if sentences == "all" else each.sentences[:1]
        for place, sentence in enumerate(taken):
            yield replace(row, id=f"{each.id}_{place}", query=sentence)


def _row(each: Expression, known: Mapping[str, Picture], how: Mapping[str, Any]) -> Row:
    """The row of a reference, before it is asked in words."""
    if each.image not in known:
        raise InputError(f"reference {each.id}: no image {each.image} in the instances file")
    picture = known[each.image]
    held = {instance.id: instance for instance in picture.instances}
    lacks = [name for name in each.instances if name not in held]
    if lacks:
        raise InputError(f"reference {each.id}: image {each.image} has no annotation {lacks[0]}")
    found: list[Instance] = [held[name] for name in each.instances]
    category = "+".join(sorted({instance.category for instance in found})) or "none"
    return row_of(
        picture, each.id, found, "", crowd="object", category=category, split=each.split, **how
    )


def _expression(entry: Any, place: int) -> Expression:
    try:
        texts = tuple(_sentence(each) for each in entry["sentences"])
        name, image = str(entry["ref_id"]), str(entry["image_id"])
        listed = entry["ann_ids"] if "ann_ids" in entry else entry["ann_id"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"references[{place}]: expected a mapping of ref_id, ann_id or ann_ids, image_id and "
            f"sentences, got {entry!r:.80} ({error!r})"
        ) from error
    if not texts:
        raise InputError(f"references[{place}]: expected at least one sentence, got none")
    several = listed if isinstance(listed, list) else [listed]
    found = () if entry.get("no_target") else tuple(str(each) for each in several if each != -1)
    return Expression(name, image, found, texts, str(entry.get("split", "")))


def _sentence(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value["sent"] if "sent" in value else value["raw"]
    if not isinstance(value, str):
        raise TypeError(f"expected a sentence, got {value!r:.40}")
    return value.strip()


def _refuse_pickle(path: Path) -> None:
    try:
        with path.open("rb") as opened:
            begins = opened.read(1)
    except OSError as error:
        raise InputError(f"{path}: expected a JSON file, got {error}") from error
    if path.suffix in _PICKLES or begins == b"\x80":
        raise InputError(
            f"{path}: expected JSON, got a pickle, which runs code when it is read. If you trust "
            "where it comes from, convert it on your own machine:\n"
            '    python -c "import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], '
            f"'rb')), open(sys.argv[2], 'w'))\" '{path.name}' refs.json"
        )
