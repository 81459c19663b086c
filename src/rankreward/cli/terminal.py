"""What the commands share on the terminal: help, progress, tables, JSON for scripts, and Ctrl-C."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from rankreward.errors import InputError, require

Item = TypeVar("Item")

_WIDE = 10_000  # columns of what is no terminal: a table in a pipe or a file is never cut
_CODES = (
    "0 done; 1 a failure, such as a file that is not there, in one line; "
    "2 wrong usage, such as an unknown option; 130 stopped by Ctrl-C."
)


def closing(*examples: str, writes: str, note: str = "") -> str:
    """What a command's help ends with.

    Args:
        examples: whole commands, each of which runs; a long one has a backslash at a line's end.
        writes: which files it writes.
        note: what else is to be known.
    """
    lines = "\n".join("  $ " + example.replace("\n", "\n      ") for example in examples)
    more = f"\n\n{note}" if note else ""
    # The sign \b keeps the lines of a paragraph apart.
    return f"\b\nExamples:\n{lines}\n\nWrites: {writes}.\n\nExit status: {_CODES}{more}"


def there(_ctx: Any, parameter: Any, value: Any) -> Any:
    """Check files and folders that are read before the command begins, as a parameter's callback.

    Typer's own check would call a file that is not there wrong usage.

    Raises:
        InputError: one is not there.
    """
    for path in value if isinstance(value, list | tuple) else [value]:
        if path is not None and not Path(path).exists():
            raise InputError(f"{_named(parameter)}: expected a path that is there, got {path}")
    return value


def folder_there(_ctx: Any, parameter: Any, value: Any) -> Any:
    """The same for a folder.

    Raises:
        InputError: there is none.
    """
    if value is not None and not Path(value).is_dir():
        raise InputError(f"{_named(parameter)}: expected a folder that is there, got {value}")
    return value


def finite(value: float) -> float:
    """Check a number, as a parameter's callback: to a range, infinity and NaN can be inside.

    Raises:
        BadParameter: it is not finite.
    """
    import typer

    if not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}")
    return value


def _named(parameter: Any) -> str:
    """A parameter by the name under which its help has it."""
    name: str = parameter.opts[0]
    return name if name.startswith("-") else name.upper()


@contextmanager
def stopping(left: str) -> Iterator[None]:
    """Ctrl-C ends the command with 130, and with one line that says what is left.

    Args:
        left: what has been kept, and how to go on.
    """
    import typer

    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"rankreward: stopped; {left}", err=True)
        raise typer.Exit(130) from None


def progress(what: str, total: int | None = None) -> Callable[[Iterable[Item]], Iterable[Item]]:
    """A progress bar on standard error, which leaves standard output to the results."""
    console = require("rich.console", extra="cli").Console(stderr=True)
    track = require("rich.progress", extra="cli").track

    def wrap(items: Iterable[Item]) -> Iterable[Item]:
        length = len(items) if total is None and isinstance(items, Sequence) else total
        found: Iterable[Item] = track(
            items, what, total=length, console=console, disable=not console.is_terminal
        )
        return found

    return wrap


class ByteBar:
    """A bar of the bytes read, on standard error, and lines above it."""

    def __init__(self, what: str, total: int) -> None:
        rich: Any = require("rich.progress", extra="cli")
        console = require("rich.console", extra="cli").Console(stderr=True)
        columns = (*rich.Progress.get_default_columns(), rich.TimeElapsedColumn())
        self._bar: Any = rich.Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance_to(self, done: int) -> None:
        """So many bytes have been read."""
        self._bar.update(self._task, completed=done)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on standard output: texts to the left, numbers to the right."""
    text = require("rich.text", extra="cli").Text  # names from data are no markup
    table = require("rich.table", extra="cli").Table(title=text(title) if title else None)
    lines = list(rows)
    for place, name in enumerate(columns):
        words = all(isinstance(row[place], str) for row in lines)
        table.add_column(text(name), justify="left" if words else "right")
    for row in lines:
        table.add_row(*(text(_cell(value)) for value in row))
    print_table(table)


def print_table(table: Any) -> None:
    """A `rich.table.Table` on standard output, whole: long cells are folded, never cut."""
    console = require("rich.console", extra="cli").Console()
    if not console.is_terminal:
        console.width = _WIDE
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)


def show_json(result: Mapping[str, Any]) -> None:
    """A result for a script, on standard output: one document, null where there is no number."""
    print(json.dumps(_plain(result), indent=1, allow_nan=False, default=_other))


def _plain(value: Any) -> Any:
    """The value as JSON has it: it knows neither NaN nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _other(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, and everything else as its text."""
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
