"""Formulas as MathML, which browsers draw by themselves.

Goes in: the LaTeX of a formula. Comes out: MathML in the page, so that neither scripts nor the
network are needed.
"""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def inline(page: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    page.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(page: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own; lines end with two backslashes and align at &."""
    text = node.astext().strip()
    if "\\\\" in text or "&" in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    page.body.append(f'<div class="math">{convert(text, display="block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
