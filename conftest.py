"""Runs the examples in docstrings and the Python of the README as tests."""

from __future__ import annotations

import math

import numpy as np
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser as MarkdownPython
from sybil.parsers.rest import DocTestParser

import rankreward as rr
from rankreward import metrics, quantiles
from rankreward.datasets import digits
from rankreward.evaluation import protocols


def names(namespace: dict[str, object]) -> None:
    """Docstring examples use the names of the module that they stand in."""
    for module in (metrics, quantiles, protocols, digits):
        namespace.update({key: value for key, value in vars(module).items() if key[0] != "_"})
    namespace.update({name: getattr(rr, name) for name in rr.__all__}, np=np, math=math)


docstrings = Sybil(parsers=[DocTestParser()], patterns=["*.py"], path="src", setup=names)
readme = Sybil(parsers=[MarkdownPython()], patterns=["README.md"])
pytest_collect_file = (docstrings + readme).pytest()
