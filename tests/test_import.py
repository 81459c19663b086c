"""The package imports light, shows what it says it shows, and names the extra that is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rankreward as rr

HEAVY = ("numba", "scipy", "torch", "transformers", "trl", "cv2", "matplotlib", "pydantic", "yaml")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_import_loads_nothing_heavy() -> None:
    """`import rankreward` loads no heavy package."""
    done = run(f"import sys, rankreward; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", rr.__all__)
def test_public_name_resolves_and_is_documented(name: str) -> None:
    """Every name of `__all__` exists and has a docstring."""
    assert getattr(rr, name).__doc__


def test_public_names_match_the_lazy_table() -> None:
    """`__all__` and the table of lazy names agree."""
    assert sorted(rr.__all__) == sorted([*rr._HOME, "metrics", "shaping"])
    assert len(rr.__all__) == len(set(rr.__all__))


def test_recipes_stays_a_function_after_use() -> None:
    """The folder of the same name never shadows `rankreward.recipes`."""
    assert rr.recipes() == rr.recipes()
    assert callable(rr.recipes)


def test_unknown_attribute_raises() -> None:
    """A name that is not there raises AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'scorer'"):
        _ = rr.scorer


@pytest.mark.parametrize(
    ("package", "code", "extra"),
    [
        ("transformers", "import rankreward.adapters.trl", "trl"),
        ("cv2", "from rankreward.evaluation import GrabCut; GrabCut()", "eval"),
        (
            "sklearn",
            "from rankreward.datasets import digits; next(digits.scenes(1, seed=0))",
            "demo",
        ),
        (
            "matplotlib",
            (
                "import numpy as np; from rankreward.report import contact_sheet as c; "
                "c([np.zeros((2, 2, 3), 'uint8')], [''], [np.zeros((0, 4))], {'a': [None]})"
            ),
            "report",
        ),
    ],
)
def test_missing_package_names_the_extra(package: str, code: str, extra: str) -> None:
    """Without an optional package the error is one line that says what to install."""
    done = run(f"import sys; sys.modules[{package!r}] = None; {code}")
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingExtraError" in last
    assert f"rankreward[{extra}]" in last


def test_core_works_without_any_extra() -> None:
    """Scoring needs none of the optional packages."""
    blocked = ("torch", "transformers", "trl", "cv2", "matplotlib", "sklearn", "PIL", "datasets")
    done = run(
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        "import rankreward as rr; print(rr.Scorer('dr_seg').score(['x'], ['[]']).failures[0].code)"
    )
    assert done.stdout.strip() == "missing_tag", done.stderr
