"""Cards as pictures, side by side.

Goes in: cards. Comes out: one PIL.Image, to be saved as a file.

Needs the extra ``eval`` (Pillow).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rankreward.errors import InputError, require
from rankreward.report.cards import Card

_INK, _FAINT, _MARKED, _WRONG = (20, 20, 20), (100, 100, 100), (255, 233, 150), (176, 0, 32)
_GAP = 10  # pixels around what is on a card


def card_sheet(cards: Sequence[Card], columns: int = 2, width: int = 720) -> Any:
    """Cards side by side in one picture.

    Texts are in Pillow's own font, which has Latin letters alone, and are cut where a card ends;
    `rankreward.report.page.write_page` shows all.

    Args:
        cards: at least one.
        columns: cards a line, at least 1.
        width: of a card in pixels, at least 240.

    Returns:
        A PIL.Image, RGB; its ``save`` makes a file of it.

    Raises:
        InputError: an argument is out of its range.
    """
    if not cards or columns < 1 or width < 240:
        raise InputError(
            "card_sheet: expected cards, columns >= 1 and width >= 240, got "
            f"{len(cards)} cards, {columns} and {width}"
        )
    columns, height = min(columns, len(cards)), width // 2
    lines = -(-len(cards) // columns)
    pil: Any = require("PIL.Image", extra="eval")
    sheet = pil.new("RGB", (columns * width, lines * height), "white")
    for place, card in enumerate(cards):
        line, column = divmod(place, columns)
        sheet.paste(draw_card(card, width, height), (column * width, line * height))
    return sheet


def draw_card(card: Card, width: int, height: int) -> Any:
    """One card as a picture: the image on the left, the texts beside it.

    Returns:
        A PIL.Image, RGB, of `width` x `height` pixels.
    """
    pil: Any = require("PIL.Image", extra="eval")
    canvas = pil.new("RGB", (width, height), "white")
    half = width // 2
    if card.picture is not None:
        picture = card.picture.copy()
        picture.thumbnail((half - 2 * _GAP, height - 2 * _GAP))
        canvas.paste(picture, (_GAP, _GAP))
    writer = _Writer(canvas, half, _GAP, width - _GAP, height - _GAP)
    writer.write([(f"{card.id}: {card.query}", _INK, None)])
    numbers = ", ".join(f"{name} {value}" for name, value in card.numbers().items())
    writer.write([(numbers, _FAINT, None)])
    writer.write([(card.problem, _WRONG, None)])
    for parts in card.texts.values():
        writer.write([(p.text, _INK, _MARKED if p.looked else None) for p in parts])
    if not card.texts:
        writer.write([(card.completion, _FAINT, None)])
    return canvas


class _Writer:
    """Writes words into a rectangle, from its top down, until it is full."""

    def __init__(self, canvas: Any, left: int, top: int, right: int, bottom: int) -> None:
        self.pen = require("PIL.ImageDraw", extra="eval").Draw(canvas)
        self.font = require("PIL.ImageFont", extra="eval").load_default(13)
        self.left, self.right, self.bottom = left, right, bottom
        self.x, self.y, self.height = float(left), top, 17

    def write(self, runs: Sequence[tuple[str, Any, Any]]) -> None:
        """A paragraph of runs: text, colour, and the ground's colour or None."""
        words = [(word, *look) for text, *look in runs for word in re.findall(r"\S+|\s+", text)]
        if not words:
            return
        for word, colour, ground in words:
            for piece in self._pieces(word):
                self._put(piece, colour, ground)
        self.x, self.y = float(self.left), self.y + self.height + self.height // 3

    def _pieces(self, word: str) -> list[str]:
        """A word that is longer than a line, in pieces."""
        if word.isspace():
            return [" "]
        if self.font.getlength(word) <= self.right - self.left:
            return [word]
        most = max((self.right - self.left) // 14, 1)
        return [word[start : start + most] for start in range(0, len(word), most)]

    def _put(self, word: str, colour: Any, ground: Any) -> None:
        length = self.font.getlength(word)
        if self.x > self.left and self.x + length > self.right:
            self.x, self.y = float(self.left), self.y + self.height
        if self.y + self.height > self.bottom or (word == " " and self.x == self.left):
            return
        if ground is not None:
            self.pen.rectangle((self.x, self.y, self.x + length, self.y + self.height), fill=ground)
        self.pen.text((self.x, self.y), word, colour, self.font)
        self.x += length
