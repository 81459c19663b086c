"""Tables of results as text.

Goes in: a header and rows of plain values. Comes out: CSV, Markdown, or a table for the terminal.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rankreward.errors import require


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: what it shows.
        header: the columns' names.
        rows: their values: texts, whole numbers, and other numbers, NaN where there is none.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def csv(self) -> str:
        """The table as CSV, numbers in full; an empty field for NaN.

        Example:
            >>> print(Sheet("", ("a", "b"), (("x", math.nan),)).csv(), end="")
            a,b
            x,
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows([["" if _absent(value) else value for value in row] for row in self.rows])
        return text.getvalue()

    def markdown(self) -> str:
        """The table as Markdown, numbers to four places.

        Example:
            >>> print(Sheet("", ("a", "b"), (("x", 0.25),)).markdown(), end="")
            | a | b |
            |:--|--:|
            | x | 0.2500 |
        """
        rules = [":--" if self._is_text(place) else "--:" for place in range(len(self.header))]
        lines = [_line(self.header), "|" + "|".join(rules) + "|"]
        lines += [_line([_shown(value) for value in row]) for row in self.rows]
        return "\n".join(lines) + "\n"

    def rich(self) -> Any:
        """The table as a `rich.table.Table`.

        Raises:
            MissingExtraError: rich is not installed.
        """
        table: Any = require("rich.table", extra="cli")
        text: Any = require("rich.text", extra="cli").Text  # names from data are no markup
        made = table.Table(title=text(self.title))
        for place, name in enumerate(self.header):
            made.add_column(text(name), justify="left" if self._is_text(place) else "right")
        for row in self.rows:
            made.add_row(*(text(_shown(value)) for value in row))
        return made

    def _is_text(self, place: int) -> bool:
        return any(isinstance(row[place], str) for row in self.rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> str:
    if _absent(value):
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
