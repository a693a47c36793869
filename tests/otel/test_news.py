"""Transitions as events of the call that brought them, and as log records."""

import threading
from typing import Any

import pytest
from opentelemetry import trace

from breaker import listeners
from breaker.engine import events
from breaker.engine.courier import Courier
from breaker.engine.machine import State
from breaker.otel.news import hear, in_trace
from breaker.registry import Labels, create_circuit_breaker
from breaker.testing import Cluster, Failure
from tests.otel.conftest import Told


def guarded(**more: Any) -> Any:
    calls = iter(range(100))

    def func() -> None:
        if next(calls) < 5:
            raise Failure

    return create_circuit_breaker(func, name="MIFOS-Maker-get", labels=Labels(service="MIFOS"), **more)


def fail_five_times(made: Any) -> None:
    for _ in range(5):
        with pytest.raises(Failure):
            made()


def test_the_deciding_call_has_the_transition_as_an_event(told: Told) -> None:
    fail_five_times(guarded())
    assert [len(span.events) for span in told.spans] == [0, 0, 0, 0, 1]
    (event,) = told.spans[-1].events
    assert event.name == "breaker.transition"
    assert {name: event.attributes[f"breaker.{name}"] for name in ("name", "from", "to", "failures", "errorRate")} == {
        "name": "MIFOS-Maker-get",
        "from": "closed",
        "to": "open",
        "failures": 5,
        "errorRate": 100.0,
    }


def test_each_transition_is_a_log_record(told: Told, house: Cluster) -> None:
    made = guarded(reset_timeout=10)
    fail_five_times(made)
    house.advance(10)
    made()
    assert [(record.severity_text, record.body) for record in told.records] == [
        ("ERROR", "Circuit breaker OPENED - MIFOS API is failing"),
        ("WARNING", "Circuit breaker HALF-OPEN - Testing MIFOS recovery"),
        ("INFO", "Circuit breaker CLOSED - MIFOS API recovered"),
    ]
    assert {record.event_name for record in told.records} == {"breaker.transition"}


def test_a_record_is_of_the_deciding_calls_trace_and_of_none_when_time_has_brought_it(
    told: Told, house: Cluster
) -> None:
    made = guarded(reset_timeout=10)
    fail_five_times(made)
    house.advance(10)
    made()
    opened, half_opened, closed = told.records
    deciding, trial = told.spans[4], told.spans[5]
    assert (opened.trace_id, opened.span_id) == (deciding.context.trace_id, deciding.context.span_id)
    assert (half_opened.trace_id, closed.span_id) == (0, trial.context.span_id)


def test_an_operators_act_is_a_log_record_without_who_and_why(told: Told) -> None:
    at = {"at": 1_000, "until": None}
    who = {"actor": "olivia", "reason": "the upgrade of client 4711", "source": "admin"}
    acted = events.Acted(
        breaker="MIFOS-Maker-get",
        labels=Labels(),
        operation="open",
        before=State.CLOSED,
        after=State.OPEN,
        **who,
        **at,
    )
    hear(acted)
    (record,) = told.records
    assert record.event_name == "breaker.acted"
    assert dict(record.attributes or {}) == {
        "breaker.name": "MIFOS-Maker-get",
        "breaker.operation": "open",
        "breaker.source": "admin",
        "breaker.from": "closed",
        "breaker.to": "open",
    }
    assert "olivia" not in str(record.body)


def test_a_lost_store_is_a_log_record(told: Told) -> None:
    listeners.tell(events.StoreLost("refused"))
    listeners.tell(events.StoreBack(2.5))
    assert [(record.severity_text, record.body) for record in told.records] == [
        ("ERROR", "Shared breaker state lost - this process guards alone"),
        ("WARNING", "Shared breaker state is back after 2.5 s - following it again"),
    ]


def test_what_the_courier_does_for_a_call_is_of_its_trace(told: Told) -> None:
    courier = Courier(bind=in_trace)
    courier.start()
    try:
        with trace.get_tracer("test").start_as_current_span("call") as span:
            carried = courier.carry(lambda: (threading.current_thread().name, trace.get_current_span()))
        assert carried.result(5) == ("breaker-courier", span)
        assert not courier.carry(trace.get_current_span).result(5).get_span_context().is_valid
    finally:
        courier.stop()
