"""A training run, as its trainer left it on disk.

Goes in: the folder that TRL, verl, EasyR1, the demo or `rankreward score` wrote. Comes out: its
figures by step, under our names, its windows, and examples of its failures.
"""

from rankreward.runs.parts import Example, Run, Window
from rankreward.runs.reading import read_run

__all__ = ["Example", "Run", "Window", "read_run"]
