"""Tiny data in the layout of the large: scenes of handwritten digits, 84 x 84 pixels.

Goes in: a folder. Comes out: a Parquet file with the columns of the Seg-Zero family, the recipe
fitted to such images, and a `Source` of both, so that ``--tiny`` runs every line that the real data
run. The policy that goes with it is the demo's, `examples/digits/start`.

Needs the extra ``demo`` (scikit-learn and Pillow).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import yaml
from layouts import write
from PIL import Image
from rows import Source

import rankreward as rr
from rankreward.datasets.digits import Scene, scenes

DIGITS = Path(__file__).parents[1] / "digits"
START = DIGITS / "start"  # the tiny policy's folder
SIZE = 84
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "problem": datasets.Value("string"),
        "solution": datasets.Value("string"),
        "image": datasets.Image(),
        "img_height": datasets.Value("int64"),
        "img_width": datasets.Value("int64"),
    }
)


def tiny_source(out: Path, count: int = 24, held_out: int = 4) -> Source:
    """Write digit scenes and their recipe to a folder, and say where they are."""
    data = out / "data" / "train.parquet"
    if not data.exists():
        write(_rows(count), data, FEATURES, f"digits {count}", total=count)
    recipe = out / "recipe.yaml"
    if not recipe.exists():  # or another rank might read it while it is being written
        fitted = rr.Recipe.load("dr_seg").resized(SIZE)
        recipe.write_text(yaml.safe_dump(fitted.to_dict(), sort_keys=False))
    return Source(str(data.parent), str(recipe.resolve()), least=count, held_out=held_out)


def _rows(count: int) -> Iterator[dict[str, Any]]:
    for index, scene in enumerate(scenes(count, seed=1)):
        yield digit_row(scene, f"digits_{index}")


def digit_row(scene: Scene, name: str) -> dict[str, Any]:
    """A scene as a row of the Seg-Zero family."""
    image = io.BytesIO()
    Image.fromarray(scene.image).save(image, "PNG")
    height, width = scene.image.shape[:2]
    return {
        "id": name,
        "problem": scene.query,
        "solution": scene.reference,
        "image": {"bytes": image.getvalue(), "path": None},
        "img_height": height,
        "img_width": width,
    }


def tiny_policy() -> Any:
    """The module `examples/digits/policy.py`."""
    if str(DIGITS) not in sys.path:
        sys.path.insert(0, str(DIGITS))
    import policy  # noqa: PLC0415 - it needs torch and transformers, which the data do not

    return policy
