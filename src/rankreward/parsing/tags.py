r"""Tags in model text, by linear scan.

Goes in: a text. Comes out: where its think and answer blocks are, and the first thing that is
wrong with their structure. Only `str.find` walks the text: the usual regular expression
``<think>.*?</think>\s*<answer>.*?</answer>`` takes cubic time on an unclosed tag.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankreward.parsing.failure import Failure


@dataclass(frozen=True)
class Span:
    """A tag's body: ``text[start:stop]``."""

    start: int
    stop: int


@dataclass(frozen=True)
class Blocks:
    """The blocks of a text; None where a block cannot be told."""

    think: Span | None
    answer: Span | None
    failure: Failure | None


def find_blocks(text: str) -> Blocks:
    """Find the think block and the answer block after it.

    The well-formed text is one ``<think>`` block, white space, one ``<answer>`` block, and
    nothing else. An answer inside the think block is a draft and never read as the answer.

    Returns:
        The spans, and the first departure from the well-formed text, or None. The answer is
        still given where it is beyond doubt (stray text around the blocks, a missing or draft-
        ridden think block); it is None where it is not (a tag unclosed, several answers).
    """
    think, failure = _find_think(text)
    if failure is not None and failure.code == "unclosed_tag":
        return Blocks(None, None, failure)
    # Where <think> is missing the chat template may have opened it: what stands before the last
    # </think> is reasoning all the same.
    end = text.rfind("</think>") if think is None else think.stop
    begin = 0 if end < 0 else end + len("</think>")
    answer, late = _find_answer(text, begin)
    failure = failure or late
    if failure is None and think is not None and answer is not None:
        failure = _stray(text, think, answer)
    return Blocks(think, answer, failure)


def find_bodies(text: str, tag: str, span: Span) -> tuple[str, ...]:
    """The non-blank bodies of `tag` inside a span, stripped, in order; unclosed ones are left out.

    In nested tags of the same name the innermost body counts.
    """
    bodies, opening, closing = [], f"<{tag}>", f"</{tag}>"
    place = text.find(opening, span.start, span.stop)
    while place >= 0:
        stop = text.find(closing, place, span.stop)
        if stop < 0:
            break
        start = text.rfind(opening, place, stop) + len(opening)
        body = text[start:stop].strip()
        if body:
            bodies.append(body)
        place = text.find(opening, stop, span.stop)
    return tuple(bodies)


def _find_think(text: str) -> tuple[Span | None, Failure | None]:
    opening = text.find("<think>")
    if opening < 0:
        return None, _missing("think", 0)
    answer = text.find("<answer>")
    if 0 <= answer < opening:
        return None, Failure("missing_tag", "expected <think> before <answer>", answer)
    start = opening + len("<think>")
    stop = text.find("</think>", start)
    if stop < 0:
        return None, Failure("unclosed_tag", "<think> is never closed", opening)
    span = Span(start, stop)
    for tag in ("<think>", "<answer>", "</answer>"):
        inner = text.find(tag, start, stop)
        if inner >= 0:
            return span, Failure("nested_tag", f"{tag} inside the think block", inner)
    return span, None


def _find_answer(text: str, begin: int) -> tuple[Span | None, Failure | None]:
    opening = text.find("<answer>", begin)
    if opening < 0:
        return None, _missing("answer", begin)
    start = opening + len("<answer>")
    stop = text.find("</answer>", start)
    if stop < 0:
        return None, Failure("unclosed_tag", "<answer> is never closed", opening)
    again = text.find("<answer>", start)
    if 0 <= again < stop:
        return None, Failure("nested_tag", "<answer> inside the answer block", again)
    if again >= 0:
        return None, Failure("repeated_tag", "expected one <answer>, got several", again)
    return Span(start, stop), None


def _stray(text: str, think: Span, answer: Span) -> Failure | None:
    """The first text outside the blocks, white space between them excepted."""
    before = think.start - len("<think>")
    after = answer.stop + len("</answer>")
    if before > 0:
        return Failure("stray_text", f"{before} characters before <think>", 0)
    between = text[think.stop + len("</think>") : answer.start - len("<answer>")]
    if between.strip():
        return Failure("stray_text", "text between </think> and <answer>", think.stop + 8)
    if after < len(text):
        return Failure("stray_text", f"{len(text) - after} characters after </answer>", after)
    return None


def _missing(tag: str, position: int) -> Failure:
    return Failure("missing_tag", f"expected <{tag}>, got none", position)
