"""Data to train and evaluate on. Goes in: a seed or annotations. Comes out: images and references.

`rankreward.datasets.digits` composes scenes of real handwritten digits, with no download.
"""
