"""A stand-in for the published reward and its quantile service (Dr. Seg, arXiv 2603.00152).

Goes in: one completion and its reference, as text. Comes out: its reward. Written from a
description of the published code, none of which stands here, and not slowed on purpose: a ratio
against it is one against this file, not a measurement of the original.

Run as a script it is the TCP service: it takes the key as a line of hex on stdin, prints its port,
and serves until it is told to stop.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

WIDTH = 3
MOST_OBJECTS = 120

# -- the quantile service ---------------------------------------------------------------------


class Queue(Protocol):
    """What the reward needs of a service, in process or behind TCP."""

    def enqueue(self, row: Sequence[float]) -> None: ...
    def query(self, row: Sequence[float]) -> list[float]: ...
    def flush(self) -> None: ...


class PublishedQueue:
    """The service in process: Python rows first in, first out, and a float32 snapshot to search."""

    def __init__(self, window: int = 2048, warm_start: int = 128) -> None:
        self._rows: deque[Sequence[float]] = deque([[0.0] * WIDTH] * warm_start, maxlen=window)
        self._buffer: list[Sequence[float]] = []
        self._lock = threading.Lock()
        self._columns: list[np.ndarray] = []
        self.flush()

    def enqueue(self, row: Sequence[float]) -> None:
        with self._lock:
            self._buffer.append(row)

    def flush(self) -> None:
        """Take in the buffer and sort the whole window anew."""
        with self._lock:
            self._rows.extend(self._buffer)
            self._buffer.clear()
            rows = np.array(self._rows, dtype=np.float32).reshape(-1, WIDTH)
            self._columns = [np.sort(column) for column in rows.T]

    def query(self, row: Sequence[float]) -> list[float]:
        """The ranks of one row, rounded to one decimal."""
        values = np.array(row, dtype=np.float32)
        return [
            round(float(np.searchsorted(column, value, side="right") / len(column)), 1)
            for column, value in zip(self._columns, values, strict=True)
        ]


class RemoteQueue:
    """The service behind TCP: one pickled message a call, and one answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def enqueue(self, row: Sequence[float]) -> None:
        self._ask("enqueue", list(row))

    def query(self, row: Sequence[float]) -> list[float]:
        return self._ask("query", list(row))

    def flush(self) -> None:
        self._ask("flush")

    def stop(self) -> None:
        self._ask("stop")

    def _ask(self, what: str, *arguments: Any) -> Any:
        self._connection.send((what, *arguments))
        if not self._connection.poll(10.0):
            raise TimeoutError(what)
        return self._connection.recv()


def serve(window: int, warm_start: int, key: bytes) -> None:
    """Answer clients, each in a thread of its own, until one of them says stop."""
    queue = PublishedQueue(window, warm_start)

    def answer(connection: Connection) -> None:
        calls = {"enqueue": queue.enqueue, "query": queue.query, "flush": queue.flush}
        while True:
            try:
                what, *arguments = connection.recv()
            except EOFError:
                return
            connection.send(None if what == "stop" else calls[what](*arguments))
            if what == "stop":
                os._exit(0)  # the listener waits in accept, which nothing else ends

    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        print(listener.address[1], flush=True)
        while True:
            threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()


@contextmanager
def running(window: int = 2048, warm_start: int = 128) -> Iterator[RemoteQueue]:
    """A client of a service in a process of its own, which ends with the block."""
    key = os.urandom(16)
    command = [sys.executable, __file__, str(window), str(warm_start)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(key.hex().encode() + b"\n")
        process.stdin.flush()
        try:
            port = int(process.stdout.readline())
            with Client(("127.0.0.1", port), authkey=key) as connection:
                client = RemoteQueue(connection)
                yield client
                client.stop()
        finally:
            process.kill()


# -- the reward of one rollout ----------------------------------------------------------------

_FORMAT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LOOK = re.compile(r"<look>(.*?)</look>", re.DOTALL)
_SENTENCE = re.compile(r"[.!?。！？]")  # noqa: RUF001
_SPACE = re.compile(r"\s+")
_PLACEHOLDERS = ("YOUR REASONING", "WHAT YOU CHECK")


def reward(completion: str, reference: str, queue: Queue) -> float:
    """The whole reward: format, answer's JSON, look, no repetition, and three ranks."""
    return (
        _format(completion)
        + _answer_json(completion)
        + _look(completion)
        + _non_repeat(completion)
        + _accuracy(completion, reference, queue)
    )


def _format(text: str) -> float:
    return 1.0 if _FORMAT.fullmatch(text) else 0.0


def _answer_json(text: str) -> float:
    """One for a box of four and one for a point of two, averaged over the objects."""
    items = _items(text)
    if not items:
        return 0.0
    paid = 0.0
    for item in items:
        if not isinstance(item, dict):
            continue
        box, point = item.get("bbox_2d"), item.get("point_2d")
        paid += isinstance(box, list) and len(box) == 4
        paid += isinstance(point, list) and len(point) == 2
    return paid / len(items)


def _look(text: str) -> float:
    for block in (_THINK, _ANSWER):
        body = block.search(text)
        if body and any(look.strip() for look in _LOOK.findall(body.group(1))):
            return 1.0
    return 0.0


def _non_repeat(text: str) -> float:
    if any(placeholder in text for placeholder in _PLACEHOLDERS):
        return 0.0
    seen: set[str] = set()
    repeats = 0
    for sentence in _SENTENCE.split(text):
        normal = _SPACE.sub(" ", sentence).strip().lower()
        if normal:
            repeats += normal in seen
            seen.add(normal)
    return 0.0 if repeats >= 2 else 1.0


def _accuracy(completion: str, reference: str, queue: Queue) -> float:
    predicted, target = _arrays(_items(completion)), _arrays(json.loads(reference))
    row = geometry(predicted, target)
    queue.enqueue(row)
    return sum(queue.query(row))


def _items(text: str) -> list[Any]:
    body = _ANSWER.search(text)
    if body is None:
        return []
    try:
        items = json.loads(body.group(1))
    except ValueError:
        return []
    return items if isinstance(items, list) else []


def _arrays(items: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (K, 4) and points (K, 2); none at all if an item lacks a key."""
    try:
        items = items[:MOST_OBJECTS]
        boxes = np.array([item["bbox_2d"] for item in items], dtype=np.float64).reshape(-1, 4)
        points = np.array([item["point_2d"] for item in items], dtype=np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError):
        return np.empty((0, 4)), np.empty((0, 2))
    return boxes, points


def geometry(
    predicted: tuple[np.ndarray, np.ndarray], target: tuple[np.ndarray, np.ndarray]
) -> list[float]:
    """Mean IoU, count and mean point score, the pairs matched on a cost of three thresholds."""
    (boxes, points), (target_boxes, target_points) = predicted, target
    m, n = len(boxes), len(target_boxes)
    if m == 0 or n == 0:
        return [0.0, float(m == n), 0.0]
    ious = _ious(boxes, target_boxes)
    l1 = np.abs(boxes[:, None] - target_boxes[None]).mean(axis=2)
    apart = np.linalg.norm(points[:, None] - target_points[None], axis=2)
    x, y = points.T
    inside = (x >= boxes[:, 0]) & (x <= boxes[:, 2]) & (y >= boxes[:, 1]) & (y <= boxes[:, 3])
    hits = (ious > 0.5).astype(float) + (l1 < 10) + ((apart < 30) & inside[:, None])
    rows, columns = linear_sum_assignment(3.0 - hits)
    pairs = list(zip(rows, columns, strict=True))
    iou = sum(float(ious[pair]) for pair in pairs) / len(pairs)
    point = sum(_point_score(float(apart[pair])) for pair in pairs) / len(pairs)
    return [iou, min(m, n) / max(m, n), point]


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(M, N) IoU of boxes whose corners are pixels that belong to them."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low + 1, 0)
    shared = sides[..., 0] * sides[..., 1]
    area_a = (a[:, 2] - a[:, 0] + 1) * (a[:, 3] - a[:, 1] + 1)
    area_b = (b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1)
    return shared / (area_a[:, None] + area_b[None] - shared)


def _point_score(distance: float) -> float:
    if math.isnan(distance) or distance >= 200:
        return 0.0
    return 1.0 if distance <= 30 else (200 - distance) / 170


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.stdin.readline()))
