"""The span of a call to MIFOS, its place in the caller's trace, and what MIFOS and the log get of that."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from breaker.registry import registry
from config import logs
from mifos_gateway import guard, otel, tokens
from mifos_gateway.errors import CredentialsRejected, MifosTimeout, MifosUnavailable, ResponseTooLarge
from mifos_gateway.fallbacks import Placeholder
from mifos_gateway.guard import Call
from mifos_gateway.refusals import ServiceUnavailable
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer
from tests.otel.conftest import Told

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FROM_CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=opaque"}
PERSONAL = "clients/4711/accounts/Frank%20Miller?externalId=987654321"


@pytest.fixture
def mifos(told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMifos]:
    """Behind a guard that is made while OpenTelemetry is on."""
    registry.forget()
    fake = FakeMifos()
    guarded = otel.TracedGuard(fake, breakers=guard.make_breakers(), places=1)
    monkeypatch.setattr(guard, "current", lambda: guarded)
    yield fake
    registry.forget()


def call(method: str = "GET", target: str = "clients", **more: Any) -> Any:
    return guard.current().call(Call("maker", method, target, **more))


def open_circuit(mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(500)
    for _ in range(5):
        call()


def test_it_is_a_clients_span_by_the_conventions(told: Told, mifos: FakeMifos) -> None:
    call("GET", "clients/17/accounts?fields=id")
    assert (told.span.name, told.span.kind) == ("GET /api/v1/clients/{id}/accounts", SpanKind.CLIENT)
    assert told.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.template": "/api/v1/clients/{id}/accounts",
        "server.address": "mifos.invalid",
        "server.port": 80,
        "mifos.resource": "clients/{id}/accounts",
        "breaker.name": "MIFOS-Maker-get",
        "breaker.service": "MIFOS",
        "breaker.group": "maker",
        "breaker.key": "get",
        "breaker.state": "closed",
        "breaker.outcome": "success",
    }


def test_the_second_version_of_the_api_keeps_its_place(told: Told, mifos: FakeMifos) -> None:
    call("POST", "v2/clients/search")
    assert (told.attributes["url.template"], told.attributes["mifos.resource"]) == (
        "/api/v2/clients/search",
        "v2/clients/search",
    )


def test_an_unknown_method_is_told_as_the_conventions_want(told: Told, mifos: FakeMifos) -> None:
    call("PURGE")
    said = ("http.request.method", "http.request.method_original")
    assert [told.span.name, *(told.attributes[name] for name in said)] == ["HTTP /api/v1/clients", "_OTHER", "PURGE"]


def test_no_id_query_or_body_is_in_it(told: Told, mifos: FakeMifos) -> None:
    mifos.behaviour = MifosUnavailable("refused", sent=False)
    with pytest.raises(MifosUnavailable):
        call("PUT", PERSONAL, body=b'{"mobileNo": "555-0199"}', headers={"Idempotency-Key": "key-42"})
    everything = told.span.to_json()
    assert [word for word in ("4711", "Frank", "987654321", "555-0199", "key-42") if word in everything] == []


@pytest.mark.parametrize(
    ("status", "outcome", "error"),
    [
        (204, "success", None),
        (304, "success", None),
        (404, "success", "404"),  # an error to a client's span, and an answer to the breaker
        (429, "failure", "429"),
        (503, "failure", "503"),
    ],
)
def test_a_status_is_an_error_from_400_on(
    told: Told, mifos: FakeMifos, status: int, outcome: str, error: str | None
) -> None:
    mifos.behaviour = mifos_answer(status)
    call()
    assert (told.attributes["http.response.status_code"], told.attributes["breaker.outcome"]) == (status, outcome)
    assert told.attributes.get("error.type") == error
    assert told.span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert told.span.status.description is None


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (MifosUnavailable("refused", sent=False), "failure"),
        (MifosTimeout("late"), "timeout"),
        (ResponseTooLarge("much"), "success"),
    ],
)
def test_an_error_is_told_by_its_class_and_our_own_words(
    told: Told, mifos: FakeMifos, raised: Any, outcome: str
) -> None:
    mifos.behaviour = raised
    with pytest.raises(type(raised)):
        call()
    said = (told.attributes["breaker.outcome"], told.attributes["error.type"], told.span.status.description)
    assert said == (outcome, f"mifos_gateway.errors.{type(raised).__name__}", raised.message)
    assert "http.response.status_code" not in told.attributes


def test_a_401_is_told_as_mifos_has_said_it(told: Told, mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(401)
    with pytest.raises(CredentialsRejected):
        call()
    assert [told.attributes[name] for name in ("http.response.status_code", "error.type")] == [401, "401"]


def test_a_rejected_call_has_a_span_and_mifos_no_call(told: Told, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    with pytest.raises(ServiceUnavailable):
        call()
    assert len(mifos.calls) == 5
    *_, rejected = told.spans
    said = ("breaker.state", "breaker.outcome", "breaker.reject_reason", "error.type")
    assert [rejected.attributes[name] for name in said] == ["open", "reject", "open", "rejected"]
    assert "http.response.status_code" not in rejected.attributes


def test_a_full_bulkhead_is_told(told: Told, mifos: FakeMifos) -> None:
    def call_again() -> Any:
        with pytest.raises(ServiceUnavailable):
            call()
        return mifos_answer()

    mifos.behaviour = call_again
    call()
    assert told.spans[0].attributes["breaker.reject_reason"] == "bulkhead"


def test_a_fallback_says_its_provenance_and_mifoss_status_stays(told: Told, mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(500)
    guard.current().call(Call("maker", "GET", "clients"), fallback=Placeholder({}))
    said = ("breaker.outcome", "breaker.fallback", "http.response.status_code", "error.type")
    assert [told.attributes[name] for name in said] == ["failure", "placeholder", 500, "500"]


# -- the caller's trace, and MIFOS's -----------------------------------------------------------------------------------


@pytest.fixture
def caller(mifos: FakeMifos, db: None) -> Caller:
    return Caller(tokens.issue("shop", maker=True, checker=True))


def sent_to_mifos(mifos: FakeMifos) -> dict[str, str]:
    return {name: value for name, value in mifos.last["headers"].items() if name in ("traceparent", "tracestate")}


def test_the_callers_span_is_the_parent_and_ours_is_mifoss(told: Told, mifos: FakeMifos, caller: Caller) -> None:
    assert caller.mifos(headers=FROM_CALLER).status_code == 200
    assert format_trace_id(told.span.context.trace_id) == TRACE
    assert format_span_id(told.span.parent.span_id) == PARENT
    ours = format_span_id(told.span.context.span_id)
    assert sent_to_mifos(mifos) == {"traceparent": f"00-{TRACE}-{ours}-01", "tracestate": "vendor=opaque"}


@pytest.mark.parametrize("traceparent", ["", "garbage", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_without_a_good_parent_a_trace_begins_here(
    told: Told, mifos: FakeMifos, caller: Caller, traceparent: str
) -> None:
    assert caller.mifos(headers={"traceparent": traceparent}).status_code == 200
    assert told.span.parent is None
    assert sent_to_mifos(mifos)["traceparent"].split("-")[1] == format_trace_id(told.span.context.trace_id)


def test_a_callers_baggage_stays_here(mifos: FakeMifos, caller: Caller) -> None:
    caller.mifos(headers={**FROM_CALLER, "baggage": "customer=4711"})
    assert "baggage" not in {name.lower() for name in mifos.last["headers"]}


def test_a_python_callers_own_header_gives_way(told: Told, mifos: FakeMifos) -> None:
    call(headers={"TraceParent": FROM_CALLER["traceparent"]})
    (name,) = [name for name in mifos.last["headers"] if name.lower() == "traceparent"]
    assert format_span_id(told.span.context.span_id) in mifos.last["headers"][name]


def test_requests_do_not_leak_into_each_other(told: Told, mifos: FakeMifos, caller: Caller) -> None:
    caller.mifos(headers=FROM_CALLER)
    caller.mifos()
    assert told.spans[1].parent is None
    assert otel.ids() == {}


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the access log says, as JSON lines."""
    found: list[dict[str, Any]] = []
    row = dict(logs.dict_config("json", "INFO")["formatters"]["json"])
    formatter = row.pop("()")(row.pop("format"), **row)

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(formatter.format(record)))

    handler = Keep()
    handler.addFilter(logs.RequestIdFilter())
    log = logging.getLogger("gateway.access")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield found
    log.removeHandler(handler)
    log.setLevel(level)


def test_the_access_log_names_the_trace_and_the_span_of_the_call(
    told: Told, mifos: FakeMifos, caller: Caller, lines: list[dict[str, Any]]
) -> None:
    caller.mifos()
    context = told.span.context
    assert [(line["trace_id"], line["span_id"]) for line in lines] == [
        (format_trace_id(context.trace_id), format_span_id(context.span_id))
    ]


def test_a_request_that_calls_nobody_is_of_its_callers_trace(
    mifos: FakeMifos, caller: Caller, lines: list[dict[str, Any]]
) -> None:
    caller.call("GET", "/api/v1/circuit-breaker/status", headers=FROM_CALLER)
    assert [(line["trace_id"], line["span_id"]) for line in lines] == [(TRACE, PARENT)]


def test_a_line_outside_of_a_trace_names_none(lines: list[dict[str, Any]], told: Told) -> None:
    logging.getLogger("gateway.access").info("said")
    assert [line.get("trace_id") for line in lines] == [None]
