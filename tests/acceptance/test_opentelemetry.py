"""What a receiver of OTLP gets from gunicorn's workers, and that one which is away or hangs costs no call anything."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import Got, call, press
from tests.acceptance.gateway import Gateway
from tests.otel.receiver import Receiver, plain
from tests.programs import RedisServer, free_port, wait_for

ERROR = 2
CLIENT = 3
RESET = 3
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_BLRP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture
def start(start_gateway: Callable[..., Gateway], redis_server: RedisServer) -> Callable[..., Gateway]:
    """A gateway of two workers that exports to that address."""

    def begin(url: str, **environ: str) -> Gateway:
        return start_gateway(
            **{"REDIS_URL": redis_server.patient_url, "BREAKER_RESET_TIMEOUT": str(RESET), "LOG_FORMAT": "json"}
            | {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **SOON}
            | environ
        )

    return begin


class Caller:
    """Calls as a traced service does; what each span's parent was is kept."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.sent: list[tuple[str, str, Got]] = []
        """Trace, span and what came of it, in order."""

    def call(self, path: str = "clients", **more: Any) -> Got:
        trace, span = secrets.token_hex(16), secrets.token_hex(8)
        got = call(self.gateway, path, headers={"traceparent": f"00-{trace}-{span}-01"}, **more)
        self.sent.append((trace, span, got))
        return got


def state(gateway: Gateway) -> str:
    return str(gateway.status()["maker"]["get"]["state"])


def outage(gateway: Gateway, sandbox: Sandbox) -> Caller:
    """Five failures, three rejected calls, a trial that succeeds, and a good call."""
    caller = Caller(gateway)
    sandbox.set_faults(mode="error", status=500)
    assert [caller.call("clients/17?externalId=4711").status for _ in range(5)] == [500] * 5
    gateway.wait_until_open()
    assert [caller.call().status for _ in range(3)] == [503] * 3
    sandbox.set_faults(mode="ok")
    wait_for(lambda: state(gateway) == "HALF_OPEN", "half-open")
    wait_for(lambda: caller.call().status == 200, "a call gets through")
    wait_for(lambda: state(gateway) == "CLOSED", "closed")
    wait_for(lambda: caller.call().status == 200, "and another")
    return caller


@pytest.mark.parametrize("preload", ["false", "true"])
def test_an_outage_is_told_whole(start, receiver, sandbox, preload):
    gateway = start(receiver.url, GUNICORN_PRELOAD=preload, OTEL_EXPORTER_OTLP_HEADERS="api-key=for-the-test")
    caller = outage(gateway, sandbox)
    wait_for(lambda: len(receiver.spans) >= len(caller.sent), "all spans are there", 10)
    wait_for(lambda: len(receiver.records) >= 3, "and all transitions", 10)

    # Each call has one span, which its caller's is the parent of.
    spans = {span.it.trace_id.hex(): span for span in receiver.spans}
    assert len(receiver.spans) == len(spans) == len(caller.sent)
    assert [spans[trace].it.parent_span_id.hex() for trace, _, _ in caller.sent] == [at for _, at, _ in caller.sent]
    ordered = [spans[trace] for trace, _, _ in caller.sent]
    assert {span.it.kind for span in ordered} == {CLIENT}
    assert {span.resource["service.name"] for span in ordered} == {"mifos-gateway"}
    assert {headers["api-key"] for headers in receiver.headers} == {"for-the-test"}

    # It says what became of the call, and nothing of whom it was about.
    failed, rejected = ordered[:5], ordered[5:8]
    assert {span.it.name for span in failed} == {"GET /api/v1/clients/{id}"}
    assert [
        (span.attributes["breaker.outcome"], span.attributes["error.type"], span.it.status.code) for span in failed
    ] == [("failure", "500", ERROR)] * 5
    assert [
        (span.attributes["breaker.outcome"], span.attributes["breaker.state"], span.it.status.code) for span in rejected
    ] == [("reject", "open", ERROR)] * 3
    trial = next(span for span in ordered[8:] if span.attributes["breaker.outcome"] == "success")
    assert (trial.attributes["breaker.state"], trial.attributes["http.response.status_code"]) == ("half_open", 200)
    assert "4711" not in str([span.it for span in receiver.spans])

    # A transition is an event of the call that brought it, and a log record, once in the cluster.
    events = [(span, event) for span in ordered for event in span.it.events]
    assert [span.attributes["breaker.outcome"] for span, _ in events] == ["failure", "success"]
    assert {event.name for _, event in events} == {"breaker.transition"}
    assert [(record.it.severity_text, record.it.body.string_value) for record in in_order(receiver)] == [
        ("ERROR", "Circuit breaker OPENED - MIFOS API is failing"),
        ("WARNING", "Circuit breaker HALF-OPEN - Testing MIFOS recovery"),
        ("INFO", "Circuit breaker CLOSED - MIFOS API recovered"),
    ]
    assert [record.it.trace_id for record in in_order(receiver)] == [events[0][0].it.trace_id, b"", trial.it.trace_id]

    # The log's lines name the trace: that of the access log, and that of the transition.
    assert {line["trace_id"] for line in access_log(gateway)} == set(spans)
    (opened,) = [json.loads(line) for line in gateway.log.splitlines() if "Circuit breaker OPENED" in line]
    assert opened["trace_id"] == events[0][0].it.trace_id.hex()


def in_order(receiver: Receiver) -> list[Any]:
    return sorted(receiver.records, key=lambda record: record.it.time_unix_nano)


def test_the_metrics_are_those_of_prometheus_and_one_process_sends_them(start, receiver, sandbox):
    gateway = start(receiver.url)
    sandbox.set_faults(mode="error", status=500)
    assert [call(gateway).status for _ in range(5)] == [500] * 5
    gateway.wait_until_open()
    assert [call(gateway).status for _ in range(3)] == [503] * 3
    mine = {"breaker": "MIFOS-Maker-get", "client": "maker", "method": "get"}

    wait_for(lambda: value(receiver, "breaker_calls_total", **mine, outcome="reject") == 3, "all is told", 10)
    assert value(receiver, "breaker_calls_total", **mine, outcome="failure") == 5
    assert value(receiver, "breaker_state", **mine, state="open") == 1
    assert value(receiver, "breaker_transitions_total", **mine, **{"from": "closed", "to": "open"}) == 1
    (seconds,) = [p for p in last(receiver, "breaker_call_duration_seconds").histogram.data_points if is_of(p, mine)]
    assert (seconds.count, sum(seconds.bucket_counts)) == (5, 5)

    shown = requests.get(f"{gateway.url}/metrics", timeout=10).text
    theirs = set(re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE))
    assert {metric.it.name for metric in receiver.metrics} == theirs

    assert [name for metric in receiver.metrics for name in metric.resource if name == "service.instance.id"] == []
    wait_for(lambda: len(sent_at(receiver)) >= 5, "five exports", 15)
    times = sent_at(receiver)
    # Two that sent would do so twice a second.
    assert (times[-1] - times[0]) / (len(times) - 1) > 0.7


def sent_at(receiver: Receiver) -> list[float]:
    """Seconds, each as often as something was sent then."""
    points = [metric.it.gauge.data_points[0] for metric in receiver.metrics if metric.it.name == "breaker_state"]
    return sorted(point.time_unix_nano / 1e9 for point in points)


def last(receiver: Receiver, name: str) -> Any:
    return [metric.it for metric in receiver.metrics if metric.it.name == name][-1]


def is_of(point: Any, labels: dict[str, str]) -> bool:
    return plain(point.attributes).items() >= labels.items()


def value(receiver: Receiver, name: str, **labels: str) -> float | None:
    """The newest one, if there is any."""
    found = [metric.it for metric in receiver.metrics if metric.it.name == name]
    points = [point for metric in found for point in getattr(metric, metric.WhichOneof("data")).data_points]
    values = [point.as_double for point in points if is_of(point, labels)]
    return values[-1] if values else None


def test_deltas_add_up_whoever_sends_them(start, receiver):
    gateway = start(receiver.url, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta")
    wait_for(lambda: receiver.metrics, "the first deltas", 10)

    calls = 0
    for worker in gateway.workers:  # one of them is the sender
        for _ in range(12):
            assert call(gateway).status == 200
        calls += 12
        wait_for(lambda: gateway.workers_say(successes) == {calls}, "all workers know, so Redis has it")  # noqa: B023
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: added(receiver) == calls, "they add up", 10)  # noqa: B023
        wait_for(lambda: len(gateway.workers) == 2, "another worker is there", 10)
        told = len(sent_at(receiver))
        wait_for(lambda: len(sent_at(receiver)) > told + 4, "it has followed the others for a while", 20)  # noqa: B023

    assert added(receiver) == calls


def successes(status: dict[str, Any]) -> int:
    return int(status["maker"]["get"]["stats"]["successes"])


def added(receiver: Receiver) -> float:
    mine = {"breaker": "MIFOS-Maker-get", "outcome": "success"}
    sums = [metric.it.sum for metric in receiver.metrics if metric.it.name == "breaker_calls_total"]
    return sum(point.as_double for each in sums for point in each.data_points if is_of(point, mine))


def test_mifos_gets_the_trace(start, receiver):
    caller = Caller(start(receiver.url))

    echoed = caller.call("__echo/headers").json

    (trace, _, _), (span,) = caller.sent[0], wait_for_spans(receiver, 1)
    headers = {name.lower(): value for name, value in dict(echoed["headers"]).items()}
    assert headers["traceparent"] == f"00-{trace}-{span.it.span_id.hex()}-01"


def wait_for_spans(receiver: Receiver, count: int) -> list[Any]:
    wait_for(lambda: len(receiver.spans) >= count, f"{count} spans are there", 10)
    return receiver.spans


def test_both_workers_export_what_they_have_before_they_end(start, receiver):
    gateway = start(receiver.url, OTEL_BSP_SCHEDULE_DELAY="60000")  # so that it is the end that sends
    calls = 0
    while len({line["process"] for line in access_log(gateway)}) < 2:  # one may answer many in a row
        press([gateway], 10).all()  # some of them are rejected, which have spans too
        calls += 10

    assert gateway.stop() == 0

    assert len(receiver.spans) == calls
    assert len({span.resource["service.instance.id"] for span in receiver.spans}) == 2


def access_log(gateway: Gateway) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["logger"] == "gateway.access" and line["client"] != "-"]


def test_a_sampler_is_taken_from_the_environment(start, receiver):
    gateway = start(receiver.url, OTEL_TRACES_SAMPLER="parentbased_always_off", OTEL_SERVICE_NAME="gateway-7")
    assert call(gateway).status == 200  # begins a trace that is not wanted
    Caller(gateway).call()  # whose caller wants it

    (span,) = wait_for_spans(receiver, 1)
    gateway.stop()
    assert (len(receiver.spans), span.resource["service.name"]) == (1, "gateway-7")


# -- a receiver that does not do its part ------------------------------------------------------------------------------


def median(gateway: Gateway, calls: int = 60) -> float:
    got = [call(gateway) for _ in range(calls)]
    assert {one.status for one in got} == {200}
    return sorted(one.seconds for one in got)[calls // 2]


@pytest.mark.parametrize("kind", ["hangs", "away"])
def test_a_receiver_that_hangs_or_is_away_costs_no_call_anything(start, receiver, kind):
    receiver.hangs = True
    url = receiver.url if kind == "hangs" else f"http://127.0.0.1:{free_port()}"
    off = median(start("", BREAKER_NAMESPACE="off"))
    # A queue that is soon full, so that spans are dropped as well.
    gateway = start(url, OTEL_BSP_MAX_QUEUE_SIZE="16", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8")

    # What a span itself costs is less than a millisecond; a wait for the receiver would be seconds.
    assert median(gateway) < off + 0.1
    assert sorted(call(gateway).seconds for _ in range(60))[-3] < 1
    assert gateway.log.count("Failed to export spans") <= 2  # each worker, once a minute
    began = time.monotonic()
    assert gateway.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 8  # 2 s for each of the workers, at the same time, and what a stop takes besides
