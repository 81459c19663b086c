"""Policies: whatever answers a question about an image.

Goes in: images as the policy is to see them, prompts, and the samples' ids. Comes out: a
`Completion` each. `StoredPolicy` reads answers that were written before;
`rankreward.evaluation.transformers_policy` runs a checkpoint, and
`rankreward.evaluation.endpoint_policy` asks a server.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rankreward.errors import InputError

Completions = Sequence["Completion | Exception"]


@dataclass(frozen=True)
class Completion:
    """What a policy wrote.

    Attributes:
        text: without special tokens.
        tokens: how many tokens it took, the end of the turn among them; None if unknown.
        finish: ``"stop"`` if the policy ended its turn, ``"length"`` if it was cut off, or
            whatever else a server says; None if unknown.
    """

    text: str
    tokens: int | None = None
    finish: str | None = None


class Policy(Protocol):
    """Whatever completes prompts.

    A policy may have two things more: ``settings``, a mapping of plain values that its answers
    depend on, so that a run cannot be gone on with under others; and ``check(ids)``, which raises
    if it knows beforehand that it cannot answer.
    """

    def complete(self, images: list[Any], prompts: list[str], ids: list[str]) -> Completions:
        """Answer n prompts.

        Args:
            images: n PIL.Images, RGB, of the recipe's frame.
            prompts: n texts of the user's turn; the image stands before each.
            ids: the samples' n names, for policies whose answers depend on them.

        Returns:
            n completions in order; an exception in the place of one that could not be had, which
            costs that sample alone.
        """
        ...


class StoredPolicy:
    """Answers from a file, for what another program generated.

    Args:
        path: JSON lines with ``id`` and ``completion``; further keys are ignored, so that the
            files of a run are such files, too. Lines of samples that had errors are left out.

    Raises:
        InputError: the file cannot be read, a line is another one, or ids stand twice.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> _ = file.write_text('{"id": "a", "completion": "<answer>[]</answer>"}')
        >>> StoredPolicy(file).complete([None], ["?"], ["a"])[0].text
        '<answer>[]</answer>'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"completions: cannot read {self.path}: {error}") from error
        pairs = [
            _pair(line, f"{self.path}:{number}")
            for number, line in enumerate(content.splitlines(), 1)
            if line.strip()
        ]
        answers = [pair for pair in pairs if pair is not None]
        twice = [name for name, count in Counter(name for name, _ in answers).items() if count > 1]
        if twice:
            raise InputError(f"{self.path}: expected each id once, twice stand {_some(twice)}")
        self._answers = dict(answers)
        self.settings = {"kind": "stored", "sha256": hashlib.sha256(content).hexdigest()}

    def check(self, ids: Iterable[str]) -> None:
        """Whether every id has an answer.

        Raises:
            InputError: some have none; the message names them.
        """
        missing = [name for name in ids if name not in self._answers]
        if missing:
            raise InputError(
                f"{self.path}: expected a completion for every sample, {len(missing)} have none: "
                f"{_some(missing)}"
            )

    def complete(self, images: list[Any], prompts: list[str], ids: list[str]) -> list[Completion]:
        """The stored answers of `ids`; images and prompts are not looked at.

        Raises:
            InputError: as for `check`.
        """
        del images, prompts
        self.check(ids)
        return [self._answers[name] for name in ids]


def _pair(line: bytes, where: str) -> tuple[str, Completion] | None:
    """Id and answer of a line; None for a sample that had an error."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: expected a line of JSON, got {error}") from error
    if isinstance(entry, dict) and "error" in entry and "completion" not in entry:
        return None
    if not isinstance(entry, dict) or not all(
        isinstance(entry.get(key), str) for key in ("id", "completion")
    ):
        raise InputError(f"{where}: expected the texts 'id' and 'completion', got {line[:60]!r}")
    tokens, finish = entry.get("tokens"), entry.get("finish")
    return entry["id"], Completion(
        entry["completion"],
        tokens if isinstance(tokens, int) else None,
        finish if isinstance(finish, str) else None,
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
