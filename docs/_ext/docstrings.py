"""How the docstrings of this package become pages.

Goes in: docstrings in Google form, with `names` in single backticks and indented examples. Comes
out: a link where a name is one of the API, and else code, for it may be an argument, a key, or a
name of another package. A name that begins with ``rankreward.`` has to exist. Signatures are shown
as they are written, indented lines of a module's docstring as they stand, and Markdown's tables as
tables.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from docutils import nodes
from everything_documented import value_of
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode


def named(
    app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.Node
) -> nodes.Node | None:
    """A link under another of its names, or code; None, so that Sphinx warns, if there is none."""
    if node.get("refdomain") != "py":
        return None
    domain: Any = env.get_domain("py")
    target = str(node["reftarget"])
    full = target.startswith("rankreward.")
    value = value_of(target) if full else None
    if full and value is None:
        return None
    for name, entry in domain.objects.items():
        last = name.rpartition(".")[2]
        same = value_of(name) is value if full else last == target and entry.objtype == "class"
        if same and last == target.rpartition(".")[2]:
            where = str(node["refdoc"]), entry.docname, entry.node_id
            return _link(app, where, content, name)
    return content


def _link(app: Sphinx, where: tuple[str, str, str], content: nodes.Node, title: str) -> nodes.Node:
    here, page, anchor = where
    return make_refnode(app.builder, here, page, anchor, content, title)


def as_it_stands(_: Sphinx, what: str, __: str, ___: Any, ____: Any, lines: list[str]) -> None:
    """Mark the indented blocks of a module's docstring as literal."""
    if what != "module":
        return
    marked: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        above = next((one for one in reversed(marked) if one.strip()), "")
        if line.startswith("    ") and not before.strip() and not above.startswith("    "):
            marked += [".. code-block:: text", ""]
        marked.append(line)
    lines[:] = marked


def tables(_: Sphinx, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    """Make a list-table of each Markdown table."""
    if not any(line.startswith("|---") for line in lines):
        return
    made: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            made.append(line)
        elif line.startswith("|---"):
            continue
        else:
            if not (made and made[-1].startswith("   ")):
                made += ["", ".. list-table::", "   :header-rows: 1", ""]
            cells = line.strip("| ").split(" | ")
            made += [f"   {'*' if not place else ' '} - {cell}" for place, cell in enumerate(cells)]
    lines[:] = made


def no_type(_: Sphinx, what: str, __: str, ___: Any, ____: Any, lines: list[str]) -> None:
    """Keep napoleon from taking the first words of a value's description for its type."""
    if what in {"attribute", "data", "property"} and lines:
        lines[:0] = ["..", ""]


def as_written(
    _: Sphinx, what: str, __: str, thing: Any, ___: Any, shown: str | None, ____: str | None
) -> tuple[str, str | None] | None:
    """The signature with its annotations as they stand in the source."""
    if shown is None or not isinstance(thing, Callable):  # type: ignore[arg-type]
        return None
    try:
        signature = inspect.signature(thing)
    except (ValueError, TypeError):
        return None
    parameters = list(signature.parameters.values())
    if what == "method" and parameters and parameters[0].name in {"self", "cls"}:
        signature = signature.replace(parameters=parameters[1:])
    answer = signature.return_annotation
    text = stringify_signature(signature, show_return_annotation=False, unqualified_typehints=True)
    text = _OBJECT.sub(lambda found: found[1] or "...", text)
    return text, answer if isinstance(answer, str) and what != "class" else None


# A default that is no literal: a class by its name, anything else as an ellipsis.
_OBJECT = re.compile(r"<class '(?:\w+\.)*(\w+)'>|<[^<>]*>")


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("missing-reference", named)
    app.connect("autodoc-process-docstring", as_it_stands)
    app.connect("autodoc-process-docstring", tables)
    app.connect("autodoc-process-docstring", no_type, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", as_written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
