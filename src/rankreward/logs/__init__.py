"""Logs of rollouts: read, scored again, compared under other recipes.

Goes in: what a trainer wrote down of its rollouts and figures. Comes out: rows, rewards by any
recipe, and what would have been different.
"""
