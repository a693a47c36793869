"""The spans of guarded functions, and what is never in them."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from breaker.engine.circuit import CallRejected
from breaker.fallbacks import Placeholder
from breaker.registry import Guarded, Labels, create_circuit_breaker, get_breaker
from breaker.testing import Cluster, Failure, fail
from tests.otel.conftest import Told

MIFOS = Labels(service="MIFOS", group="maker", key="get")


class Missing(Exception):
    """An error that is an answer."""


def boom(*secrets: object) -> None:
    raise Failure(f"said of {secrets}")


def guard(func: Any = lambda: "ok", **more: Any) -> Guarded:
    return create_circuit_breaker(func, name="balance", labels=MIFOS, **more)


def opened(**more: Any) -> Guarded:
    made = guard(**more)
    fail(made.breaker, 5)
    return made


def test_a_call_has_a_span_by_the_breakers_name(told: Told) -> None:
    guard()()
    assert (told.span.name, told.span.kind, told.span.status.status_code) == (
        "balance",
        SpanKind.INTERNAL,
        StatusCode.UNSET,
    )
    assert told.attributes == {
        "breaker.name": "balance",
        "breaker.service": "MIFOS",
        "breaker.group": "maker",
        "breaker.key": "get",
        "breaker.state": "closed",
        "breaker.outcome": "success",
    }


def test_it_is_the_current_one_while_the_function_runs(told: Told) -> None:
    inside = guard(lambda: trace.get_current_span().get_span_context().span_id)()
    assert inside == told.span.context.span_id


def test_a_failure_is_an_error_of_its_class_and_without_its_text(told: Told) -> None:
    with pytest.raises(Failure):
        guard(boom)("secret")
    assert told.span.status.status_code is StatusCode.ERROR
    assert (told.attributes["breaker.outcome"], told.attributes["error.type"]) == ("failure", "breaker.testing.Failure")
    assert "secret" not in told.span.to_json()


def test_a_timeout_is_told_as_one(told: Told) -> None:
    with pytest.raises(TimeoutError):
        guard(lambda: (_ for _ in ()).throw(TimeoutError))()
    assert (told.attributes["breaker.outcome"], told.attributes["error.type"]) == ("timeout", "TimeoutError")


def test_a_result_that_is_a_failure_is_an_error_of_no_class(told: Told) -> None:
    guard(is_failure=lambda result: result == "ok")()
    assert (told.attributes["breaker.outcome"], told.attributes["error.type"]) == ("failure", "_OTHER")
    assert told.span.status.status_code is StatusCode.ERROR


def test_an_error_that_counts_as_a_success_is_none_of_the_span(told: Told) -> None:
    def missing() -> None:
        raise Missing

    with pytest.raises(Missing):
        guard(missing, error_filter=[Missing])()
    assert (told.attributes["breaker.outcome"], told.span.status.status_code) == ("success", StatusCode.UNSET)


def test_a_rejected_call_has_a_span_that_says_why(told: Told) -> None:
    with pytest.raises(CallRejected):
        opened()()
    said = ("breaker.state", "breaker.outcome", "breaker.reject_reason", "error.type")
    assert [told.attributes[name] for name in said] == ["open", "reject", "open", "rejected"]
    assert told.span.status.status_code is StatusCode.ERROR


def test_a_full_breaker_says_so(told: Told) -> None:
    made = guard(lambda: made(), capacity=1)
    with pytest.raises(CallRejected):
        made()
    inner, outer = told.spans
    assert (inner.attributes["breaker.reject_reason"], inner.parent) == ("capacity", outer.context)


def test_a_fallback_that_answers_is_named(told: Told) -> None:
    guard(boom, fallback=Placeholder(0))()
    said = ("breaker.outcome", "breaker.fallback", "error.type")
    assert [told.attributes[name] for name in said] == ["failure", "placeholder", "breaker.testing.Failure"]


def test_what_a_call_counts_as_stays_when_its_fallback_is_sought(told: Told, house: Cluster) -> None:
    def late() -> None:
        house.clock.advance(31)
        raise Failure

    guard(late, fallback=Placeholder(0))()
    assert told.attributes["breaker.outcome"] == "timeout"


def test_a_rejected_call_may_have_a_fallback(told: Told) -> None:
    assert opened(fallback=lambda: 7)() == 7
    assert (told.attributes["breaker.outcome"], told.attributes["breaker.fallback"]) == ("reject", "custom")


def test_a_trial_is_told_as_half_open(told: Told, house: Cluster) -> None:
    made = opened(reset_timeout=10)
    house.advance(10)
    made()
    assert (told.attributes["breaker.state"], told.attributes["breaker.outcome"]) == ("half_open", "success")


def test_a_block_has_a_span(told: Told) -> None:
    with pytest.raises(Failure), guard(None):
        boom()
    assert (told.span.name, told.attributes["breaker.outcome"]) == ("balance", "failure")


def test_a_decorated_function_has_spans(told: Told) -> None:
    decorated = guard(None)(lambda: 7)
    assert (decorated(), told.span.name) == (7, "balance")


async def test_a_coroutine_function_has_a_span_around_its_awaiting(told: Told) -> None:
    async def fetch() -> int:
        await asyncio.sleep(0)
        return trace.get_current_span().get_span_context().span_id

    assert await guard(fetch)() == told.span.context.span_id
    assert told.attributes["breaker.outcome"] == "success"


async def test_a_cancelled_call_is_an_error_without_an_outcome(told: Told) -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(guard(hang)())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "breaker.outcome" not in told.attributes
    assert told.attributes["error.type"] == "asyncio.exceptions.CancelledError"


def test_an_inner_breaker_used_directly_leaves_the_outer_ones_span_alone(told: Told) -> None:
    inner = create_circuit_breaker(name="inner").breaker

    def call_inner() -> None:
        fail(inner)

    guard(call_inner)()
    assert (told.attributes["breaker.name"], told.attributes["breaker.outcome"]) == ("balance", "success")


def test_an_inner_guarded_call_gives_the_outer_one_its_span_back(told: Told) -> None:
    inner = create_circuit_breaker(lambda: 7, name="inner")

    def call_inner() -> None:
        inner()
        raise Failure

    with pytest.raises(Failure):
        guard(call_inner)()
    assert [span.attributes["breaker.outcome"] for span in told.spans] == ["success", "failure"]


def test_without_opentelemetry_a_call_has_none(house: Cluster) -> None:
    made = guard()
    assert (type(made), type(get_breaker("balance")).__name__) == (Guarded, "SharedCircuitBreaker")
