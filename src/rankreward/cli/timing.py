"""`rankreward bench`: ranking and flushing on this machine."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rankreward.cli.terminal import closing, finite, print_table, progress, show_json, stopping
from rankreward.errors import InputError, require

if TYPE_CHECKING:
    import typer

    from rankreward.bench import Row


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer

    @commands.command(
        "bench",
        epilog=closing(
            "rankreward bench --seconds 2",
            "rankreward bench --json figures.json",
            "rankreward bench --json - > figures.json",
            writes="the FILE of --json, at the end",
        ),
    )
    def _(
        seconds: Annotated[
            float,
            typer.Option(
                min=0.1, callback=finite, help="How many seconds it takes in all, roughly."
            ),
        ] = 10.0,
        path: Annotated[
            Path | None,
            typer.Option(
                "--json",
                metavar="FILE",
                help="Where to write the figures, in seconds; - prints them, and no table.",
            ),
        ] = None,
    ) -> None:
        """Time ranking and flushing here, against NumPy."""
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            # Said now, not after the timing.
            raise InputError(f"--json: expected a file in a folder that is there, got {path}")
        with stopping("nothing was written; the same command starts anew"):
            rows = _time_all(seconds)
        if path == Path("-"):
            show_json(_record(rows))
            return
        _show(rows)
        if path is not None:
            path.write_text(json.dumps(_record(rows), indent=1) + "\n")


def _time_all(seconds: float) -> "list[Row]":
    from rankreward import bench

    return list(progress("timing", len(bench.CASES))(bench.short(seconds)))


def _show(rows: "Sequence[Row]") -> None:
    table = require("rich.table", extra="cli").Table(
        caption="ratio: how many times as long the rival takes"
    )
    for title in ("what", "ours", "rival", "ratio", "quartiles"):
        justify = "left" if title in {"what", "rival"} else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for row in rows:
        low, median, high = (f"{ratio:.1f}" for ratio in row.ratio)
        table.add_row(row.what, _time(row.ours), row.rival, f"{median}x", f"{low}-{high}")
    print_table(table)


def _time(seconds: float) -> str:
    """Seconds for a reader."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _record(rows: "Sequence[Row]") -> dict[str, Any]:
    """The figures, with what they depend on."""
    return {
        "machine": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("rankreward", "numpy", "numba")},
        },
        "rows": [{**asdict(row), "ratio": row.ratio._asdict()} for row in rows],
    }
