"""Data to train and evaluate on. Goes in: a seed or annotations. Comes out: images and references.

- `digits` composes scenes of real handwritten digits, with no download.
- `coco`, `refer`, `folder` and `published` read annotations; `pictures` and `multi_object` ask
  questions of them. Each yields a `rows.Row` for a question on an image.
- `checks` says what is wrong with which row, `inspection` shows what there is.
- `solutions` and `layouts` make of a row what trainers and evaluation read; `build` writes it, by
  `shards`, and `written` reads it back.
"""
