"""Two trainers import as ``verl``: verl's own, and EasyR1. Says which one is here.

Goes in: nothing. Comes out: the one that Python would import, found by its files, not imported.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

ENTRIES = {"verl": "main_ppo.py", "EasyR1": "main.py"}  # each one's own in the folder trainer
INSTALL = {
    "verl": "pip install verl==0.9.1 (and vLLM, as verl's documentation says)",
    "EasyR1": "see https://github.com/hiyouga/EasyR1#installation",
}


@dataclass(frozen=True)
class Found:
    """What imports as ``verl``.

    Attributes:
        name: ``"verl"``, ``"EasyR1"``, or ``"nothing"``, or ``"something else"``.
        place: its folder, empty for nothing.
    """

    name: str
    place: str = ""


def find() -> Found:
    """What ``import verl`` would give."""
    spec = importlib.util.find_spec("verl")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    if not places:
        return Found("nothing")
    for name, entry in ENTRIES.items():
        if (Path(places[0]) / "trainer" / entry).is_file():
            return Found(name, places[0])
    return Found("something else", places[0])


def demand(wanted: str) -> Found:
    """What is here, if it is the wanted one.

    Raises:
        ImportError: it is not; the message says what is, and how to get the wanted one.
    """
    found = find()
    if found.name != wanted:
        where = f" in {found.place}" if found.place else ""
        raise ImportError(
            f"expected {wanted} to import as verl, found {found.name}{where}. An environment holds "
            f"one of the two; make one for {wanted}: {INSTALL[wanted]}"
        )
    return found
