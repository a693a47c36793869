"""What happens to circuits, told twice: as an event in the span of the call that brought it, and as a log record.

A transition that time brings has no call, and so no span. The text and fields are those of the log's lines.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any, TypeVar

from opentelemetry import _logs, context, trace
from opentelemetry._logs import LogRecord, SeverityNumber

from breaker import listeners
from breaker.engine import events

T = TypeVar("T")

logger = _logs.get_logger("breaker")

TRANSITION = "breaker.transition"
_SEVERITIES = {"INFO": SeverityNumber.INFO, "WARNING": SeverityNumber.WARN, "ERROR": SeverityNumber.ERROR}


@singledispatch
def hear(event: Any) -> None:
    """A listener, to be added to `breaker.listeners`."""


@hear.register
def _(event: events.Transitioned) -> None:
    said = listeners.said_of(event)
    told = {f"breaker.{name}": value for name, value in said.fields.items() if isinstance(value, str | int | float)}
    fromto = {"breaker.from": event.before.value.lower(), "breaker.to": event.after.value.lower()}
    attributes = {"breaker.name": event.breaker, **fromto, **told}
    span = trace.get_current_span()
    if span.is_recording():
        span.add_event(TRANSITION, attributes)
    _log(TRANSITION, logging.getLevelName(said.level), said.message, attributes)


@hear.register
def _(event: events.Acted) -> None:
    """Without who and why, which are free text: they are in the log and among the events."""
    fromto = {"breaker.from": event.before.value.lower(), "breaker.to": event.after.value.lower()}
    attributes = {"breaker.name": event.breaker, "breaker.operation": event.operation, "breaker.source": event.source}
    _log("breaker.acted", "WARNING", f"Operator: {event.operation}", attributes | fromto)


@hear.register
def _(event: events.ActEnded) -> None:
    _log("breaker.act_ended", "INFO", listeners.ACT_ENDED, {"breaker.name": event.breaker})


@hear.register
def _(event: events.StoreLost) -> None:
    _log("breaker.store_lost", "ERROR", listeners.STORE_LOST, {"breaker.reason": event.reason})


@hear.register
def _(event: events.StoreBack) -> None:
    message = listeners.STORE_BACK % event.alone_seconds
    _log("breaker.store_back", "WARNING", message, {"breaker.alone_seconds": event.alone_seconds})


def _log(name: str, level: str, message: str, attributes: Mapping[str, str | int | float]) -> None:
    logger.emit(
        LogRecord(
            timestamp=time.time_ns(),
            severity_number=_SEVERITIES[level],
            severity_text=level,
            body=message,
            attributes=attributes,
            event_name=name,
        )
    )


def in_trace(work: Callable[[], T]) -> Callable[[], T]:
    """What a thread does for a call, with that call's span as the current one."""
    given = context.get_current()

    def traced() -> T:
        token = context.attach(given)
        try:
            return work()
        finally:
            context.detach(token)

    return traced
