"""A user's own terms and metrics, by name.

Goes in: a function or a class, registered under a name. Comes out: a `kind` that recipes may use
beside those of the library.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from rankreward.errors import ConfigError

_T = TypeVar("_T", bound=Callable[..., Any])

_OWN: dict[str, Callable[..., Any]] = {}
_TAKEN: set[str] = set()  # kinds of the library
_RESERVED = {"kind", "weight", "share"}  # keys that a recipe gives every term or metric


def term(name: str) -> Callable[[_T], _T]:
    """Register a function or a class, as a decorator, so that recipes can name it.

    A function is called once a completion, with a `rankreward.Sample` and, as keywords, the
    options that the recipe gives; it returns a number. A class is made once a `Scorer`, with the
    options; the object is then called with a `Sample`. As a term the number has to be finite; as
    a metric, whose values are ranked, NaN says that it does not apply.

    Args:
        name: the `kind` by which recipes name it: lower-case letters, digits and underscores.

    Returns:
        A decorator that returns what it decorates.

    Raises:
        ConfigError: the name is malformed, or another function or class has it, or an option is
            named like a key that every term has.

    Example:
        >>> @term("brevity_example")
        ... def brevity(sample, *, limit=400):
        ...     return float(len(sample.text) <= limit)
        >>> is_own("brevity_example")
        True
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(
            f"term: expected a name of lower-case letters, digits and underscores, got {name!r}"
        )

    if name in _TAKEN:
        raise ConfigError(f"term {name!r}: the name is one of the library's own kinds")

    def register(function: _T) -> _T:
        if not callable(function):
            raise ConfigError(
                f"term {name!r}: expected a function or a class, got {type(function).__name__}"
            )
        taken = _OWN.get(name)
        # A notebook's cell that runs again replaces what it defined before.
        if taken is not None and _place(taken) != _place(function):
            raise ConfigError(f"term {name!r}: the name is taken by {_place(taken)}")
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            raise ConfigError(
                f"term {name!r}: expected something whose arguments can be seen, got {function!r}"
            ) from None
        if not inspect.isclass(function) and not parameters:
            raise ConfigError(
                f"term {name!r}: expected a function of a sample, got one without arguments"
            )
        further = list(parameters.values())[not inspect.isclass(function) :]
        nameless = [each.name for each in further if each.kind is each.POSITIONAL_ONLY]
        if nameless:
            raise ConfigError(
                f"term {name!r}: options are given by name, which {nameless[0]!r} cannot be"
            )
        clash = _RESERVED & _options(function).keys()
        if clash:
            raise ConfigError(f"term {name!r}: no option can have the name {min(clash)!r}")
        _OWN[name] = function
        return function

    return register


def reserve(names: Iterable[str]) -> None:
    """Keep the names of the library's own kinds."""
    _TAKEN.update(names)


def is_own(kind: object) -> bool:
    """Whether a term or metric of that name was registered."""
    return isinstance(kind, str) and kind in _OWN


def own_kinds() -> tuple[str, ...]:
    """The names that were registered."""
    return tuple(_OWN)


def make(kind: str, options: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The callable behind a name, with its options; classes are made here."""
    if kind not in _OWN:
        raise ConfigError(f"term {kind!r} is not registered in this process; see rankreward.term")
    made, options = _OWN[kind], copy.deepcopy(dict(options))
    if inspect.isclass(made):
        instance = made(**options)
        if not callable(instance):
            raise ConfigError(f"term {kind!r}: objects of {_place(made)} cannot be called")
        return instance
    return lambda sample: made(sample, **options)


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """See whether a registered term takes the options that a recipe gives it.

    Raises:
        ValueError: it does not know one, one is missing, or one is no plain value, which could
            not be compared with that of a saved state.
    """
    known = _options(_OWN[kind])
    parameters = inspect.signature(_OWN[kind]).parameters.values()
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for name in options:
        if name in _sample(_OWN[kind]) or (name not in known and not takes_all):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"
            hint = hint if known else "it has no options"
            raise ValueError(f"unknown option {name!r}: {hint}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise ValueError(f"option {name!r} is missing")
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected options of plain values, as YAML has them: {error}") from None


def _options(made: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of a function (those after the sample) or of a class."""
    parameters = list(inspect.signature(made).parameters.values())
    if not inspect.isclass(made):
        parameters = parameters[1:]
    kinds = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return {each.name: each for each in parameters if each.kind in kinds}


def _sample(made: Callable[..., Any]) -> tuple[str, ...]:
    """The name of a function's argument for the sample, which no option can have."""
    return () if inspect.isclass(made) else tuple(inspect.signature(made).parameters)[:1]


def _place(made: Callable[..., Any]) -> str:
    return f"{getattr(made, '__module__', '?')}.{getattr(made, '__qualname__', repr(made))}"
