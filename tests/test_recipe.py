"""Recipes load from four sources, and what is wrong with one is said in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import rankreward as rr


def plain() -> dict[str, Any]:
    text = (resources.files("rankreward") / "recipes" / "dr_seg.yaml").read_text()
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def test_four_sources_give_one_recipe(tmp_path: Path) -> None:
    """A name, a path, a mapping and a recipe load to the same thing."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(plain()))
    recipe = rr.Recipe.load("dr_seg")
    assert recipe == rr.Recipe.load(path) == rr.Recipe.load(str(path)) == rr.Recipe.load(plain())
    assert rr.Recipe.load(recipe) is recipe


def test_dr_seg_is_the_papers_reward() -> None:
    """Five points: four format terms of one each, and one for the mean of three ranks."""
    recipe = rr.Recipe.load("dr_seg")
    assert [term.weight for term in recipe.terms.values()] == [1, 1, 1, 1]
    assert (recipe.accuracy.weight, list(recipe.accuracy.metrics)) == (1, ["iou", "count", "point"])
    normalizer = recipe.accuracy.normalizer
    assert (normalizer.window, normalizer.warm_start, normalizer.ties) == (2048, 128, "weak")
    frame = recipe.response.frame
    assert (frame.width, frame.height) == (840, 840)


def test_every_shipped_recipe_loads() -> None:
    """Every name of `recipes()` loads, and carries its own name."""
    assert [rr.Recipe.load(name).name for name in rr.recipes()] == list(rr.recipes())


def set_at(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("nmae", value="x"), "unknown key 'nmae': did you mean 'name'?"),
        (
            set_at("accuracy", "wieght", value=1),
            "unknown key 'accuracy.wieght': did you mean 'weight'",
        ),
        (
            set_at("accuracy", "normalizer", "windw", value=1),
            "unknown key 'accuracy.normalizer.windw': did you mean 'window'?",
        ),
        (
            set_at("accuracy", "metrics", "point", "nr", value=1),
            "unknown key 'accuracy.metrics.point.nr': did you mean 'near'?",
        ),
        (
            set_at("accuracy", "metrics", "point", "far", value=3),
            "accuracy.metrics.point: far must be above near (30), got 3",
        ),
        (
            set_at("terms", "look", "weight", value="a"),
            "terms.look.weight: input should be a valid",
        ),
        (
            set_at("accuracy", "normalizer", "warm_start", value=4096),
            "warm_start must be at most window (2048), got 4096",
        ),
        (
            set_at("accuracy", "weight", value=float("nan")),
            "accuracy.weight: input should be a finite",
        ),
        (
            set_at("terms", "iou", value={"kind": "keyword", "weight": 1}),
            "a term and a metric share the name 'iou'",
        ),
    ],
)
def test_broken_recipe_is_one_line(change: Callable[[dict[str, Any]], None], message: str) -> None:
    """The error names the key, what was expected and what came."""
    data = copy.deepcopy(plain())
    change(data)
    with pytest.raises(rr.ConfigError) as caught:
        rr.Recipe.load(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_misspelt_key_is_named_before_the_missing_one() -> None:
    """A typo is reported as itself, not as the absence of the right key."""
    data = plain()
    data["accuracy"]["normalizer"]["tie"] = data["accuracy"]["normalizer"].pop("ties")
    with pytest.raises(rr.ConfigError, match=r"unknown key .*\.tie': did you mean 'ties'\?"):
        rr.Recipe.load(data)


def test_unknown_term_kind_lists_the_known_ones() -> None:
    """A kind that does not exist is answered with those that do."""
    data = plain()
    data["terms"]["look"]["kind"] = "lok"
    with pytest.raises(rr.ConfigError, match="expected one of blocks, answer, caption, keyword, n"):
        rr.Recipe.load(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("accuracy", "normalizer", "window"), True),
        (("accuracy", "normalizer", "window"), 2048.0),
        (("terms", "look", "weight"), True),
        (("accuracy", "failure"), 5),
        (("accuracy", "failure"), -1),
        (("accuracy", "weight"), -1),
        (("response", "keyword"), "think"),
        (("response", "keyword"), "a b"),
        (("response", "max_objects"), 0),
        (("accuracy", "metrics"), {}),
        (("kind",), "ecdf"),
        (("kind",), ["x"]),
    ],
)
def test_values_that_cannot_be_meant(path: tuple[str, ...], value: object) -> None:
    """A value that would make a reward no one wants is refused in one line."""
    data = plain()
    set_at(*path, value=value)(data)
    with pytest.raises(rr.ConfigError) as caught:
        rr.Recipe.load(data)
    assert path[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipe_cannot_be_changed() -> None:
    """A recipe is frozen, and a resized one shares no part that can change."""
    recipe = rr.Recipe.load("dr_seg")
    with pytest.raises(ValidationError):
        recipe.name = "mine"
    recipe.resized(84).terms.pop("look")
    assert "look" in recipe.terms


@pytest.mark.parametrize("source", [None, 3, ["dr_seg"]])
def test_source_of_another_type(source: object) -> None:
    """Only names, paths, mappings and recipes describe a recipe."""
    with pytest.raises(rr.ConfigError, match="recipe: expected a name, a path, a mapping or"):
        rr.Recipe.load(source)  # type: ignore[arg-type]


def test_unknown_name_suggests_the_nearest() -> None:
    """A misspelt name is answered with the nearest one."""
    with pytest.raises(rr.ConfigError, match="unknown recipe 'dr_sge': did you mean 'dr_seg'"):
        rr.Scorer("dr_sge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not YAML"),
        ("- 1", "expected a mapping of keys, got list"),
        ("", "got NoneType"),
        ("name: a\nname: b", "the key 'name' stands twice"),
        ("terms:\n  look: {weight: 1, weight: 7}", "the key 'weight' stands twice"),
        ("name: 2024-13-45", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("name: !!bool cup", "a value does not fit the tag"),
        ("name: !!int ''", "a value does not fit the tag"),
        ("name: !!timestamp x", "a value does not fit the tag"),
        ("yes: 1\ntrue: 2", "the key True stands twice"),
        ("terms: &a {x: 1, y: 2}\nclip: {<<: *a, y: 3}\nnmae: b", "unknown key 'clip.x'"),
    ],
)
def test_file_that_is_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no YAML mapping is refused in one line with its path."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(rr.ConfigError, match=message) as caught:
        rr.Recipe.load(path)
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A path that does not exist is named."""
    with pytest.raises(rr.ConfigError, match="does not exist"):
        rr.Recipe.load(tmp_path / "none.yaml")


def test_resized_scales_distances_with_the_frame() -> None:
    """Pixel distances keep their share of the frame; all else stays."""
    old, new = rr.Recipe.load("dr_seg"), rr.Recipe.load("dr_seg").resized(84)
    point = new.accuracy.metrics["point"].model_dump()
    assert (point["near"], point["far"]) == (3.0, 20.0)
    assert new.resized(840) == old


@pytest.mark.parametrize("size", [(0, None), (100, 50), (-840, -840), (84.5, None), (True, None)])
def test_resized_refuses_other_shapes(size: Any) -> None:
    """A size that is not positive or of another aspect ratio is an error."""
    with pytest.raises(rr.InputError, match="frame: expected"):
        rr.Recipe.load("dr_seg").resized(*size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms.lok.weight": 1}, "no section 'lok' in 'terms.lok.weight': did you mean 'look'?"),
        ({"accuracy.normalizer.kind": "none"}, "another kind has other keys: expected all of it"),
        ({"terms.lok": None}, "no 'terms.lok' to take away: did you mean 'look'?"),
        ({"accuracy.normalizer": "ecdf"}, "accuracy.normalizer: expected a mapping, got 'ecdf'"),
        ({"accuracy.normalizer": {"kind": "ecfd"}}, "accuracy.normalizer.kind: unknown 'ecfd': did you"),
        ({"accuracy.normalizer": {"kind": "ecdf", "window": 9}}, "has the keys kind, window, warm_start, t"),
        ({"response.tolerate": "fence"}, "response.tolerate: expected a list, got 'fence'"),
        ({"accuracy.matching": "scores"}, "accuracy.matching: expected a mapping, got 'scores'"),
        ("terms.look", "expected a mapping from paths to values, got 'terms.look'"),
        ({1: 2}, "expected a mapping from paths to values"),
    ],
)  # fmt: skip
def test_changes_that_cannot_be_made(changes: Any, message: str) -> None:
    """Are said in one line, with the nearest name."""
    with pytest.raises(rr.ConfigError) as caught:
        rr.Recipe.load("dr_seg").override(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_change_leaves_the_recipe_and_what_was_given_alone() -> None:
    """A term may be taken away, a section replaced; nothing is shared with the caller."""
    recipe = rr.Recipe.load("dr_seg")
    normalizer = {"kind": "none"}
    changed = recipe.override({"terms.look": None, "accuracy.normalizer": normalizer})
    normalizer["kind"] = "ecdf"
    assert [*changed.terms] == ["think_format", "answer_format", "non_repeat"]
    assert changed.accuracy.normalizer.kind == "none"
    assert "look" in recipe.terms
    assert recipe.accuracy.normalizer.kind == "ecdf"


@pytest.mark.parametrize("name", rr.recipes())
def test_a_recipe_writes_itself_as_yaml(name: str, tmp_path: Path) -> None:
    """What `to_dict` gives, YAML writes and reads, and loads to the same recipe."""
    recipe = rr.Recipe.load(name)
    if not recipe.released:
        recipe = recipe.override({"response.tolerate": ["fence", "stray_text"]})
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe.to_dict()))
    assert rr.Recipe.load(path) == recipe


@pytest.mark.parametrize("kind", ["zscore", "group"])
def test_a_length_budget_refuses_negative_accuracy(kind: str) -> None:
    """It would pay bad answers for being long."""
    normalizer = {"kind": kind} | ({"window": 9} if kind == "zscore" else {"eps": 1e-4})
    with pytest.raises(rr.ConfigError, match="a scale would reward length"):
        rr.Recipe.load("pixel_think").override({"accuracy.normalizer": normalizer})
