"""Look at a data set: pictures and distributions.

Goes in: rows. Comes out: an `Inspection`, with the numbers and one sheet of pictures with their
boxes, points and mask outlines; and bars of the numbers on axes that the caller gives.

Needs the extra ``eval`` (Pillow), and ``report`` (matplotlib) to plot.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rankreward.datasets.rows import Row, decode_mask, open_image
from rankreward.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOX, POINT, MASK, IGNORED = (44, 160, 44), (214, 39, 40), (255, 127, 14), (150, 150, 150)
_TEXT = 40  # pixels of a tile that the query has


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a data set holds.

    Attributes:
        objects: (n,) int64, objects a row.
        shares: (m,) float64, of the image's area that each of all boxes covers, in [0, 1].
        strata: how many rows there are of each value, for each stratum's name.
        sheet: a PIL.Image of some rows, drawn by chance.
    """

    objects: NDArray[np.int64]
    shares: NDArray[np.float64]
    strata: Mapping[str, Mapping[str, int]]
    sheet: Any

    def numbers(self) -> dict[str, float]:
        """The distributions in short; NaN where there is no box."""
        shares = self.shares if len(self.shares) else np.array([np.nan])
        return {
            "rows": len(self.objects),
            "no-target rows": int((self.objects == 0).sum()),
            "objects": int(self.objects.sum()),
            "objects a row, mean": float(self.objects.mean()),
            "objects a row, most": int(self.objects.max()),
            "box area share, median": float(np.median(shares)),
            "box area share, 5%": float(np.percentile(shares, 5)),
            "box area share, 95%": float(np.percentile(shares, 95)),
        }


def inspect(
    rows: Iterable[Row],
    *,
    show: int = 16,
    columns: int = 4,
    tile: int = 320,
    seed: int = 0,
    progress: Callable[[Iterable[Row]], Iterable[Row]] = iter,
) -> Inspection:
    """Count what rows hold, and draw some of them.

    Args:
        rows: the rows, taken one at a time.
        show: how many to draw at most, each row as likely as any other.
        columns: of the sheet.
        tile: the side of a picture on the sheet, in pixels, at least 64.
        seed: of the choice.
        progress: wraps the loop over rows, as `tqdm.tqdm` does.

    Raises:
        InputError: there is no row, or one to be drawn cannot be read.
    """
    if min(show, columns) < 1:
        raise InputError(f"show, columns: expected at least 1, got {show} and {columns}")
    generator, chosen = np.random.default_rng(seed), list[Row]()
    objects, shares = list[int](), list[NDArray[np.float64]]()
    strata: dict[str, Counter[str]] = {}
    for place, row in enumerate(progress(rows)):
        objects.append(len(row))
        sides = row.boxes[:, 2:] - row.boxes[:, :2]
        shares.append(sides.prod(axis=1) / (row.width * row.height))
        for name, value in row.strata.items():
            strata.setdefault(name, Counter())[value] += 1
        # A reservoir: whatever the number of rows, each is kept with the same chance.
        slot = place if place < show else int(generator.integers(place + 1))
        if slot < show:
            chosen[slot : slot + 1] = [row]
    if not objects:
        raise InputError("rows: expected at least one to inspect, got none")
    sheet = contact_sheet(chosen, columns=columns, tile=tile)
    return Inspection(np.array(objects), np.concatenate(shares), strata, sheet)


def contact_sheet(rows: Sequence[Row], *, columns: int = 4, tile: int = 320) -> Any:
    """Rows side by side: the query, and the image with its boxes, points and mask outlines.

    Boxes are green, points red, masks outlined in orange, pixels to ignore and void
    ones in grey.

    Args:
        rows: at least one.
        columns: pictures a line, at least 1.
        tile: the side of a picture in pixels, at least 64.

    Returns:
        A PIL.Image of mode RGB.

    Raises:
        InputError: an argument is out of its range, or a row's image or mask cannot be read.
    """
    if not rows or columns < 1 or tile < 64:
        raise InputError(
            "contact_sheet: expected rows, columns >= 1 and tile >= 64, "
            f"got {len(rows)} rows, {columns} and {tile}"
        )
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    pil = require("PIL.Image", extra="eval")
    sheet = pil.new("RGB", (columns * tile, lines * (tile + _TEXT)), "white")
    for place, row in enumerate(rows):
        line, column = divmod(place, columns)
        _draw(sheet, row, column * tile, line * (tile + _TEXT), tile)
    return sheet


def plot_distributions(
    axes: Sequence[Axes], inspection: Inspection, stratum: str | None = None
) -> None:
    """Draw objects a row, box area shares and one stratum.

    Args:
        axes: three axes, or two without a stratum.
        inspection: of `inspect`.
        stratum: the name of the stratum whose values are counted, most frequent first, 20 at most.

    Raises:
        InputError: there are fewer axes, or no such stratum.
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", extra="report")
    need = 2 if stratum is None else 3
    if len(axes) < need or (stratum is not None and stratum not in inspection.strata):
        raise InputError(
            f"plot_distributions: expected {need} axes and a stratum of "
            f"{', '.join(inspection.strata) or 'none'}, got {len(axes)} and {stratum!r}"
        )
    counts = np.bincount(inspection.objects)
    axes[0].bar(np.arange(len(counts)), counts)
    axes[0].set_xlabel("objects a row")
    axes[0].set_ylabel("rows")
    if len(inspection.shares):
        axes[1].hist(np.sqrt(inspection.shares), bins=20, range=(0.0, 1.0))
    axes[1].set_xlabel("square root of box area / image area")
    axes[1].set_ylabel("boxes")
    if stratum is not None:
        most = sorted(inspection.strata[stratum].items(), key=lambda item: (-item[1], item[0]))[:20]
        axes[2].barh([name for name, _ in most], [count for _, count in most])
        axes[2].invert_yaxis()
        axes[2].set_xlabel("rows")
        axes[2].set_ylabel(stratum)


def _draw(sheet: Any, row: Row, left: int, top: int, tile: int) -> None:
    """Put one row on the sheet."""
    pil, draws = require("PIL.Image", extra="eval"), require("PIL.ImageDraw", extra="eval")
    scale = min(tile / row.width, tile / row.height)
    size = max(round(row.width * scale), 1), max(round(row.height * scale), 1)
    picture = open_image(row).resize(size, pil.Resampling.BILINEAR)
    for rle, colour in ((row.void, IGNORED), (row.ignore, IGNORED), (row.mask, MASK)):
        if rle is not None:
            _outline(picture, decode_mask(rle, f"row {row.id}"), colour)
    pen = draws.Draw(picture)
    for box, points in zip(row.boxes * scale, row.points * scale, strict=True):
        corners = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
        pen.rectangle(corners.tolist(), outline=BOX, width=2)
        for x, y in points.tolist():
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=POINT, outline="white")
    sheet.paste(picture, (left, top + _TEXT))
    text = textwrap.shorten(f"{row.id}: {row.query or '(no query)'}", 110, placeholder=" ...")
    lines = textwrap.wrap(text, max(tile // 7, 8))[:3]
    font = require("PIL.ImageFont", extra="eval").load_default(11)
    draws.Draw(sheet).multiline_text(
        (left + 3, top + 1), "\n".join(lines), "black", font, spacing=1
    )


def _outline(picture: Any, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Paint a mask's rim, two pixels wide, on a picture of any size."""
    pil = require("PIL.Image", extra="eval")
    small = np.asarray(pil.fromarray(mask).resize(picture.size, pil.Resampling.NEAREST), dtype=bool)
    rim = small & ~ndimage.binary_erosion(small, iterations=2)
    picture.paste(colour, mask=pil.fromarray(rim))
