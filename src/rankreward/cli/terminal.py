"""What the commands share on the terminal: progress, tables, and JSON for scripts."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rankreward.errors import require

Item = TypeVar("Item")


def progress(what: str, total: int | None = None) -> Callable[[Iterable[Item]], Iterable[Item]]:
    """A progress bar on standard error, which leaves standard output to the results."""
    console = require("rich.console", extra="cli").Console(stderr=True)
    track = require("rich.progress", extra="cli").track

    def wrap(items: Iterable[Item]) -> Iterable[Item]:
        length = len(items) if total is None and isinstance(items, Sequence) else total
        found: Iterable[Item] = track(items, what, total=length, console=console)
        return found

    return wrap


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on standard output; the first column is text, the others are numbers."""
    text = require("rich.text", extra="cli").Text  # names from data are no markup
    table = require("rich.table", extra="cli").Table(title=text(title) if title else None)
    for place, name in enumerate(columns):
        table.add_column(text(name), justify="right" if place else "left")
    for row in rows:
        table.add_row(*(text(_cell(value)) for value in row))
    require("rich.console", extra="cli").Console().print(table)


def show_json(result: Mapping[str, Any]) -> None:
    """A result for a script, on standard output."""
    print(json.dumps(result, indent=1, default=str))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
