"""A policy behind an OpenAI-compatible server, such as vLLM's.

Goes in: images and prompts. Comes out: completions, asked for several at a time. The standard
library speaks HTTP; nothing else is needed but Pillow.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rankreward.errors import ConfigError, InputError, RankRewardError
from rankreward.evaluation.policies import Completion

_LONGEST = 60.0  # seconds between two tries


class EndpointError(RankRewardError, RuntimeError):
    """A server did not give an answer that can be read."""


class _TryAgainError(Exception):
    """A failure that may pass, and how long the server asks to wait."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class EndpointPolicy:
    """A model that a server offers under ``/chat/completions``. Safe under threads.

    Images are sent as PNG, inside the request. Answers 429 and 5xx, timeouts, broken connections
    and bodies that are no JSON are tried again, each time after twice as long, or as long as the
    server asks; what still fails costs that sample alone.

    Greedy answers may differ between runs all the same: a server that batches requests as they
    come rounds differently.

    Args:
        url: up to the version, such as ``"http://localhost:8000/v1"``.
        model: the name under which the server offers it.
        key: name of the environment variable that holds the key; None for a server without one.
        max_new_tokens: the longest answer.
        temperature: 0 for greedy answers.
        top_p: share of the probability that is sampled from.
        seed: sent with every request.
        concurrency: how many requests are under way at a time; no more than the run's `batch_size`.
        timeout: seconds to wait for a server that says nothing.
        retries: how often a request is tried again.
        backoff: seconds before the first of these.
        extra: further entries of the request, such as ``{"top_k": 20}``.

    Raises:
        ConfigError: the environment variable is not set.
        InputError: the url is no http or https one.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        max_new_tokens: int = 2048,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        concurrency: int = 16,
        timeout: float = 300.0,
        retries: int = 5,
        backoff: float = 1.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"url: expected http:// or https://, got {url!r}")
        if key is not None and not os.environ.get(key):
            raise ConfigError(f"key: expected the key in the environment variable {key!r}, not set")
        self.url = url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self.settings = {
            "kind": "endpoint",
            "model": model,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "extra": dict(extra or {}),
        }
        self.concurrency, self.timeout = concurrency, timeout
        self.retries, self.backoff = retries, backoff
        self._key = key

    def complete(
        self, images: list[Any], prompts: list[str], ids: list[str]
    ) -> list[Completion | Exception]:
        """Ask for all at once, `concurrency` at a time; an `EndpointError` where none came."""
        del ids
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(self._ask, images, prompts))

    def _ask(self, image: Any, prompt: str) -> Completion | Exception:
        body = json.dumps(self._body(image, prompt)).encode()
        for attempt in range(self.retries + 1):
            try:
                return _read(self._post(body))
            except _TryAgainError as error:
                last = error
            except EndpointError as error:
                return error
            if attempt < self.retries:
                wait = self.backoff * 2**attempt if last.wait is None else last.wait
                time.sleep(min(wait, _LONGEST))
        return EndpointError(f"{self.url}: no answer after {self.retries + 1} tries: {last}")

    def _body(self, image: Any, prompt: str) -> dict[str, Any]:
        settings = self.settings
        turn = [
            {"type": "image_url", "image_url": {"url": _data_url(image)}},
            {"type": "text", "text": prompt},
        ]
        return {
            "model": settings["model"],
            "messages": [{"role": "user", "content": turn}],
            "max_tokens": settings["max_new_tokens"],
            "temperature": settings["temperature"],
            "top_p": settings["top_p"],
            "seed": settings["seed"],
            **settings["extra"],  # type: ignore[dict-item]
        }

    def _post(self, body: bytes) -> bytes:
        """The server's answer.

        Raises:
            _TryAgainError: it may come yet.
            EndpointError: it will not.
        """
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {os.environ[self._key]}"
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            said = f"status {error.code}: {error.read()[:200].decode(errors='replace')}"
            if error.code == 429 or error.code >= 500:
                raise _TryAgainError(said, _seconds(error.headers.get("Retry-After"))) from error
            raise EndpointError(f"{self.url}: {said}") from error
        except (OSError, http.client.HTTPException) as error:  # timeouts and connections
            raise _TryAgainError(f"{type(error).__name__}: {error}") from error


def _read(body: bytes) -> Completion:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise _TryAgainError(f"expected JSON, got {body[:60]!r}") from error
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        tokens = (answer.get("usage") or {}).get("completion_tokens")
        finish = choice.get("finish_reason")
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise EndpointError(f"expected choices[0].message.content, got {body[:200]!r}") from error
    if not isinstance(text, str):
        raise EndpointError(f"expected a text in choices[0].message.content, got {body[:200]!r}")
    # What a server says of lengths is taken where it makes sense; the answer stands without.
    whole = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0
    return Completion(text, tokens if whole else None, finish if isinstance(finish, str) else None)


def _data_url(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _seconds(value: str | None) -> float | None:
    """The header Retry-After, where it says seconds."""
    return float(value) if value is not None and value.isdigit() else None
