"""Fails the build where a public name is on no page of the API.

Goes in: the package, and what the pages document. Comes out: a warning, which `-W` makes an error,
for each public name that is on none of them. Public are the names in the ``__all__`` of every
module, and the public functions and classes of the modules in `OPEN`, with the public methods,
properties and class methods of each class. What is left out on purpose stands in `INTERNAL`, with
the reason.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache, cached_property
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import rankreward

_log = logging.getLogger(__name__)

OPEN = (  # modules without __all__ that users import from
    "rankreward.adapters.trl",
    "rankreward.adapters.paths",
    "rankreward.datasets.build",
    "rankreward.datasets.checks",
    "rankreward.datasets.coco",
    "rankreward.datasets.digits",
    "rankreward.datasets.folder",
    "rankreward.datasets.geometry",
    "rankreward.datasets.inspection",
    "rankreward.datasets.layouts",
    "rankreward.datasets.multi_object",
    "rankreward.datasets.pictures",
    "rankreward.datasets.published",
    "rankreward.datasets.refer",
    "rankreward.datasets.rows",
    "rankreward.datasets.solutions",
    "rankreward.datasets.written",
    "rankreward.errors",
    "rankreward.logs.sums",
    "rankreward.quantiles.distributed",
    "rankreward.quantiles.ray",
    "rankreward.quantiles.shared",
    "rankreward.report.cards",
    "rankreward.report.page",
    "rankreward.report.pictures",
    "rankreward.report.sheets",
    "rankreward.rewards.figures",
    "rankreward.tables",
)
INTERNAL = {  # modules with __all__, or stages, that are on no page on purpose
    "rankreward.adapters.easyr1": "called by easyr1_entry",
    "rankreward.adapters.easyr1_entry": "EasyR1 finds it by its path, see trainers.md",
    "rankreward.adapters.verl": "verl finds its names in the configuration, see trainers.md",
    "rankreward.bench": "what `rankreward bench` runs",
    "rankreward.cli": "the command line has a page of its own, cli.md",
    "rankreward.compiled": "loads the kernels; `warmup` is in rankreward",
    "rankreward.explain": "what is wrong with a recipe, in one line",
    "rankreward.kinds": "recipes.md lists every kind with its options, by a test",
    "rankreward.own": "registers terms; `term` is in rankreward",
    "rankreward.recipe": "its public names are in rankreward",
}


def modules() -> Iterator[ModuleType]:
    """Every module whose public names have to be on a page."""
    yield rankreward
    for found in pkgutil.walk_packages(rankreward.__path__, "rankreward."):
        if not any(found.name == name or found.name.startswith(f"{name}.") for name in INTERNAL):
            spec = found.module_finder.find_spec(found.name, None)  # type: ignore[call-arg]
            source = spec.loader.get_source(found.name)  # type: ignore[union-attr]
            if "\n__all__ =" in source or found.name in OPEN:  # others need not be importable
                yield importlib.import_module(found.name)


def public(module: ModuleType) -> list[str]:
    """Its public names."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_"
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def members(kind: type) -> list[str]:
    """The public methods and properties that a class of ours defines."""
    callables = (property, cached_property, classmethod, staticmethod)
    return [
        name
        for name, value in vars(kind).items()
        if name[0] != "_"
        and name not in kind.__annotations__  # a field, which the class describes
        and (inspect.isfunction(value) or isinstance(value, callables))
    ]


@cache
def value_of(dotted: str) -> Any:
    """What a dotted name stands for; its own name for a field of a class; None if there is none."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if part in getattr(value, "__annotations__", {}) and not hasattr(value, part):
                return dotted
            value = getattr(value, part, None)
        return value
    return None


def missing(documented: dict[str, Any]) -> Iterator[str]:
    """Every public name that is on no page, under whichever of its names."""
    by_value: dict[int, str] = {}
    for name in documented:
        by_value.setdefault(id(value_of(name)), name)
    for module in modules():
        for name in public(module):
            value = getattr(module, name)
            full = f"{module.__name__}.{name}"
            if isinstance(value, ModuleType):
                continue  # a stage, which comes by itself
            page = full if full in documented else by_value.get(id(value))
            if page is None:
                yield full
            elif inspect.isclass(value) and value.__module__.startswith("rankreward"):
                for member in members(value):
                    if f"{page}.{member}" not in documented:
                        yield f"{full}.{member}"


def check(app: Sphinx, _: BuildEnvironment) -> None:
    """Warn of every name that is missing."""
    if app.builder.name == "linkcheck":
        return
    entries: dict[str, Any] = app.env.get_domain("py").objects  # type: ignore[attr-defined]
    documented = {name: entry for name, entry in entries.items() if not entry.aliased}
    stages = {f"rankreward.{found.name}" for found in pkgutil.iter_modules(rankreward.__path__)}
    paged = {module.__name__ for module in modules()}
    for stage in sorted(stages - set(INTERNAL)):
        if not any(name == stage or name.startswith(f"{stage}.") for name in paged):
            _log.warning("undocumented: the stage %s is neither on a page nor internal", stage)
    for name in sorted(set(missing(documented))):
        _log.warning("undocumented: %s is public and on no page of the API", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
