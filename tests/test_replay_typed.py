"""Recipes as they are typed, with changes: what they become, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

import rankreward as rr
from rankreward.errors import ConfigError, InputError
from rankreward.replay.contestants import read_contestants


@pytest.mark.parametrize(
    ("typed", "label", "expected"),
    [
        ("dr_seg+accuracy.normalizer.window=512", "dr_seg+window=512", {"window": 512}),
        ("dr_seg+window=64+warm_start=0", None, {"window": 64, "warm_start": 0}),
        ("dr_seg+normalizer.kind=zscore", None, {"kind": "zscore", "window": 2048}),
        ("dr_seg+window=256+kind=zscore", None, {"kind": "zscore", "window": 256}),
        ("dr_seg+kind=none", None, {"kind": "none"}),
        ("dr_seg+kind=group+eps=1e-2", None, {"kind": "group", "eps": 0.01}),
        ("vision_reasoner+normalizer=ecdf", None, {"kind": "ecdf", "warm_start": 128}),
        ("dr_seg+ties=mid", None, {"ties": "mid"}),
    ],
)
def test_a_changed_recipe(typed: str, label: str | None, expected: dict[str, Any]) -> None:
    """A change names a key by the end of its path; the label is what was typed, shortened."""
    made, _ = read_contestants([typed, "seg_zero"])
    assert made.label == (label or typed)
    normalizer = made.recipe.accuracy.normalizer
    assert {name: getattr(normalizer, name) for name in expected} == expected


def test_terms_and_metrics_are_changed_by_name() -> None:
    """A term's weight, a metric's limit and a term taken away."""
    made, _ = read_contestants(["dr_seg+look.weight=0.5+point.near=20.0+non_repeat=null", "dr_seg"])
    assert made.recipe.terms["look"].weight == 0.5
    assert made.recipe.accuracy.metrics["point"].near == 20
    assert "non_repeat" not in made.recipe.terms


def test_changes_are_in_the_pixels_of_the_log() -> None:
    """A frame resizes the recipe first; what is typed is not scaled again."""
    plain, changed = read_contestants(["dr_seg", "dr_seg+point.near=2.0"], frame=84)
    assert plain.recipe.accuracy.metrics["point"].near == 3
    assert changed.recipe.accuracy.metrics["point"].near == 2
    assert changed.recipe.response.frame.width == 84


def test_a_file_is_called_by_its_name(tmp_path: Any) -> None:
    """A file's label is its stem; two that share it are called as they were typed."""
    recipe = json.dumps(rr.Recipe.load("dr_seg").to_dict())
    for folder in ("one", "a+two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(recipe)
    one, two = str(tmp_path / "one" / "mine.yaml"), str(tmp_path / "a+two" / "mine.yaml")
    assert read_contestants([one, "dr_seg"])[0].label == "mine"
    assert [each.label for each in read_contestants([one, two])] == [one, two]
    assert read_contestants([f"{two}+window=512", one])[0].label == "mine+window=512"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["dr_seg"], "expected two or more to compare, got dr_seg"),
        (["dr_seg", "dr_seg"], "expected each once, got 'dr_seg' again"),
        (["dr_seg", "dr_sg"], "unknown recipe 'dr_sg': did you mean 'dr_seg'"),
        (["dr_seg", "dr_seg+windw=3"], "unknown key 'windw'"),
        (["dr_seg", "dr_seg+window=["], "expected a value in JSON or YAML, got '\\['"),
        (["dr_seg", "dr_seg+window=64"], "warm_start must be at most window \\(64\\), got 128"),
        (["dr_seg", "dr_seg+lok=null"], "unknown key 'lok'"),
        (["dr_seg", "dr_seg+look="], "'dr_seg\\+look=': expected a value after '='.*got ''"),
        (["dr_seg", "dr_seg+look= "], "expected a value after '='.*got ' '"),
        (["dr_seg", "dr_seg+look=#no"], "expected a value after '='.*got '#no'"),
    ],
)
def test_what_cannot_be_read_is_named(typed: list[str], said: str) -> None:
    """An error says what was typed and what is wrong with it."""
    with pytest.raises((InputError, ConfigError), match=said):
        read_contestants(typed)
