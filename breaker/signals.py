"""Django's signals of what happens to breakers. docs/listeners.md shows how to receive them.

A signal is sent once, in the process where it happened, by a thread of its own: a receiver may take its time, and one
that fails is logged and harms nothing. `sender` is the model `breaker.models.Breaker`. Every signal has `breaker` (the
name), `labels` (service, group and key, as a dict), `at` (an aware datetime, by the shared store's clock), and:

state_changed   from_state, to_state: CLOSED, OPEN or HALF_OPEN; counts: the evidence, a dict; alone: decided by
                this process for itself, while it could not reach the shared store; else once in the whole cluster
call_failed     outcome: failure or timeout; reason: the error's type, `status 503` or the like; seconds: how long the
                call took; left_out: how many failed since the last that was told, of which ten a second are
call_rejected   reason: open, half_open, capacity or bulkhead; left_out: as above, of one a second
operator_acted  operation: reset, open, close, release, enable or disable; from_state, to_state: as shown; actor;
                source: admin, api, command, or breaker for the end of an act that was given a time; reason; until: when
                it will end, or None. Once in the whole cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial, singledispatch
from typing import Any

from django.dispatch import Signal

from breaker import listeners
from breaker.background import Background
from breaker.engine import events


class BreakerSignal(Signal):
    """One whose receivers' failures are told as all of the breakers' are: an error's text may hold personal data."""

    def _log_robust_failure(self, receiver: Callable[..., Any], err: Exception) -> None:
        name = getattr(receiver, "__qualname__", type(receiver).__qualname__)
        listeners.log.error("a signal's receiver failed: %s: %s", name, listeners.told_of(err))


# With the cache a look whether anybody receives takes no lock.
state_changed = BreakerSignal(use_caching=True)
call_rejected = BreakerSignal(use_caching=True)
call_failed = BreakerSignal(use_caching=True)
operator_acted = BreakerSignal(use_caching=True)

# Calls have a queue of their own: who is slow about each failure of an outage must not keep back that it is over.
_CHANGES, _CALLS = Background("signals"), Background("call-signals")
_SENT_AS: dict[type[Any], tuple[BreakerSignal, Background]] = {
    events.Transitioned: (state_changed, _CHANGES),
    events.Acted: (operator_acted, _CHANGES),
    events.ActEnded: (operator_acted, _CHANGES),
    events.Failed: (call_failed, _CALLS),
    events.TimedOut: (call_failed, _CALLS),
    events.Rejected: (call_rejected, _CALLS),
}


def hear(event: Any) -> None:
    """The listener that sends: where nobody receives a signal nothing is made of its event."""
    from breaker.models import Breaker

    if type(event) not in _SENT_AS:
        return
    signal, queue = _SENT_AS[type(event)]
    if not signal.has_listeners(Breaker):
        return
    common = {"breaker": event.breaker, "labels": event.labels.as_dict()}
    queue.put(partial(signal.send_robust, Breaker, **common, **arguments(event)))


@singledispatch
def arguments(event: Any) -> dict[str, Any]:
    """What a signal says besides the breaker and its labels: plain values, which hold on to no call's data."""
    raise TypeError(f"no signal is sent of {type(event).__name__}")


@arguments.register
def _(event: events.Transitioned) -> dict[str, Any]:
    return {
        "from_state": event.before.value,
        "to_state": event.after.value,
        "counts": {name: value for name, value in event.why.items() if name != "alone"},
        "alone": bool(event.why.get("alone", False)),
        "at": _moment(event.snapshot.since),
    }


@arguments.register
def _(event: events.Failed) -> dict[str, Any]:
    return _failed("failure", listeners.reason_of(event), event)


@arguments.register
def _(event: events.TimedOut) -> dict[str, Any]:
    return _failed("timeout", "timeout", event)


def _failed(outcome: str, reason: str, event: events.Failed | events.TimedOut) -> dict[str, Any]:
    told = {"outcome": outcome, "reason": reason, "seconds": event.seconds}
    return {**told, "left_out": event.left_out, "at": _now()}


@arguments.register
def _(event: events.Rejected) -> dict[str, Any]:
    return {"reason": event.reason, "left_out": event.left_out, "at": _now()}


@arguments.register
def _(event: events.Acted) -> dict[str, Any]:
    who = {"actor": event.actor, "source": event.source, "reason": event.reason}
    return {**_operation(event), **who, "until": None if event.until is None else _moment(event.until)}


@arguments.register
def _(event: events.ActEnded) -> dict[str, Any]:
    who = {"actor": "", "source": "breaker", "reason": "the time that an operator set is over"}
    return {**_operation(event), **who, "until": None}


def _operation(event: events.Acted | events.ActEnded) -> dict[str, Any]:
    states = {"from_state": event.before.value, "to_state": event.after.value}
    return {"operation": event.operation, **states, "at": _moment(event.at)}


def _now() -> datetime:
    from breaker.registry import registry

    return _moment(registry.sync.now())


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
