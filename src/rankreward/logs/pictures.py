"""The images of a log.

Goes in: what the column ``images`` or ``image`` holds: a path, relative to the log's file; the
bytes of an image file; a mapping with either; or a list of one of these. Comes out: a PIL image.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankreward.errors import require
from rankreward.logs.records import IMAGES
from rankreward.logs.rows import BadRow, LogRow

_KEPT = 16  # images; the rollouts of a group share theirs


class Pictures:
    """Opens images, each once for neighbours that share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pillow: Any = require("PIL.Image", extra="eval")
        self._open: OrderedDict[str | bytes, Any] = OrderedDict()

    def add(self, row: LogRow) -> LogRow | BadRow:
        """The row with its image, if it has one, or why it cannot be opened."""
        given = next((row.columns[each] for each in IMAGES if row.columns.get(each)), None)
        if given is None:
            return row
        try:
            return replace(row, image=self._image(given))
        except (OSError, ValueError, SyntaxError, self._pillow.DecompressionBombError) as error:
            return BadRow(row.place, f"expected an image that can be opened, got {error}")

    def _image(self, given: Any) -> Any:
        if isinstance(given, list) and len(given) == 1:
            given = given[0]
        if isinstance(given, Mapping):
            given = given.get("bytes") or given.get("path")
        if not isinstance(given, str | bytes):
            raise ValueError(f"{type(given).__name__} in place of a path or bytes")  # noqa: TRY004 - data
        if given not in self._open:
            self._open[given] = self._read(given)
            if len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return self._open[given]

    def _read(self, given: str | bytes) -> Any:
        source = io.BytesIO(given) if isinstance(given, bytes) else self._folder / given
        with self._pillow.open(source) as image:
            image.load()
            return image
