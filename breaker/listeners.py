"""Who hears what happens to circuits and calls. A listener that fails is logged and harms nothing.

Add your own with `listeners.add(callable)`; it is called with one of `breaker.engine.events`, in the thread where
it happened, so it must be quick. What takes its time receives `breaker.signals`.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any, NamedTuple

from breaker.engine import events
from breaker.engine.machine import State

log = logging.getLogger("breaker")

STORE_LOST = "Shared breaker state lost - this process guards alone"
STORE_BACK = "Shared breaker state is back after %.1f s - following it again"
ACT_ENDED = "Circuit breaker released - the time that an operator set is over"

_listeners: list[events.Listener] = []


def add(listener: events.Listener) -> None:
    _listeners.append(listener)


def remove(listener: events.Listener) -> None:
    _listeners.remove(listener)


def tell(event: Any) -> None:
    _spared(write_log, event)
    for listener in list(_listeners):
        _spared(listener, event)


def _spared(listener: events.Listener, event: Any) -> None:
    try:
        listener(event)
    except Exception:
        with contextlib.suppress(Exception):  # a log's handler that raises is one of those that fail here
            log.exception("a listener failed on %s", type(event).__name__)


@singledispatch
def write_log(event: Any) -> None:
    """The log that consumers of the service know, by its messages."""


def _service(event: events.Event) -> str:
    return event.labels.service or event.breaker


def _line(level: int, message: str, event: events.Event, **more: Any) -> None:
    """A message, then what belongs to it: as key=value in text, as fields in JSON."""
    fields = {"breaker": event.breaker, **more}
    if left_out := fields.pop("left_out", 0):
        fields["leftOut"] = left_out
    said = " ".join(f"{key}={value}" for key, value in fields.items())
    log.log(level, "%s [%s]", message, said, extra={"event": message, **fields})


class Said(NamedTuple):
    """What is said of an event: a level of `logging`, a message, and the fields that belong to it."""

    level: int
    message: str
    fields: Mapping[str, Any]


def said_of(event: events.Transitioned) -> Said:
    # The generation's id is the one in the store's stream of events, by which a line is found there.
    service, more = _service(event), {"generation": event.snapshot.id, **event.why}
    match event.after:
        case State.OPEN:
            return Said(logging.ERROR, f"Circuit breaker OPENED - {service} API is failing", more)
        case State.CLOSED:
            return Said(logging.INFO, f"Circuit breaker CLOSED - {service} API recovered", more)
        case State.HALF_OPEN:
            kept = {name: value for name, value in more.items() if name in ("generation", "alone")}
            return Said(logging.WARNING, f"Circuit breaker HALF-OPEN - Testing {service} recovery", kept)


@write_log.register
def _(event: events.Transitioned) -> None:
    said = said_of(event)
    _line(said.level, said.message, event, **said.fields)


@write_log.register
def _(event: events.Succeeded) -> None:
    _line(logging.DEBUG, f"{_service(event)} request succeeded (latency: {event.seconds * 1000:.0f}ms)", event)


@write_log.register
def _(event: events.Failed) -> None:
    _line(logging.WARNING, f"{_service(event)} request failed: {reason_of(event)}", event, left_out=event.left_out)


def reason_of(event: events.Failed) -> str:
    """In a word, without what may be personal."""
    if event.error is not None:
        return _kind(event.error)
    status = getattr(event.result, "status_code", None)
    return f"status {status}" if status is not None else "the result counts as a failure"


def _kind(error: BaseException) -> str:
    """An unforeseen error's text may hold personal data; `log_message` is an error's word that it does not."""
    said = getattr(error, "log_message", "")
    return f"{type(error).__name__}{': ' if said else ''}{said}"


@write_log.register
def _(event: events.TimedOut) -> None:
    message = f"{_service(event)} request timed out (timeout: {event.timeout * 1000:.0f}ms)"
    _line(logging.WARNING, message, event, left_out=event.left_out)


@write_log.register
def _(event: events.Rejected) -> None:
    why = {"open": "circuit is OPEN", "half_open": "circuit is HALF-OPEN and its trial call is running"}
    message = f"{_service(event)} request rejected - {why.get(event.reason, 'too many calls are in flight')}"
    _line(logging.WARNING, message, event, left_out=event.left_out)


@write_log.register
def _(event: events.FellBack) -> None:
    _line(logging.WARNING, f"{_service(event)} request answered by its fallback", event, left_out=event.left_out)


@write_log.register
def _(event: events.FallbackFailed) -> None:
    message = f"{_service(event)} fallback failed: {told_of(event.error)}"
    _line(logging.WARNING, message, event, left_out=event.left_out)


def told_of(error: BaseException) -> str:
    """Its kind, and its place in the code, without which whoever wrote what failed has nothing to go by."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (in {frames[-1].name}, {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{_kind(error)}{where}"


@write_log.register
def _(event: events.Acted) -> None:
    who = {"operation": event.operation, "actor": event.actor, "source": event.source, "reason": event.reason}
    words = (event.breaker, *who.values())
    log.warning("Circuit breaker %s: %s by %s (%s): %s", *words, extra={"breaker": event.breaker, **who})


@write_log.register
def _(event: events.ActEnded) -> None:
    _line(logging.INFO, ACT_ENDED, event)


@write_log.register
def _(event: events.StoreLost) -> None:
    log.error(f"{STORE_LOST} (%s)", event.reason)


@write_log.register
def _(event: events.StoreBack) -> None:
    log.warning(STORE_BACK, event.alone_seconds)


@write_log.register
def _(event: events.Tick) -> None:
    from breaker import queries

    for entry in queries.status().entries:
        stats = entry.as_dict()["stats"]
        numbers = " ".join(f"{key}={stats[key]}" for key in ("fires", "failures", "timeouts", "rejects", "errorRate"))
        log.debug(
            "Circuit breaker %s is %s [%s]", entry.name, entry.state, numbers, extra={"snapshot": entry.as_dict()}
        )
