"""The metrics at one moment, from Prometheus's families to what the OTLP exporter takes.

Names and labels stay. Prometheus's cumulative buckets become OTLP's separate ones, and on demand counters and
histograms tell what has come since a reading before (delta).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_UNITS = {"_seconds": "s", "_ratio": "1", "_bytes": "By"}

Labels = tuple[tuple[str, str], ...]


class Sample(Protocol):
    """As prometheus_client has it, and so with the families below."""

    name: str
    labels: Mapping[str, str]
    value: float


class Family(Protocol):
    name: str
    documentation: str
    type: str
    samples: Iterable[Sample]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram's counts: `counts[i]` of what is at most `bounds[i]` and above the bound before; the last is above
    all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def since(self, before: Distribution | None) -> Distribution:
        if before is None or before.bounds != self.bounds or any(map(int.__gt__, before.counts, self.counts)):
            return self
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Distribution(self.bounds, counts, max(0.0, self.total - before.total))


@dataclass(frozen=True, slots=True)
class Series:
    """One metric at one moment, by the labels of its points."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help: str
    points: dict[Labels, float | Distribution] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    at_ns: int
    series: dict[str, Series]

    @classmethod
    def of(cls, families: Iterable[Family], *, at_ns: int) -> Reading:
        return cls(at_ns, {found.name: found for family in families for found in _series(family)})

    def after(self, before: Reading | None) -> Reading:
        """With what was told before and is not now: a counter that is missing for a while has not gone back."""
        if before is None:
            return self
        series = dict(before.series)
        for name, now in self.series.items():
            then = series.get(name)
            series[name] = replace(now, points={**then.points, **now.points}) if then else now
        return Reading(self.at_ns, series)


def _series(family: Family) -> Iterable[Series]:
    if family.type == "histogram":
        yield Series(family.name, "histogram", family.documentation, _distributions(family))
        return
    kind = "counter" if family.type == "counter" else "gauge"
    found: dict[str, Series] = {}
    for sample in family.samples:
        if not sample.name.endswith("_created") and math.isfinite(sample.value):
            series = found.setdefault(sample.name, Series(sample.name, kind, family.documentation))
            series.points[_labels(sample.labels)] = float(sample.value)
    yield from found.values()


def _labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _distributions(family: Family) -> dict[Labels, float | Distribution]:
    upto: dict[Labels, dict[float, int]] = {}
    totals: dict[Labels, float] = {}
    for sample in family.samples:
        labels = _labels({name: value for name, value in sample.labels.items() if name != "le"})
        if sample.name.endswith("_bucket"):
            upto.setdefault(labels, {})[float(sample.labels["le"])] = int(sample.value)
        elif sample.name.endswith("_sum"):
            totals[labels] = float(sample.value)
    return {labels: _distribution(counts, totals.get(labels, 0.0)) for labels, counts in upto.items()}


def _distribution(upto: Mapping[float, int], total: float) -> Distribution:
    """Prometheus counts all up to each bound, OTLP what lies between two."""
    bounds = sorted(upto)
    counts = tuple(upto[bound] - (upto[bounds[place - 1]] if place else 0) for place, bound in enumerate(bounds))
    return Distribution(tuple(bound for bound in bounds if math.isfinite(bound)), counts, total)


def to_otlp(reading: Reading, resource: Resource, *, before: Reading | None = None) -> MetricsData:
    """As the exporter takes it. With `before`, counters and histograms tell what has come since (delta)."""
    made = (_metric(each, reading.at_ns, before) for each in reading.series.values())
    scope = ScopeMetrics(InstrumentationScope("breaker"), [each for each in made if each.data.data_points], "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(series: Series, at_ns: int, before: Reading | None) -> Metric:
    unit = next((unit for suffix, unit in _UNITS.items() if series.name.removesuffix("_total").endswith(suffix)), "")
    began = before.at_ns if before else 0  # 0: unknown, for the counters outlive every process
    temporality = AggregationTemporality.DELTA if before else AggregationTemporality.CUMULATIVE
    points: Any = series.points if before is None or series.kind == "gauge" else _since(series, before)
    data: Any
    if series.kind == "histogram":
        data = Histogram([_histogram(labels, told, began, at_ns) for labels, told in points.items()], temporality)
    elif series.kind == "counter":
        numbers = [NumberDataPoint(dict(labels), began, at_ns, told) for labels, told in points.items()]
        data = Sum(numbers, temporality, is_monotonic=True)
    else:
        data = Gauge([NumberDataPoint(dict(labels), 0, at_ns, told) for labels, told in points.items()])
    return Metric(series.name, series.help, unit, data)


def _since(series: Series, before: Reading) -> dict[Labels, Any]:
    """What has been added. A counter that is lower than before has begun anew. One that was not there began at 0 if
    others of its breaker were; else nobody knows, and it is told from the next time on."""
    then: Mapping[Labels, Any] = before.series[series.name].points if series.name in before.series else {}
    known = {_breaker(labels) for labels in then}
    return {
        labels: _added(now, then.get(labels))
        for labels, now in series.points.items()
        if labels in then or _breaker(labels) in known
    }


def _breaker(labels: Labels) -> str:
    return dict(labels).get("breaker", "")


def _added(now: Any, then: Any) -> Any:
    if isinstance(now, Distribution):
        return now.since(then)
    return now if then is None or then > now else now - then


def _histogram(labels: Labels, told: Distribution, began: int, at_ns: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=dict(labels),
        start_time_unix_nano=began,
        time_unix_nano=at_ns,
        count=sum(told.counts),
        sum=told.total,
        bucket_counts=told.counts,
        explicit_bounds=told.bounds,
        min=None,  # type: ignore[arg-type]  # nobody has kept them, and the protocol can do without
        max=None,  # type: ignore[arg-type]
    )
