"""The images of a log.

Goes in: what the column ``images`` or ``image`` holds: a path inside the folder of the log's file;
the bytes of an image file; a mapping with either; or a list of one of these. Comes out: a PIL
image. A log is data from outside: it opens no file elsewhere, starts no program, and takes bounded
memory.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankreward.errors import require
from rankreward.logs.records import IMAGES
from rankreward.logs.rows import BadRow, LogRow

_KEPT = 16  # images; the rollouts of a group share theirs
_PIXELS = 1 << 26  # of an image, and of all that are kept
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


class Pictures:
    """Opens images, each once for neighbours that share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))
        self._pillow: Any = require("PIL.Image", extra="eval")
        self._open: OrderedDict[str | bytes, Any] = OrderedDict()
        self._pixels = 0  # of those

    def add(self, row: LogRow) -> LogRow | BadRow:
        """The row with its image, if it has one, or why it cannot be opened."""
        given = next((row.columns[each] for each in IMAGES if row.columns.get(each)), None)
        if given is None:
            return row
        try:
            return replace(row, image=self._image(given))
        except (OSError, ValueError, SyntaxError, self._pillow.DecompressionBombError) as error:
            return BadRow(row.place, f"expected an image that can be opened, got {error!s:.200}")

    def _image(self, given: Any) -> Any:
        if isinstance(given, list) and len(given) == 1:
            given = given[0]
        if isinstance(given, Mapping):
            given = given.get("bytes") or given.get("path")
        if not isinstance(given, str | bytes):
            raise ValueError(f"{type(given).__name__} in place of a path or bytes")  # noqa: TRY004 - data
        if given not in self._open:
            self._open[given] = image = self._read(given)
            self._pixels += image.width * image.height
            while len(self._open) > _KEPT or (self._pixels > _PIXELS and len(self._open) > 1):
                oldest = self._open.popitem(last=False)[1]
                self._pixels -= oldest.width * oldest.height
        return self._open[given]

    def _read(self, given: str | bytes) -> Any:
        source = io.BytesIO(given) if isinstance(given, bytes) else self._inside(given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._pillow.DecompressionBombWarning)  # ours is lower
            opened = self._pillow.open(source, formats=_FORMATS)
        with opened as image:
            if image.width * image.height > _PIXELS:
                raise ValueError(
                    f"one of {image.width} x {image.height} pixels, more than {_PIXELS}"
                )
            image.load()
            return image

    def _inside(self, given: str) -> Path:
        path = Path(os.path.realpath(self._folder / given))
        if not path.is_relative_to(self._folder):
            raise ValueError(f"{given!r}, which lies outside the log's folder")
        if path.exists() and not path.is_file():
            raise ValueError(f"{given!r}, which is no regular file")
        return path
