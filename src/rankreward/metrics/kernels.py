"""The compiled kernels of metrics, each for a whole batch.

Geometry is sorted, compared and matched. A batch is ragged: the objects of all its samples stand in
one array, one sample after the other, and `counts` says how many each has. The pairs of a sample,
every object of one side with every object of the other, stand in one array likewise, row by row. In
texts repeated sentences are counted.

Importing this file loads Numba; see `compiled`. The twins are in `ragged` and `text`, and their
answers are the same to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rankreward.compiled import kernel

_TABLE = "float64[:, ::1]"
_COUNTS = "int64[::1]"
_PROBES = 256  # places where a sentence is looked for; half of the table is empty
_BASIS, _PRIME, _HALF = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3), np.uint64(32)
_SPACE, _NO_SPACE = np.uint64(256), np.uint64(0)


@kernel(f"void({_TABLE}, {_COUNTS}, int64[::1])", nogil=True)
def sort_objects(values: Any, counts: Any, order: Any) -> None:
    """The lexicographic order of the rows of each sample, as places in `values` (T, K)."""
    width = values.shape[1]
    start = 0
    for count in counts:
        for i in range(start, start + count):
            place = i  # insertion: the objects of one answer are few
            while place > start:
                other = order[place - 1]
                less = False
                for k in range(width):
                    if values[i, k] != values[other, k]:
                        less = values[i, k] < values[other, k]
                        break
                if not less:
                    break
                order[place] = other
                place -= 1
            order[place] = i
        start += count


@kernel(
    f"void({_TABLE}, {_COUNTS}, {_TABLE}, {_COUNTS}, float64, float64[::1], float64[::1])",
    nogil=True,
)
def compare_objects(
    left: Any, left_counts: Any, right: Any, right_counts: Any, extra: Any, ious: Any, apart: Any
) -> None:
    """Box IoU and point distance of all pairs.

    `left` (T, 6) and `right` (S, 6) hold box and point; `extra` is what a side of a box gains, 1
    where edges are pixels that belong to it; `ious` and `apart` (P,) are filled.
    """
    a = b = pair = 0
    for sample in range(len(left_counts)):
        m, n = left_counts[sample], right_counts[sample]
        for i in range(a, a + m):
            x1, y1, x2, y2 = left[i, 0], left[i, 1], left[i, 2], left[i, 3]
            area = max(x2 - x1 + extra, 0.0) * max(y2 - y1 + extra, 0.0)
            for j in range(b, b + n):
                width = min(x2, right[j, 2]) - max(x1, right[j, 0]) + extra
                height = min(y2, right[j, 3]) - max(y1, right[j, 1]) + extra
                overlap = max(width, 0.0) * max(height, 0.0)
                side = max(right[j, 2] - right[j, 0] + extra, 0.0)
                other = side * max(right[j, 3] - right[j, 1] + extra, 0.0)
                union = area - overlap + other
                ious[pair] = overlap / union if union > 0.0 else 0.0
                dx, dy = left[i, 4] - right[j, 4], left[i, 5] - right[j, 5]
                apart[pair] = np.sqrt(dx * dx + dy * dy)
                pair += 1
        a += m
        b += n


@kernel(f"void(float64[::1], {_COUNTS}, {_COUNTS}, int64[::1])", nogil=True)
def match_ragged(costs: Any, row_counts: Any, column_counts: Any, chosen: Any) -> None:
    """The cheapest one-to-one matching of each sample: for each row its column, or -1.

    Shortest augmenting paths with dual prices (Crouse 2016, "On implementing 2D rectangular
    assignment algorithms"), the smaller side first. Among equal costs the choice is that of
    SciPy's `linear_sum_assignment`: columns are tried from the last to the first, a free one
    before a taken one.
    """
    most = 0
    for sample in range(len(row_counts)):
        most = max(most, row_counts[sample], column_counts[sample])
    row_price, column_price = np.empty(most), np.empty(most)
    distance = np.empty(most)  # of each column from the row that seeks one
    came_from = np.empty(most, np.int64)
    column_of, row_of = np.empty(most, np.int64), np.empty(most, np.int64)
    left_to_try = np.empty(most, np.int64)
    row_seen, column_seen = np.empty(most, np.bool_), np.empty(most, np.bool_)
    first_cost = first_row = 0
    for sample in range(len(row_counts)):
        rows, columns = row_counts[sample], column_counts[sample]
        turned = columns < rows
        m, n = (columns, rows) if turned else (rows, columns)
        across, down = (1, columns) if turned else (columns, 1)
        row_price[:m] = 0.0
        column_price[:n] = 0.0
        column_of[:m] = -1
        row_of[:n] = -1
        for seeker in range(m):
            distance[:n] = np.inf
            row_seen[:m] = False
            column_seen[:n] = False
            for k in range(n):
                left_to_try[k] = n - 1 - k
            remaining, row, sink, reached = n, seeker, -1, 0.0
            while sink < 0:
                row_seen[row] = True
                nearest, lowest = -1, np.inf
                for k in range(remaining):
                    column = left_to_try[k]
                    cost = costs[first_cost + row * across + column * down]
                    through = reached + cost - row_price[row] - column_price[column]
                    if through < distance[column]:
                        came_from[column] = row
                        distance[column] = through
                    here = distance[column]
                    if here < lowest or (here == lowest and row_of[column] == -1):
                        lowest = here
                        nearest = k
                reached = lowest
                column = left_to_try[nearest]
                if row_of[column] == -1:
                    sink = column
                else:
                    row = row_of[column]
                column_seen[column] = True
                remaining -= 1
                left_to_try[nearest] = left_to_try[remaining]
            row_price[seeker] += reached
            for i in range(m):
                if row_seen[i] and i != seeker:
                    row_price[i] += reached - distance[column_of[i]]
            for k in range(n):
                if column_seen[k]:
                    column_price[k] -= reached - distance[k]
            column = sink
            while True:  # hand each row on the path its new column
                row = came_from[column]
                row_of[column] = row
                column_of[row], column = column, column_of[row]
                if row == seeker:
                    break
        for k in range(rows):
            chosen[first_row + k] = row_of[k] if turned else column_of[k]
        first_cost += rows * columns
        first_row += rows


@kernel("int64(uint8[::1], int64[:, ::1], uint64[::1], int64, int64[::1])", nogil=True)
def _repeated(data: Any, spans: Any, hashes: Any, count: Any, slots: Any) -> Any:
    """How many of `count` sentences repeat an earlier one; -1 where many meet in the hash table."""
    size = 2
    while size < 2 * count:
        size *= 2
    slots[:size] = -1
    repeated = 0
    for sentence in range(count):
        start, end, hashed = spans[sentence, 0], spans[sentence, 1], hashes[sentence]
        slot = np.int64(hashed ^ (hashed >> _HALF)) & (size - 1)
        for _ in range(_PROBES):
            other = slots[slot]
            if other == -1:
                slots[slot] = sentence
                break
            if hashes[other] == hashed and spans[other, 1] - spans[other, 0] == end - start:
                ahead = spans[other, 0] - start
                place = start
                while place < end and data[place] == data[place + ahead]:
                    place += 1
                if place == end:
                    repeated += 1
                    break
            slot = (slot + 1) & (size - 1)
        else:
            return -1
    return repeated


@kernel(f"void(uint8[::1], int64[::1], uint8[::1], {_COUNTS})", nogil=True)
def count_repeats(data: Any, stops: Any, table: Any, repeats: Any) -> None:
    """How many sentences of each text repeat an earlier one; -1 where that takes too long to say.

    `data` holds ASCII texts, which end at `stops`, a zero after each. They are overwritten by
    their words, so that a sentence is compared with others where it stands. `table` makes a byte
    lower case, a line feed where it may end a sentence or begin a tag, and a space where it is in
    no word.
    """
    longest = 0
    begin = 0
    for stop in stops:
        longest = max(longest, stop - begin)
        begin = stop + 1
    most = longest // 2 + 1
    spans, hashes = np.empty((most, 2), np.int64), np.empty(most, np.uint64)
    slots = np.empty(4 * most, np.int64)
    begin = 0
    for text in range(len(stops)):
        stop, place, start, end, count = stops[text], begin, begin, begin, 0
        last, hashed = 32, _BASIS
        data[stop] = ord("<")  # the end is one of the marks at which to stop
        while place <= stop:
            byte = table[data[place]]
            if byte == 10:
                if place == stop or (data[place] != ord("<") and not 48 <= data[place + 1] <= 57):
                    end -= end > start and last == 32
                    if end > start:
                        spans[count, 0], spans[count, 1], hashes[count] = start, end, hashed
                        count += 1
                    start, last, hashed = end, 32, _BASIS
                    place += 1
                    continue
                if data[place] == ord("<"):
                    ahead = place + (2 if data[place + 1] == ord("/") else 1)
                    name = ahead
                    while data[ahead] == ord("_") or 97 <= data[ahead] <= 122:
                        ahead += 1
                    if data[ahead] == ord(">") and ahead > name:
                        place = ahead
                byte = 32  # a tag, as much as a mark inside a number
            place += 1
            # A space counts with the letter after it, so that there is none at either end.
            mixed = (hashed ^ np.uint64(byte) ^ (_SPACE if last == 32 else _NO_SPACE)) * _PRIME
            hashed = mixed if byte != 32 else hashed
            data[end] = byte
            end += (byte != 32) | (last != 32)
            last = byte
        repeats[text] = _repeated(data, spans, hashes, count, slots)
        begin = stop + 1
