"""What happens to circuits and calls, as frozen facts for listeners: callables that take one of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from breaker.engine.machine import Snapshot, State

log = logging.getLogger("breaker.engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a breaker guards, in its owner's words: {service} API is failing."""

    service: str = ""
    group: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        for name in ("service", "group", "key"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"label {name}={getattr(self, name)!r}: text is needed")

    def as_dict(self) -> dict[str, str]:
        return {"service": self.service, "group": self.group, "key": self.key}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    breaker: str
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitioned(Event):
    """The computed state changed. Told once in the whole cluster, by the process whose write won."""

    before: State
    after: State
    snapshot: Snapshot
    why: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded(Event):
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    error: BaseException | None
    result: Any = None
    """Without an error: the result that counts as a failure."""
    seconds: float
    left_out: int = 0
    """Events of this kind that were not told since the last, lest an outage flood whoever listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut(Event):
    timeout: float
    seconds: float
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Event):
    reason: str
    """open, half_open, capacity or bulkhead."""
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FellBack(Event):
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackFailed(Event):
    """A fallback raised an error of its own, whether or not another then had an answer."""

    error: BaseException
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted(Event):
    """An operator's act was done. Told once in the whole cluster, by the process through which it came."""

    operation: str
    """reset, open, close, release, enable or disable."""
    before: State
    """As shown, a force included."""
    after: State
    actor: str
    source: str
    """api, admin or command."""
    reason: str
    at: int
    """Milliseconds on the shared store's clock."""
    until: int | None
    """When it ends by itself; None: it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActEnded(Event):
    """What an operator said of the breaker has reached its end; it starts CLOSED. Told once in the whole cluster."""

    operation: str
    """What that amounts to: release, or enable, or disable where the options say so."""
    before: State
    after: State
    at: int
    """Milliseconds on the shared store's clock."""


@dataclass(frozen=True, slots=True)
class StoreLost:
    """The shared store cannot be reached: this process guards alone."""

    reason: str


@dataclass(frozen=True, slots=True)
class StoreBack:
    """The shared state is followed again."""

    alone_seconds: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Every few seconds, once in the cluster: a moment to look at all breakers."""


Listener = Callable[[Any], None]


def complain(message: str) -> None:
    """Log the exception at hand, even where the log fails itself."""
    with contextlib.suppress(Exception):
        log.exception(message)
