"""The compiled kernels: they index sorted columns, rank values in them, and merge them.

Importing this file loads Numba and takes about a second, and some more the first time on a
machine, so it is imported through `compiled` alone. The twins in NumPy are `ecdf.ecdf` and
`ecdf.merge`; their answers are the same to the bit.

How a value is ranked. Each column keeps its distinct values (keys) and, beside them, a table of
ready ranks. A uniform grid over the range of the keys tells in one multiplication which few keys a
value lies among; a binary search of a fixed number of steps finishes, for 32 values in lockstep,
so that the processor waits for many reads at once and no branch is mispredicted. Where values are
so uneven that all keys share a bucket, that search is a plain binary search in lockstep.

Layout of a grid, a row per column:

    floats  [lowest key, buckets per unit, K keys, 2 K + 1 ranks]
    index   [first stride of the search, number of keys, G + 1 starts of buckets]

Rank 2 k is that of a value between key k - 1 and key k, rank 2 k - 1 that of key k - 1 itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import uint32, uint64

from rankreward.compiled import kernel

LANES = 32  # values in lockstep: enough to hide the latency of memory, few enough to stay in cache
BLOCK = 16  # values of a run that are copied at once
LARGEST = np.finfo(np.float64).max
FINE, INFINITE, WRONG_WIDTH = 0, 1, 2  # what `ecdf` and `ecdf_row` return

_COLUMNS = "float64[:, ::1]"
_GRID = "float64[:, ::1], int32[:, ::1]"


@kernel(f"void({_COLUMNS}, int64[::1], float64, float64, {_GRID})", nogil=True)
def grid(
    columns: Any, counts: Any, equal_share: float, empty: float, floats: Any, index: Any
) -> None:
    """Fill a grid from sorted columns.

    `columns` (N, M) ascending, of which the first `counts` (N,) values of each count.
    `equal_share` is what a history value equal to the ranked one counts, 0, 0.5 or 1; `empty` the
    rank against a column without values. `floats` (N, 3 M + 3) and `index` (N, G + 3) are filled.
    """
    room = (floats.shape[1] - 3) // 3
    buckets = index.shape[1] - 3
    for j in range(columns.shape[0]):
        column, count = columns[j], counts[j]
        keys, ranks, starts = floats[j, 2 : 2 + room], floats[j, 2 + room :], index[j, 2:]
        starts[:] = 0
        ranks[0] = empty if count == 0 else 0.0
        floats[j, 0] = floats[j, 1] = 0.0
        index[j, 0] = index[j, 1] = 0
        if count == 0:
            continue
        distinct = 0
        i = 0
        while i < count:
            value, below = column[i], i
            i += 1
            while i < count and column[i] == value:
                i += 1
            keys[distinct] = value
            if equal_share == 0.5:
                ranks[2 * distinct + 1] = (below + i) / (2.0 * count)
            else:
                ranks[2 * distinct + 1] = (i if equal_share == 1.0 else below) / float(count)
            distinct += 1
            ranks[2 * distinct] = i / float(count)
        lowest = keys[0]
        width = keys[distinct - 1] - lowest
        # A width of denormals would make the scale infinite, and infinity times 0 undefined.
        scale = min(buckets / width, LARGEST) if width > 0 else 0.0
        top = float(buckets - 1)
        for i in range(distinct):
            place = (keys[i] - lowest) * scale
            place = place if place > 0.0 else 0.0  # NaN, if the width overflowed, is 0 as well
            place = place if place < top else top
            starts[np.int32(place) + 1] += 1
        fullest, before = 0, 0
        for g in range(buckets + 1):
            fullest = max(fullest, starts[g])
            before += starts[g]
            starts[g] = before
        stride = 1
        while stride * 2 <= fullest:
            stride *= 2
        floats[j, 0], floats[j, 1] = lowest, scale
        index[j, 0], index[j, 1] = stride, distinct


@kernel(f"int64({_GRID}, {_COLUMNS}, {_COLUMNS})", nogil=False)
def ecdf_row(floats: Any, index: Any, values: Any, out: Any) -> int:
    """Rank a few rows, one value after the other; holds the GIL, whose release would cost more."""
    width = values.shape[1]
    if width != floats.shape[0]:
        return WRONG_WIDTH
    room = (floats.shape[1] - 3) // 3
    top = float(index.shape[1] - 4)
    infinite = False
    for b in range(values.shape[0]):
        for j in range(width):
            x = values[b, j]
            infinite |= x == np.inf or x == -np.inf
            place = (x - floats[j, 0]) * floats[j, 1]
            place = place if place > 0.0 else 0.0
            place = place if place < top else top
            base = index[j, 2 + np.int32(place)]
            stride, distinct = index[j, 0], index[j, 1]
            while stride > 0:
                probe = min(base + stride, distinct)
                base = base + stride if floats[j, 1 + probe] <= x else base
                stride >>= 1
            base = min(base, distinct)
            exact = base > 0 and floats[j, 1 + base] == x
            rank = floats[j, 2 + room + 2 * base - exact]
            out[b, j] = rank if x == x else np.nan
    return INFINITE if infinite else FINE


@kernel(f"int64({_GRID}, {_COLUMNS}, {_COLUMNS})", nogil=True)
def ecdf(floats: Any, index: Any, values: Any, out: Any) -> int:
    """Rank a batch of rows (B, N) into `out` (B, N), 32 values in lockstep, without the GIL."""
    rows, width = values.shape
    if width != floats.shape[0]:
        return WRONG_WIDTH
    room = (floats.shape[1] - 3) // 3
    top = float(index.shape[1] - 4)
    xs = np.zeros(LANES)
    base = np.zeros(LANES, np.uint32)
    infinite = False
    for j in range(width):
        lowest, scale = floats[j, 0], floats[j, 1]
        keys, ranks, starts = floats[j, 2 : 2 + room], floats[j, 2 + room :], index[j, 2:]
        first, distinct = index[j, 0], uint32(index[j, 1])
        if distinct == 0:
            for b in range(rows):
                x = values[b, j]
                infinite |= x == np.inf or x == -np.inf
                out[b, j] = ranks[0] if x == x else np.nan
            continue
        last = uint32(distinct - 1)
        for b in range(0, rows, LANES):
            lanes = min(LANES, rows - b)
            for i in range(lanes):
                xs[i] = values[b + i, j]
            for i in range(LANES):
                place = (xs[i] - lowest) * scale
                place = place if place > 0.0 else 0.0
                place = place if place < top else top
                base[i] = uint32(starts[uint32(np.int32(place))])
            stride = first
            while stride > 0:
                reach, step = uint32(stride - 1), uint32(stride)
                for i in range(LANES):
                    probe = min(base[i] + reach, last)
                    base[i] += step if keys[probe] <= xs[i] else uint32(0)
                stride >>= 1
            for i in range(lanes):
                x = xs[i]
                k = min(base[i], distinct)
                exact = uint32(k > 0 and keys[uint32(k - 1)] == x)
                infinite |= x == np.inf or x == -np.inf
                rank = ranks[uint32(2 * k - exact)]
                out[b + i, j] = rank if x == x else np.nan
    return INFINITE if infinite else FINE


@kernel(f"void({_COLUMNS}, int64[::1], {_COLUMNS}, {_COLUMNS}, {_COLUMNS}, int64[::1])", nogil=True)
def merge(columns: Any, counts: Any, leaving: Any, entering: Any, out: Any, sizes: Any) -> None:
    """Sorted columns without some values and with others, still sorted.

    `columns` (N, M) and `counts` (N,) as in `grid`; `leaving` (N, L), all of them in the columns,
    and `entering` (N, E) are sorted, NaN last. `out` (N, at least the new size) and `sizes` (N,)
    are filled. Between two events a run is copied: its first values in one block without a branch,
    which is all of it in a small window, and the rest, found by galloping, as a whole.
    """
    for j in range(columns.shape[0]):
        column, target, count = columns[j], out[j], counts[j]
        gone, new = leaving[j], entering[j]
        n_gone, n_new, room = len(gone), len(new), len(target)
        while n_gone > 0 and np.isnan(gone[n_gone - 1]):
            n_gone -= 1
        while n_new > 0 and np.isnan(new[n_new - 1]):
            n_new -= 1
        a = b = read = written = 0
        while a < n_gone or b < n_new:
            next_gone = gone[a] if a < n_gone else np.inf
            next_new = new[b] if b < n_new else np.inf
            drop = next_gone <= next_new
            x = next_gone if drop else next_new
            run = BLOCK
            if read + BLOCK <= count and written + BLOCK < room:
                run = 0
                here, there = uint64(read), uint64(written)  # no check for a negative place
                for i in range(BLOCK):
                    value = column[here + uint64(i)]
                    target[there + uint64(i)] = value
                    run += value < x
                read += run
                written += run
            if run == BLOCK:  # x lies further on, or the end is near
                low, high, stride = read, read, BLOCK
                while high < count and column[high] < x:
                    low = high + 1
                    high += stride
                    stride *= 2
                high = min(high, count)
                while low < high:
                    middle = (low + high) >> 1
                    if column[middle] < x:
                        low = middle + 1
                    else:
                        high = middle
                run = low - read
                target[written : written + run] = column[read:low]
                read += run
                written += run
            if written < room:
                target[uint64(written)] = x  # if it leaves, what follows overwrites it
            a += drop
            read += drop
            b += not drop
            written += not drop
        run = count - read
        target[written : written + run] = column[read:count]
        sizes[j] = written + run


@kernel(f"void({_COLUMNS}, uint64, int64[::1], uint64[::1])", nogil=True)
def shuffle_keys(rows: Any, seed: Any, order: Any, keys: Any) -> None:
    """The lexicographic order of rows (B, N), NaN last, and SplitMix64's first B numbers.

    `order` (B,) and `keys` (B,) are filled. A merge sort from the bottom up, on places.
    """
    count, width = rows.shape
    for i in range(count):
        order[i] = i
        z = seed + uint64(i + 1) * uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
        keys[i] = z ^ (z >> uint64(31))
    spare = np.empty(count, np.int64)
    source, target = order, spare
    run = 1
    while run < count:
        for start in range(0, count, 2 * run):
            a, middle = start, min(start + run, count)
            b, end = middle, min(start + 2 * run, count)
            for k in range(start, end):
                left = b >= end
                if not left and a < middle:
                    left = True
                    for j in range(width):
                        x, y = rows[source[a], j], rows[source[b], j]
                        if x == y or (x != x and y != y):
                            continue
                        left = x < y or y != y
                        break
                if left:
                    target[k] = source[a]
                    a += 1
                else:
                    target[k] = source[b]
                    b += 1
        source, target = target, source
        run *= 2
    if count > 0:
        order[:] = source
