"""The compiled kernel of parsing: it reads the faultless completions of a batch.

A completion is faultless here if it is the schema's blocks and nothing else, with a JSON answer in
which each entry has the schema's keys and plain numbers. Of any other, and of one that is in doubt,
the kernel says nothing, and `response.parse_for` reads it: there is one definition of what is wrong
with a text.

The texts stand one after the other in `data`, a zero byte after each. No word holds that byte, so
nothing that is compared runs over the end of a text; and a place of -1, which is how a function
here says no, is the last of these zeros, at which nothing is found either. So failures go through
without being asked for.

Importing this file loads Numba; see `compiled`.
"""

from __future__ import annotations

from typing import Any

from rankreward.compiled import kernel

_BYTES = "uint8[::1]"
_WORDS = f"{_BYTES}, int64[::1]"  # words one after the other, and their bounds

# What `read_faultless` says of a text, a column each.
THINK_STOP, LOOK, LOOK_STOP, ANSWER, ANSWER_STOP, CAPTION, CAPTION_STOP, LOOKS, ROW = range(9)
_NO = -1
_MANY = 2  # looks, which are left to `tags.find_bodies`
_DIGITS = 15  # so many make an exact float64, and so does their power of ten: one rounding


@kernel(f"int64({_BYTES}, int64, {_WORDS}, int64)", nogil=True)
def _after(data: Any, place: Any, words: Any, bounds: Any, word: Any) -> Any:
    """The place after a word that stands at a place."""
    for k in range(bounds[word], bounds[word + 1]):
        if data[place] != words[k]:
            return _NO
        place += 1
    return place


@kernel(f"int64({_BYTES}, int64)", nogil=True)
def _gap(data: Any, place: Any) -> Any:
    """The place after the white space of JSON."""
    while data[place] == 32 or data[place] == 10 or data[place] == 13 or data[place] == 9:
        place += 1
    return place


@kernel(f"int64({_BYTES}, int64)", nogil=True)
def _blank(data: Any, place: Any) -> Any:
    """The place after what is white space to Python."""
    while 9 <= data[place] <= 13 or 28 <= data[place] <= 32:
        place += 1
    return place


@kernel(f"int64({_BYTES}, int64, int64)", nogil=True)
def _sign(data: Any, place: Any, sign: Any) -> Any:
    """The place after a sign and the white space around it."""
    place = _gap(data, place)
    return _gap(data, place + 1) if data[place] == sign else _NO


@kernel(f"Tuple((int64, float64))({_BYTES}, int64, float64)", nogil=True)
def _number(data: Any, place: Any, limit: Any) -> Any:
    """The place after a number, and the number."""
    negative = data[place] == ord("-")
    if negative:
        place += 1
    first, whole, scale = place, 0, 1.0
    while 48 <= data[place] <= 57:
        whole = whole * 10 + (data[place] - 48)
        place += 1
    digits = place - first
    if digits == 0 or (digits > 1 and data[first] == 48):
        return _NO, 0.0
    if data[place] == ord("."):
        place += 1
        point = place
        while 48 <= data[place] <= 57:
            whole = whole * 10 + (data[place] - 48)
            scale *= 10.0
            place += 1
        if place == point:
            return _NO, 0.0
        digits += place - point
    elif whole == 0:
        negative = False  # -0 is an integer, of which there is one zero
    value = whole / scale
    if digits > _DIGITS or value > limit:
        return _NO, 0.0
    return place, -value if negative else value


@kernel(f"int64({_BYTES}, int64, {_WORDS}, int64[::1], float64, float64[::1])", nogil=True)
def _entry(data: Any, place: Any, keys: Any, bounds: Any, sizes: Any, limit: Any, row: Any) -> Any:
    """The place after an entry and the white space after it; its numbers are put into `row`."""
    place = _sign(data, place, ord("{"))
    seen = 0
    for turn in range(len(sizes)):
        if turn > 0:
            place = _sign(data, place, ord(","))
        after, column, key = _NO, 0, 0
        for key in range(len(sizes)):
            after = _after(data, place, keys, bounds, key)
            if after != _NO:
                break
            column += sizes[key]
        if after == _NO or seen >> key & 1:
            return _NO
        seen |= 1 << key
        place = _sign(data, _sign(data, after, ord(":")), ord("["))
        for i in range(sizes[key]):
            if i > 0:
                place = _sign(data, place, ord(","))
            place, row[column + i] = _number(data, place, limit)
        place = _sign(data, place, ord("]"))
    return _sign(data, place, ord("}"))


@kernel(f"int64({_BYTES}, int64, int64, {_WORDS}, int64, int64, int64[::1])", nogil=True)
def _body(
    data: Any, place: Any, stop: Any, words: Any, bounds: Any, tags: Any, end: Any, looks: Any
) -> Any:
    """Where the body of a block stops, at the word `end`.

    None of the first `tags` words may be inside. What comes after these is the keyword's tag:
    `looks` is how often it opens, the place after that, how often it closes, and that place.
    """
    if place == _NO:
        return _NO
    while place < stop:
        if data[place] == ord("<"):
            for word in range(len(bounds) - 1):
                after = _after(data, place, words, bounds, word)
                if after == _NO:
                    continue
                if word < tags:
                    return place if word == end else _NO
                opens = word == tags
                looks[0 if opens else 2] += 1
                looks[1 if opens else 3] = after if opens else place
        place += 1
    return _NO


@kernel(
    f"void({_BYTES}, int64[::1], {_WORDS}, int64, {_WORDS}, int64[::1], "
    "float64, boolean, boolean, int64, float64[:, ::1], int64[:, ::1], int64[::1])",
    nogil=True,
)
def read_faultless(
    data: Any,
    stops: Any,
    words: Any,
    bounds: Any,
    tags: Any,
    keys: Any,
    key_bounds: Any,
    sizes: Any,
    limit: Any,
    think: Any,
    listed: Any,
    most: Any,
    rows: Any,
    spans: Any,
    looks: Any,
) -> None:
    """Read each text that is faultless.

    Args:
        data: the texts.
        stops: (B,) where each ends.
        words: the opening and the closing tag of think, answer and what blocks follow, and last,
            if there is one to look for, of the keyword.
        bounds: the bounds of these words.
        tags: how many of them are not the keyword's.
        keys: the keys of an entry, in their quotes.
        key_bounds: the bounds of these words.
        sizes: how many numbers each holds.
        limit: how far from 0 they may be.
        think: whether there is a think block.
        listed: whether the answer is a list of entries, or one entry.
        most: how many it may have.
        rows: takes the numbers of the entries; one row for each ``{`` is enough.
        spans: (B, 9), takes the bounds of the bodies in their text, how many looks there are, and
            the row after the last of the text, or -1 where it is not known to be faultless.
        looks: (4,), what `_body` counts.
    """
    begin = row = 0
    for text in range(len(stops)):
        stop, first, span = stops[text], row, spans[text]
        place, looks[:] = begin, 0
        if think:
            place = _after(data, place, words, bounds, 0)
            place = _body(data, place, stop, words, bounds, tags, 1, looks)
            span[THINK_STOP], span[LOOK], span[LOOK_STOP] = place, looks[1], looks[3]
            place = _blank(data, _after(data, place, words, bounds, 1))
        once = looks[0] == 1 and looks[2] == 1 and looks[1] <= looks[3]
        span[LOOKS] = 1 if once else min(looks[0], looks[2]) * _MANY
        place = _after(data, place, words, bounds, 2)
        span[ANSWER] = place
        place = _sign(data, place, ord("[")) if listed else _gap(data, place)
        if not (listed and data[place] == ord("]")):
            place = _entry(data, place, keys, key_bounds, sizes, limit, rows[row])
            row += 1
            while listed and data[place] == ord(",") and row - first < most:
                place = _sign(data, place, ord(","))
                place = _entry(data, place, keys, key_bounds, sizes, limit, rows[row])
                row += 1
        if listed:
            place = _sign(data, place, ord("]"))
        span[ANSWER_STOP] = place
        place = _after(data, place, words, bounds, 3)
        if tags > 4:
            place = _after(data, _blank(data, place), words, bounds, 4)
            span[CAPTION] = place
            place = _body(data, place, stop, words, bounds, tags, 5, looks)
            span[CAPTION_STOP] = place
            place = _after(data, place, words, bounds, 5)
        for k in range(LOOKS):
            span[k] -= begin
        if place != stop:
            row = first
        span[ROW] = row if place == stop else _NO
        begin = stop + 1
