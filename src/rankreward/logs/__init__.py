"""Logs of rollouts, read and paid again.

Goes in: what a trainer wrote down of its rollouts. Comes out: rows, steps of them, and what they
earn by a recipe, as in training.
"""

from rankreward.logs.reading import read_log
from rankreward.logs.rows import BadRow, Chunk, LogRow
from rankreward.logs.running import score_log
from rankreward.logs.scoring import Scored, score_chunks
from rankreward.logs.steps import chunks
from rankreward.logs.written import Folder

__all__ = [
    "BadRow",
    "Chunk",
    "Folder",
    "LogRow",
    "Scored",
    "chunks",
    "read_log",
    "score_chunks",
    "score_log",
]
