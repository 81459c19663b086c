"""`rankreward bench`: ranking and flushing on this machine."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rankreward import bench
from rankreward.errors import require

if TYPE_CHECKING:
    import typer


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer

    @commands.command("bench")
    def _(
        seconds: Annotated[
            float, typer.Option(min=0.1, help="How long the timing takes in all, roughly.")
        ] = 10.0,
        path: Annotated[
            Path | None,
            typer.Option(
                "--json", metavar="FILE", dir_okay=False, help="Where to write the figures."
            ),
        ] = None,
    ) -> None:
        """Time ranking and flushing on this machine, in pairs with NumPy."""
        if path is not None and not path.parent.is_dir():  # said now, not after the timing
            raise typer.BadParameter(f"there is no folder {path.parent}", param_hint="--json")
        rows = _bench(seconds)
        if path is not None:
            path.write_text(json.dumps(_record(rows), indent=1) + "\n")


def _bench(seconds: float) -> list[bench.Row]:
    console = require("rich.console", extra="cli").Console()
    track = require("rich.progress", extra="cli").track
    rows = list(track(bench.short(seconds), "timing", total=len(bench.CASES), console=console))
    table = require("rich.table", extra="cli").Table(
        caption="ratio: how many times as long the rival takes"
    )
    for title in ("what", "ours", "rival", "ratio", "quartiles"):
        justify = "left" if title in {"what", "rival"} else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for row in rows:
        low, median, high = (f"{ratio:.1f}" for ratio in row.ratio)
        table.add_row(row.what, _time(row.ours), row.rival, f"{median}x", f"{low}-{high}")
    console.print(table)
    return rows


def _time(seconds: float) -> str:
    """Seconds for a reader."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _record(rows: Sequence[bench.Row]) -> dict[str, Any]:
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
