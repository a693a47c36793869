"""The gateway without its breakers: each call goes straight from the bulkhead to the client, and nothing is counted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from breaker import registry
from breaker.engine.circuit import SharedCircuitBreaker
from config.wsgi import application

__all__ = ["application"]


def _call(breaker: SharedCircuitBreaker, func: Callable[..., Any], *args: Any) -> Any:
    return func(*args)


SharedCircuitBreaker.call = _call  # type: ignore[method-assign,assignment]
# gunicorn.conf starts the shared state's background through this name.
registry.start = SimpleNamespace  # type: ignore[assignment]
