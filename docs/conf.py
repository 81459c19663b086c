"""How the documentation is built, by `make docs`.

Goes in: the pages beside this file, the scripts of `gallery/`, the notebooks of `notebooks/`, and
the docstrings of the package. Comes out: HTML that needs no network, neither to be built nor to be
read.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE / "gallery")]
os.environ.setdefault("OMP_NUM_THREADS", "1")
logging.getLogger("traitlets").setLevel(logging.WARNING)  # of the notebooks

from rankreward import __version__

project = "rankreward"
author = "the authors of rankreward"
copyright = "the authors of rankreward, Apache-2.0"  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "myst_nb",
    "docstrings",
    "everything_documented",
    "links_out",
    "math_as_mathml",
]
exclude_patterns = [
    "_build",
    "gallery/*",
    "plots/*.py",
    "plots/*.ipynb",
    "plots/*.md5",
    "plots/*.json",
]
exclude_patterns += ["plots/*.zip", "plots/sg_execution_times.rst", "**.ipynb_checkpoints"]
nitpicky = True
suppress_warnings = [
    "config.cache",  # the settings of the gallery hold a function
    "ref.python",  # two stages have a class of the same name; a name that is nowhere is ref.obj
]

# -- pages ---------------------------------------------------------------------------------------
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist", "tasklist"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = False  # a notebook finds the log beside its folder
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # with tables

# -- the API -------------------------------------------------------------------------------------
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Cost", "Source"]
napoleon_use_ivar = True  # attributes are described once, by the class
default_role = "py:obj"  # see _ext/docstrings.py

# -- the gallery ---------------------------------------------------------------------------------


def _svg(*given: Any, **options: Any) -> str:
    """The plots of a script, as SVG."""
    from sphinx_gallery.scrapers import matplotlib_scraper

    return str(matplotlib_scraper(*given, format="svg", **options))


def _style(_: Any, __: Any) -> None:
    """Plots that can be read on white and on black."""
    import matplotlib as mpl

    grey = "#7d7d7d"
    names = ("axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "text.color")
    mpl.rcParams.update(dict.fromkeys(names, grey))
    mpl.rcParams.update(
        {
            "axes.facecolor": "none",
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.facecolor": "none",
            "grid.color": grey,
            "legend.facecolor": "none",
            "legend.edgecolor": "none",
            "savefig.facecolor": "none",
            "svg.hashsalt": "rankreward",
        }
    )


sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "plots",
    "filename_pattern": r"/plot_",
    "ignore_pattern": "digit_log",
    "image_scrapers": (_svg,),
    "reset_modules": ("matplotlib", _style),
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "write_computation_times": False,
}

# -- HTML ----------------------------------------------------------------------------------------
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"rankreward {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#6fcfa8", "color-brand-content": "#6fcfa8"},
}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"
