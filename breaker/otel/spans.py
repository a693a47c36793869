"""A span for each guarded call: what the circuit was, how the call ended, and who answered instead.

Whoever makes the call opens the span, around the fallback too; the circuit notes in it what it alone knows. Nothing
that a call was given or has answered is told, and of an error no text but what is fit for the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from breaker.engine.circuit import CallRejected, Permit, SharedCircuitBreaker
from breaker.engine.window import Outcome
from breaker.fallbacks import Answered
from breaker.otel import export
from breaker.registry import Guarded

tracer = trace.get_tracer("breaker")

REJECTED = "rejected"
"""`error.type` of a call that was not made; of one that failed it is the error's class, and `_OTHER` without one."""
_OTHER = "_OTHER"


class GuardedCall:
    """A guarded call that runs, and its span."""

    __slots__ = ("_has_failed", "breaker", "outcome", "span")

    def __init__(self, breaker: str, span: Span) -> None:
        self.breaker = breaker
        self.span = span
        self.outcome: Outcome | None = None
        self._has_failed = False

    def ended(self, outcome: Outcome | None, error: BaseException | None) -> None:
        """The circuit has counted it so; whoever asks again later (a fallback) changes nothing."""
        if self.outcome is not None or outcome is None:
            return
        self.outcome = outcome
        self.span.set_attribute("breaker.outcome", outcome.name.lower())
        if outcome is not Outcome.SUCCESS:
            self.failed(type_of(error) if error is not None else _OTHER, said_of(error))

    def rejected(self, reason: str) -> None:
        self.outcome = Outcome.REJECT
        self.span.set_attributes({"breaker.outcome": "reject", "breaker.reject_reason": reason})
        self.failed(REJECTED)

    def raised(self, error: BaseException) -> None:
        """It ends in an error. One that counts as a success is an answer, to whoever guards."""
        if self.outcome is None:  # cancelled, or the guard itself failed
            self.failed(type_of(error), said_of(error))

    def failed(self, error_type: str, description: str | None = None) -> None:
        """The span is an error; who said so first knows it best."""
        if not self._has_failed:
            self._has_failed = True
            self.span.set_attribute("error.type", error_type)
            self.span.set_status(StatusCode.ERROR, description)

    def fell_back(self, provenance: str) -> None:
        self.span.set_attribute("breaker.fallback", provenance)


_running: ContextVar[GuardedCall | None] = ContextVar("breaker_otel_running", default=None)


@contextlib.contextmanager
def guarded_call(
    circuit: SharedCircuitBreaker,
    name: str = "",
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
) -> Iterator[GuardedCall]:
    """The span of a call of `circuit`, current while the block runs; by default it bears the breaker's name."""
    export.start()
    labels = {f"breaker.{label}": said for label, said in circuit.labels.as_dict().items() if said}
    with tracer.start_as_current_span(
        name or circuit.name,
        kind=kind,
        attributes={"breaker.name": circuit.name, **labels, **(attributes or {})},
        record_exception=False,  # its text and its frames may hold what the call was given
        set_status_on_exception=False,
    ) as span:
        call = GuardedCall(circuit.name, span)
        token = _running.set(call)
        try:
            yield call
        except BaseException as error:
            call.raised(error)
            raise
        finally:
            _running.reset(token)


def running(breaker: str) -> GuardedCall | None:
    """The innermost call that runs here, if it is one of this breaker."""
    call = _running.get()
    return call if call is not None and call.breaker == breaker else None


def type_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def said_of(error: BaseException | None) -> str | None:
    """An error's own word for the log, which holds nothing personal."""
    return getattr(error, "log_message", None) or None


class TracedCircuit(SharedCircuitBreaker):
    """A circuit that tells the span of each call what became of it."""

    def _settle_plainness(self) -> None:
        self._plain = False  # the short way does not ask what a call counts as

    def _current_view(self) -> Any:
        view = super()._current_view()
        if call := running(self.name):
            call.span.set_attribute("breaker.state", view.state.value.lower())
        return view

    def _reject(self, view: Any, reason: str, *, retry_after: int | None = None) -> CallRejected:
        if call := running(self.name):
            call.span.set_attribute("breaker.state", view.state.value.lower())
            call.rejected(reason)
        return super()._reject(view, reason, retry_after=retry_after)

    def outcome(self, result: Any, error: BaseException | None, seconds: float) -> Outcome | None:
        outcome = super().outcome(result, error, seconds)
        if call := running(self.name):
            call.ended(outcome, error)
        return outcome


class TracedGuarded(Guarded):
    """A guarded function, or block, each of whose calls has a span."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._func is None or self._async:
            return super().__call__(*args, **kwargs)
        with guarded_call(self.breaker):
            return super().__call__(*args, **kwargs)

    async def _call_async(self, *args: Any, **kwargs: Any) -> Any:
        with guarded_call(self.breaker):
            return await super()._call_async(*args, **kwargs)

    @contextlib.contextmanager
    def _block(self) -> Iterator[Permit]:
        with guarded_call(self.breaker), super()._block() as permit:
            yield permit

    def _count(self, found: Answered, *, rejected: bool) -> Any:
        if call := running(self.breaker.name):
            call.fell_back(found.provenance)
        return super()._count(found, rejected=rejected)
