"""The metrics as OTLP has them, and whose turn it is to send them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource

from breaker.engine.stores.base import StoreError
from breaker.otel import metrics
from breaker.otel.metrics import Sender
from breaker.otel.readings import Reading, to_otlp
from breaker.testing import Cluster

SECOND = 1_000_000_000
EVERY = 60_000
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


@dataclass
class Sample:
    """As prometheus_client's."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=lambda: {"breaker": "x"})


@dataclass
class Family:
    name: str
    type: str
    samples: list[Sample]
    documentation: str = "what it means"


def counter(value: float, name: str = "breaker_calls", **labels: str) -> Family:
    told = {"breaker": "x", **labels}
    return Family(name, "counter", [Sample(f"{name}_total", value, told), Sample(f"{name}_created", 7, told)])


def histogram(*upto: int, total: float) -> Family:
    name = "breaker_call_duration_seconds"
    buckets = [
        Sample(f"{name}_bucket", count, {"breaker": "x", "le": le})
        for le, count in zip(("0.1", "1.0", "+Inf"), upto, strict=True)
    ]
    return Family(name, "histogram", [*buckets, Sample(f"{name}_count", upto[-1]), Sample(f"{name}_sum", total)])


def reading(*families: Family, at: int = 100) -> Reading:
    return Reading.of(families, at_ns=at * SECOND)


def encoded(now: Reading, before: Reading | None = None) -> dict[str, Any]:
    """As it goes out, by the metrics' names."""
    request = encode_metrics(to_otlp(now, Resource({"service.name": "x"}), before=before))
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def test_a_counter_keeps_its_name_and_labels() -> None:
    (metric,) = encoded(reading(counter(5, outcome="failure"))).values()
    (point,) = metric.sum.data_points
    assert (metric.name, metric.description, metric.unit) == ("breaker_calls_total", "what it means", "")
    assert (metric.sum.is_monotonic, metric.sum.aggregation_temporality) == (True, CUMULATIVE)
    assert {pair.key: pair.value.string_value for pair in point.attributes} == {"breaker": "x", "outcome": "failure"}
    assert (point.as_double, point.time_unix_nano, point.start_time_unix_nano) == (5, 100 * SECOND, 0)


def test_a_gauge_is_one_and_what_is_no_number_is_left_out() -> None:
    found = encoded(
        reading(
            Family("breaker_error_ratio", "gauge", [Sample("breaker_error_ratio", 0.25)]),
            Family("breaker_window_calls", "gauge", [Sample("breaker_window_calls", math.nan)]),
        )
    )
    assert [(metric.name, metric.unit, metric.gauge.data_points[0].as_double) for metric in found.values()] == [
        ("breaker_error_ratio", "1", 0.25)
    ]


@pytest.mark.parametrize(
    ("name", "unit"),
    [("breaker_timeout_seconds", "s"), ("breaker_open_seconds", "s"), ("breaker_state", ""), ("x_ratio", "1")],
)
def test_the_unit_is_the_names(name: str, unit: str) -> None:
    kind = "counter" if "open" in name else "gauge"
    sample = Sample(f"{name}_total" if kind == "counter" else name, 1)
    (metric,) = encoded(reading(Family(name, kind, [sample]))).values()
    assert metric.unit == unit


def test_a_histograms_buckets_no_longer_hold_each_other() -> None:
    (metric,) = encoded(reading(histogram(3, 10, 12, total=7.5))).values()
    (point,) = metric.histogram.data_points
    assert (metric.name, metric.unit) == ("breaker_call_duration_seconds", "s")
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([0.1, 1.0], [3, 7, 2])
    assert (point.count, point.sum) == (12, 7.5)
    assert [name for name in ("min", "max") if point.HasField(name)] == []


def test_a_delta_is_what_has_come_since() -> None:
    before = reading(counter(5), histogram(1, 2, 2, total=1.0), at=40)
    found = encoded(reading(counter(8), histogram(1, 5, 6, total=4.0)), before)
    calls, seconds = found["breaker_calls_total"].sum, found["breaker_call_duration_seconds"].histogram
    assert (calls.aggregation_temporality, seconds.aggregation_temporality) == (DELTA, DELTA)
    (call,), (second,) = calls.data_points, seconds.data_points
    assert (call.as_double, call.start_time_unix_nano, call.time_unix_nano) == (3, 40 * SECOND, 100 * SECOND)
    assert (list(second.bucket_counts), second.count, second.sum) == ([0, 3, 1], 4, 3.0)


def test_a_breaker_that_was_not_told_before_is_not_told_with_its_whole_past() -> None:
    now = counter(8)
    now.samples.append(Sample("breaker_calls_total", 1_000, {"breaker": "late", "outcome": "success"}))
    now.samples.append(Sample("breaker_calls_total", 2, {"breaker": "x", "outcome": "reject"}))
    found = encoded(reading(now), reading(counter(8), at=40))
    assert [point.as_double for point in found["breaker_calls_total"].sum.data_points] == [0, 2]


def test_a_counter_that_is_missing_for_a_while_has_not_gone_back() -> None:
    first = reading(counter(5), at=40)
    without = reading(at=100).after(first)
    found = encoded(reading(counter(8), at=160), without)
    (point,) = found["breaker_calls_total"].sum.data_points
    assert (point.as_double, point.start_time_unix_nano) == (3, 100 * SECOND)


def test_a_counter_that_began_anew_tells_what_it_has() -> None:
    before = reading(counter(5), histogram(1, 5, 9, total=9.0), at=40)
    found = encoded(reading(counter(2), histogram(1, 1, 1, total=0.1)), before)
    assert found["breaker_calls_total"].sum.data_points[0].as_double == 2
    assert found["breaker_call_duration_seconds"].histogram.data_points[0].count == 1


# -- whose turn it is --------------------------------------------------------------------------------------------------


class Exporter:
    def __init__(self) -> None:
        self.values: list[float] = []

    def export(self, data: Any, **more: Any) -> MetricExportResult:
        (resource,) = data.resource_metrics
        self.values += [metric.data.data_points[0].value for metric in resource.scope_metrics[0].metrics]
        return MetricExportResult.SUCCESS


class Senders(Cluster):
    """A sender in each worker; all see the one counter of the cluster."""

    def __init__(self, workers: int, *, delta: bool = False) -> None:
        super().__init__(workers)
        self.count = 0.0
        self.told = True
        """Whether the counter is told now."""
        self.exporters = [Exporter() for _ in self.workers]
        self.senders = [
            Sender(
                worker,
                lambda: [counter(self.count)] * self.told,  # type: ignore[arg-type,list-item]
                exporter,  # type: ignore[arg-type]
                Resource({}),
                every_ms=EVERY,
                delta=delta,
                wall_ns=lambda: int(self.clock.now * SECOND),
            )
            for worker, exporter in zip(self.workers, self.exporters, strict=True)
        ]

    def slot(self, *, count: float, without: int | None = None) -> list[int]:
        """The next slot, at which the counter is at `count`: which of them have sent. Those who ask later find it
        higher, for time goes on."""
        before = [len(exporter.values) for exporter in self.exporters]
        begins = self.senders[0].turn.next_slot(self.workers[0].now())
        lives = {place: sender.live(begins) for place, sender in enumerate(self.senders) if place != without}
        due = {place: next(life) for place, life in lives.items()}
        self.count = count
        while due:
            place = min(due, key=lambda each: (due[each], each))
            self.clock.advance(max(0.0, (due[place] - self.workers[0].now()) / 1000))
            self.count = count if due[place] == begins else count + 0.5
            moment = next(lives[place], None)
            due = {**due, place: moment} if moment else {each: due[each] for each in due if each != place}
        return [place for place, exporter in enumerate(self.exporters) if len(exporter.values) > before[place]]


def test_one_process_sends_and_goes_on_sending() -> None:
    senders = Senders(4)
    assert [senders.slot(count=number) for number in range(5)] == [[0]] * 5


def test_when_it_dies_another_goes_on_in_the_same_slot() -> None:
    senders = Senders(3)
    assert [senders.slot(count=1), senders.slot(count=2, without=0), senders.slot(count=3)] == [[0], [1], [1]]


def test_two_that_both_take_it_for_theirs_are_one_again_at_once() -> None:
    senders = Senders(3)
    senders.slot(count=1)
    for sender in senders.senders:
        sender.turn.mine = True
    assert [senders.slot(count=2), senders.slot(count=3)] == [[0], [0]]


def test_who_comes_late_sends_if_nobody_else_has_and_only_then() -> None:
    senders = Senders(2)
    clock, worker = senders.clock, senders.workers[0]
    begins = senders.senders[0].turn.next_slot(worker.now())
    lives = [sender.live(begins) for sender in senders.senders]
    for life in lives:
        assert [next(life), next(life)] == [begins, begins + EVERY // 4]
    clock.advance((begins - worker.now() + EVERY * 0.9) / 1000)
    assert [next(life, None) for life in lives] == [None, None]
    assert [len(exporter.values) for exporter in senders.exporters] == [1, 0]


def test_deltas_go_on_where_the_one_that_died_has_ended() -> None:
    senders = Senders(3, delta=True)
    assert senders.slot(count=5) == []  # nothing to compare with
    assert [senders.slot(count=7), senders.slot(count=10, without=0), senders.slot(count=14)] == [[0], [1], [1]]
    assert [exporter.values for exporter in senders.exporters] == [[2], [3, 4], []]


def test_deltas_go_on_when_a_counter_was_missing_for_a_while() -> None:
    senders = Senders(1, delta=True)
    for count, senders.told in ((5, True), (7, True), (8, False), (10, True)):
        senders.slot(count=count)
    assert senders.exporters[0].values == [2, 3]


def test_a_process_that_was_away_sends_no_delta_of_its_own_past() -> None:
    senders = Senders(2, delta=True)
    for count in (5, 7):
        senders.slot(count=count)
    senders.workers[0].lose("cut")
    assert senders.slot(count=9) == [1]
    for _ in range(4):
        senders.advance(1)
    assert (senders.slot(count=11), senders.slot(count=14, without=1)) == ([1], [0])
    assert senders.exporters[0].values == [2, 3]


def test_nobody_sends_while_the_store_is_away() -> None:
    senders = Senders(2)
    senders.slot(count=1)
    for worker in senders.workers:
        worker.lose("cut")
    assert senders.slot(count=2) == []


def test_a_store_that_is_lost_over_the_question_is_no_turn() -> None:
    senders = Senders(1)
    senders.slot(count=1)

    def cut(*args: Any, **more: Any) -> bool:
        raise StoreError("cut")

    senders.store.claim = cut  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        senders.slot(count=2)
    assert not senders.senders[0].turn.mine


def test_a_process_without_a_shared_store_sends_by_itself() -> None:
    from breaker.engine.sync import Sync

    exporter = Exporter()
    sender = Sender(Sync(None, threads=False), lambda: [counter(3)], exporter, Resource({}))  # type: ignore[arg-type,list-item]
    assert len(list(sender.live(EVERY))) == 2
    assert exporter.values == [3]


# -- the environment ---------------------------------------------------------------------------------------------------


def test_the_cluster_speaks_and_not_the_process_that_sends(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.BREAKER = {**settings.BREAKER, "SERVICE_NAME": "mifos-gateway"}
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,host.name=a,k8s.pod.name=b,service.instance.id=c"
    )
    shared, own = (metrics._resource(shared=shared).attributes for shared in (True, False))
    assert shared["service.name"] == "mifos-gateway"
    assert shared["deployment.environment.name"] == "prod"
    assert [name for name in own if name not in shared] == ["service.instance.id", "host.name", "k8s.pod.name"]


def test_a_name_that_is_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway-7")
    assert metrics._resource(shared=True).attributes["service.name"] == "gateway-7"


@pytest.mark.parametrize(("said", "every"), [("", 60_000), ("15000", 15_000), ("nonsense", 60_000), ("1", 100)])
def test_the_interval_is_the_environments(monkeypatch: pytest.MonkeyPatch, said: str, every: int) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", said)
    assert metrics._every_ms() == every
