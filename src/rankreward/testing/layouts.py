"""Layouts: how answers and references are written for the reward under test.

Goes in: a recipe, or the name of a schema. Comes out: a `Layout`, which writes objects as a
completion and as a reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from rankreward.errors import InputError
from rankreward.explain import nearest
from rankreward.kinds import SchemaName
from rankreward.parsing import SCHEMAS, Schema
from rankreward.recipe import Recipe, recipes
from rankreward.rewards.references import needs_masks

Answer = list[dict[str, Any]] | str
"""What an answer says: objects, by the keys of the schema, or a text where answers are texts."""
ReferenceForm = Literal["json", "data", "tagged"]
SIDE = 840  # pixels; the frame where only a schema is given
SMALLEST = 12  # pixels of a frame's side: three boxes of the least size fit beside each other
THOUGHT = "I compare."


@dataclass(frozen=True, eq=False)
class Layout:
    """How answers and references are written.

    Objects are mappings by the keys of the schema. The tags of ``prompt_tags`` have none; there
    an object is ``{"bbox": [x1, y1, x2, y2], "point": [x, y]}``.

    Attributes:
        schema: the layout of a completion.
        frame: width and height in which boxes and points are written; pixels or a grid.
        think: whether a think block comes first.
        keyword: the tag inside the think block, or None.
        masked: whether references are masks; they are those of the filled boxes.
        grouped: whether a reward looks at the other answers to the same question.
        references: how a reference is written: ``json``, the text; ``data``, what it stands for;
            ``tagged``, the text of the Seg-Zero data; or a function that is given the objects.
        recipe: the recipe that this is the layout of, or None.
        thought: the reasoning of a well-formed completion.
    """

    schema: Schema
    frame: tuple[int, int] = (SIDE, SIDE)
    think: bool = True
    keyword: str | None = None
    masked: bool = False
    grouped: bool = False
    references: ReferenceForm | Callable[[Any], Any] = "json"
    recipe: Recipe | None = None
    thought: str = THOUGHT

    @classmethod
    def of(
        cls,
        source: Any,
        *,
        frame: tuple[int, int] | None = None,
        references: ReferenceForm | Callable[[Any], Any] | None = None,
        thought: str | None = None,
    ) -> Layout:
        """The layout of a recipe, or of a schema.

        Args:
            source: the name of a schema (see `rankreward.parsing.SCHEMAS`), what
                `rankreward.Scorer` takes as a recipe, or a layout, which is returned as it is.
            frame: for a schema: width and height of the frame; 840 x 840 unless given.
            references: see `Layout`; as the recipe reads them unless given.
            thought: the reasoning of a well-formed completion; "I compare." unless given.

        Raises:
            InputError: there is no such schema or recipe, a frame was given with a recipe, or an
                argument is not what it should be.
            ConfigError: the recipe cannot be understood.

        Example:
            >>> from rankreward.testing import Layout
            >>> layout = Layout.of("boxes", frame=(100, 100))
            >>> print(layout.text([{"bbox_2d": [10, 10, 30, 30]}]))
            <think>I compare.</think><answer>[{"bbox_2d": [10, 10, 30, 30]}]</answer>
            >>> layout.reference([])
            '[]'
        """
        _check(frame, references, thought)
        layout = cls._made(source, frame, references)
        return layout if thought is None else replace(layout, thought=thought)

    @classmethod
    def _made(cls, source: Any, frame: tuple[int, int] | None, references: Any) -> Layout:
        if isinstance(source, Layout):
            return source
        schemas = get_args(SchemaName)
        if isinstance(source, str) and source in schemas:
            schema = SCHEMAS[source]  # type: ignore[index]
            return cls(schema, frame or (SIDE, SIDE), references=references or "json")
        if isinstance(source, str) and not source.endswith((".yaml", ".yml")):
            known = [*schemas, *recipes()]
            if source not in known:
                raise InputError(f"no schema or recipe {source!r}: {nearest(source, known)}")
        if frame is not None:
            raise InputError("frame: a recipe has its own, see Recipe.resized")
        return cls._of_recipe(Recipe.load(source), references)

    @classmethod
    def _of_recipe(cls, recipe: Recipe, references: Any) -> Layout:
        response, schema = recipe.response, SCHEMAS[recipe.response.schema_]
        frame = response.frame
        tagged = recipe.released and schema.form == "object"
        return cls(
            schema=schema,
            frame=(SIDE, SIDE) if frame is None else (frame.width, frame.height),
            think=response.think,
            keyword=response.keyword,
            masked=needs_masks(recipe),
            grouped=recipe.needs_groups,
            references=references or ("tagged" if tagged else "json"),
            recipe=recipe,
        )

    @property
    def textual(self) -> bool:
        """Whether answers are texts, not objects."""
        return self.schema.form == "text"

    @property
    def many(self) -> bool:
        """Whether an answer may have several objects."""
        return self.schema.form in {"list", "tags"}

    @property
    def may_be_empty(self) -> bool:
        """Whether an answer can say that there is nothing to find."""
        return self.schema.form == "list"

    @property
    def boxed(self) -> bool:
        """Whether objects have boxes."""
        return self.schema.box is not None or self.schema.form == "tags"

    @property
    def step(self) -> int:
        """The unit of coordinates: where masks are compared, a pixel of their images."""
        width, height = self.frame
        whole = [
            s for s in range(max(width, height) // 100, 20) if s and not (width % s + height % s)
        ]
        return whole[0] if self.masked and whole else 1

    def text(self, answer: Answer, thought: str | None = None) -> str:
        """A well-formed completion that gives this answer.

        Args:
            answer: the objects, or the text.
            thought: what stands in the think block, if there is one; the layout's unless given.
        """
        written = self.written(answer)
        if self.schema.form != "tags":
            written = f"<answer>{written}</answer>"
        caption = "<caption>the left one</caption>" if "caption" in self.schema.blocks else ""
        return f"{self.thinking(thought)}{written}{caption}"

    def thinking(self, thought: str | None = None) -> str:
        """The think block around a thought; the thought alone where there is no such block."""
        thought = self.thought if thought is None else thought
        if not self.think:
            return "" if thought.strip() == self.thought.strip() else thought
        look = f" <{self.keyword}>it</{self.keyword}>" if self.keyword else ""
        return f"<think>{thought}{look}</think>"

    def written(self, answer: Answer) -> str:
        """The answer alone, as it stands in its block."""
        if isinstance(answer, str):
            return answer
        if self.schema.form == "tags":
            tags = "".join(f"<bbox>{json.dumps(each['bbox'])}</bbox>" for each in answer)
            places = json.dumps([each["point"] for each in answer])
            return f"{tags}<points>{places}</points><labels>{[1] * len(answer)}</labels>"
        return json.dumps(answer if self.many or not answer else answer[0])

    def reference(self, answer: Answer) -> Any:
        """The reference that these objects, or this text, are right for."""
        if callable(self.references):
            return self.references(answer)
        if isinstance(answer, str):
            return answer
        if self.references == "tagged":
            return _tagged(answer[0], self.schema)
        objects: Any = answer if self.many or not answer else answer[0]
        if self.masked:
            boxed = {} if self.schema.form == "tags" else {"objects": objects}
            objects = {"mask": self._run_lengths(answer), **boxed}
        return objects if self.references == "data" else json.dumps(objects)

    def box(self, entry: dict[str, Any]) -> list[int]:
        """The box of an object."""
        found: list[int] = entry[self.schema.box or "bbox"]
        return found

    def _run_lengths(self, answer: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The mask of the filled boxes, as COCO's run lengths."""
        width, height = (side // self.step for side in self.frame)
        mask = np.zeros((height, width), dtype=np.int8)
        for entry in answer:
            x1, y1, x2, y2 = (value // self.step for value in self.box(entry))
            mask[y1:y2, x1:x2] = 1
        column = mask.T.ravel()
        turns = np.flatnonzero(np.diff(np.concatenate([[0], column])))
        runs = np.diff(np.concatenate([[0], turns, [len(column)]]))
        return {"size": [height, width], "counts": runs.tolist()}


def _check(frame: Any, references: Any, thought: Any) -> None:
    """Refuse what no layout can be made of.

    Raises:
        InputError: says what was expected.
    """
    if frame is not None and not _is_frame(frame):
        raise InputError(
            f"frame: expected width and height, whole numbers from {SMALLEST}, got {frame!r:.60}"
        )
    forms = get_args(ReferenceForm)
    if references is not None and not callable(references) and references not in forms:
        known = ", ".join(forms)
        raise InputError(f"references: expected {known} or a function, got {references!r:.60}")
    if thought is not None and (not isinstance(thought, str) or "<" in thought):
        raise InputError(f"thought: expected a text without tags, got {thought!r:.60}")


def _is_frame(given: Any) -> bool:
    sides = given if isinstance(given, list | tuple) and len(given) == 2 else ["none"]
    return all(isinstance(v, int) and not isinstance(v, bool) and v >= SMALLEST for v in sides)


def _tagged(entry: dict[str, Any], schema: Schema) -> str:
    x1, y1, x2, y2 = entry[schema.box or "bbox"]
    (a, b), (c, d) = (entry[key] for key in schema.points)
    return f"<box>({x1},{y1}),({x2},{y2})</box><points>({a},{b}),({c},{d})</points>"
