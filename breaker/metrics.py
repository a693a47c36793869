"""What Prometheus is told of the breakers: the cluster's, whichever process answers. docs/metrics.md has the table.

The only module of this app that needs prometheus_client, and imported by none of the others. In a project of your own:

    from prometheus_client import REGISTRY
    from breaker.metrics import BreakerCollector

    REGISTRY.register(BreakerCollector())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from breaker import queries, totals
from breaker.engine.ledger import LOST, STORE
from breaker.engine.machine import Force, State
from breaker.engine.stores.base import StoreError, Worker
from breaker.engine.sync import Sync
from breaker.engine.window import CHANGES, DURATIONS, FALLBACK, LATENCY, OPEN_MS, SLOT, Outcome, Tally
from breaker.queries import Entry
from breaker.registry import registry

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: str = openmetrics.CONTENT_TYPE_LATEST

_LE = [*map(floatToGoString, DURATIONS), "+Inf"]
_STEPS = len(DURATIONS) + 1
_STATES = [(state, state.value.lower()) for state in State]
_FORCES = [(force, force.value) for force in Force]


class Labels(Mapping[str, str]):
    """A sample's labels, and how they are written. Cheap to make: 1,000 breakers have 30,000."""

    __slots__ = ("_more", "text")

    def __init__(self, **labels: str) -> None:
        self.text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        self._more: tuple[Mapping[str, str], str, str] | dict[str, str] = labels

    def beside(self, name: str, value: str) -> Labels:
        """With one more, whose value has nothing to escape."""
        made = Labels.__new__(Labels)
        made.text = f'{self.text},{name}="{value}"' if self.text else f'{name}="{value}"'
        made._more = (self, name, value)
        return made

    def _whole(self) -> dict[str, str]:
        if isinstance(self._more, tuple):
            others, name, value = self._more
            self._more = {**others, name: value}
        return self._more

    def __getitem__(self, name: str) -> str:
        return self._whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())


class _Lazy:
    """Samples that are made as they are read: 40,000 that live at once cost the garbage collector as much again."""

    __slots__ = ("_made",)

    def __init__(self, made: Callable[[], Iterator[Sample]]) -> None:
        self._made = made

    def __iter__(self) -> Iterator[Sample]:
        return self._made()


def sample(name: str, labels: Labels, value: float) -> Sample:
    """One value; `name` with its suffix."""
    return Sample(name, labels, value)  # type: ignore[arg-type]  # a mapping, and cheaper than a dict


def family(name: str, kind: str, meaning: str, samples: Iterable[Sample] = ()) -> Metric:
    """A metric by its name in the table."""
    metric = Metric(name.removesuffix("_total"), meaning, kind)
    metric.samples = samples  # type: ignore[assignment]
    return metric


def single(name: str, kind: str, meaning: str, value: float) -> Metric:
    """One without labels."""
    return family(name, kind, meaning, [sample(name, _NONE, value)])


_NONE = Labels()


def histogram(name: str, labels: Labels, slots: Callable[[int], int], count: int, micros: int) -> Iterator[Sample]:
    """`slots`: calls of a step of DURATIONS; `count`: all, also those of which no step is known."""
    reached = [*accumulate(map(slots, range(_STEPS)))]
    count = max(count, reached[-1])
    bucket = f"{name}_bucket"
    if reached[-1]:
        for le, below in zip(_LE, reached[:-1], strict=False):
            yield sample(bucket, labels.beside("le", le), below)
    yield sample(bucket, labels.beside("le", "+Inf"), count)
    yield sample(f"{name}_count", labels, count)
    yield sample(f"{name}_sum", labels, micros / 1e6)


class BreakerCollector(Collector):
    """All breakers that were seen within a day, and the store that they share. Never raises, whatever is away."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        status = queries.status(percentiles=False)
        labelled = [(entry, _labels(entry)) for entry in status.entries]
        yield from _gauges(labelled)
        counted = totals.read([STORE, *(entry.name for entry in status.entries)])
        yield from _counters([(counted[entry.name], labels) for entry, labels in labelled if entry.name in counted])
        yield from _store(registry.sync, shared=status.shared, counted=counted.get(STORE))


def _labels(entry: Entry) -> Labels:
    return Labels(breaker=entry.name, client=entry.labels.group, method=entry.labels.key)


Told = Sequence[tuple[Any, Labels]]
"""Of each breaker what there is to tell (an Entry or a Tally), and its labels."""


def _gauges(entries: Told) -> Iterator[Metric]:
    for name, meaning, value in _GAUGES:

        def samples(name: str = name, value: Callable[[Entry], float | None] = value) -> Iterator[Sample]:
            for entry, labels in entries:
                if (found := value(entry)) is not None:
                    yield sample(name, labels, found)

        yield family(name, "gauge", meaning, _Lazy(samples))
    for name, meaning, of_states in _BY_STATE:

        def by_state(name: str = name, of_states: Callable[[Entry], _States] = of_states) -> Iterator[Sample]:
            for entry, labels in entries:
                for state, holds in of_states(entry):
                    yield sample(name, labels.beside("state", state), int(holds))

        yield family(name, "gauge", meaning, _Lazy(by_state))


_States = Iterable[tuple[str, bool]]
_BY_STATE: Sequence[tuple[str, str, Callable[[Entry], _States]]] = (
    (
        "breaker_state",
        "1 for the state that calls meet",
        lambda entry: [(name, entry.standing.state is state) for state, name in _STATES],
    ),
    (
        "breaker_forced",
        "1 while an operator forces it so",
        lambda entry: [(name, entry.standing.forced is force) for force, name in _FORCES],
    ),
)
_GAUGES: Sequence[tuple[str, str, Callable[[Entry], float | None]]] = (
    (
        "breaker_error_ratio",
        "Error rate that decides, of the completed calls in the window",
        lambda entry: entry.totals.deciding_error_rate / 100 if entry.totals.completed else None,
    ),
    (
        "breaker_error_threshold_ratio",
        "Opens when the error ratio is greater",
        lambda entry: entry.policy.error_threshold_percentage / 100,
    ),
    ("breaker_volume_threshold", "Completed calls before it may open", lambda entry: entry.policy.volume_threshold),
    ("breaker_timeout_seconds", "A call's limit", lambda entry: entry.policy.timeout),
    (
        "breaker_reset_timeout_seconds",
        "How long it stays open before a trial",
        lambda entry: entry.policy.reset_timeout,
    ),
    ("breaker_window_seconds", "Length of the window", lambda entry: entry.policy.rolling_count_timeout),
    ("breaker_window_calls", "Completed calls in the window", lambda entry: entry.totals.completed),
    ("breaker_disabled", "1 while calls pass unguarded", lambda entry: int(not entry.enabled)),
    ("breaker_trial_in_flight", "1 while a trial call runs", lambda entry: int(entry.trials > 0)),
)


def _counters(counted: Told) -> Iterator[Metric]:
    for name, kind, meaning, samples in (
        ("breaker_calls_total", "counter", "Calls by how they ended", _calls),
        ("breaker_fallbacks_total", "counter", "Calls that a fallback answered; each reject is one", _fallbacks),
        ("breaker_transitions_total", "counter", "Changes of the state that calls meet", _changes),
        ("breaker_open_seconds_total", "counter", "Time spent open", _open_seconds),
        ("breaker_call_duration_seconds", "histogram", "Time of completed calls", _durations),
    ):
        yield family(name, kind, meaning, _Lazy(partial(samples, name, counted)))


def _calls(name: str, counted: Told) -> Iterator[Sample]:
    for tally, labels in counted:
        for outcome, word in _OUTCOMES:
            yield sample(name, labels.beside("outcome", word), tally.get(outcome, 0))


def _fallbacks(name: str, counted: Told) -> Iterator[Sample]:
    for tally, labels in counted:
        yield sample(name, labels, tally.get(FALLBACK, 0) + tally.get(Outcome.REJECT.value, 0))


def _changes(name: str, counted: Told) -> Iterator[Sample]:
    for tally, labels in counted:
        for field, (before, after) in _CHANGES.items():
            if field in tally or field in _BY_ITSELF:
                yield sample(name, labels.beside("from", before).beside("to", after), tally.get(field, 0))


def _open_seconds(name: str, counted: Told) -> Iterator[Sample]:
    for tally, labels in counted:
        yield sample(name, labels, tally.get(OPEN_MS, 0) / 1000)


def _durations(name: str, counted: Told) -> Iterator[Sample]:
    for tally, labels in counted:
        slots = [tally.get(slot, 0) for slot in _SLOTS]
        completed = sum(tally.get(outcome, 0) for outcome in _COMPLETED)
        yield from histogram(name, labels, slots.__getitem__, completed, tally.get(LATENCY, 0))


_OUTCOMES = [(outcome.value, outcome.name.lower()) for outcome in Outcome]
_COMPLETED = [outcome.value for outcome in Outcome if outcome is not Outcome.REJECT]
_SLOTS = [f"{SLOT}|{number}" for number in range(_STEPS)]
_CHANGES = {
    f"{CHANGES}|{before.value}|{after.value}": (before.value.lower(), after.value.lower())
    for before in State
    for after in State
    if before is not after
}
_BY_ITSELF = {
    f"{CHANGES}|{change}" for change in ("CLOSED|OPEN", "OPEN|HALF_OPEN", "HALF_OPEN|CLOSED", "HALF_OPEN|OPEN")
}
"""Told from the start, at 0; the others, which only an operator makes, once he has."""


def _store(sync: Sync, *, shared: bool, counted: Tally | None) -> Iterator[Metric]:
    if sync.shared is not None:
        yield single("breaker_store_up", "gauge", "1 while the shared store is followed", int(shared))
        if sync.link.round_trip is not None:
            age = max(0.0, sync.monotonic() - sync.link.pushed_at)
            yield single("breaker_store_snapshot_age_seconds", "gauge", "Since the store last answered", age)
            meaning = "Round trip of the last exchange with the store"
            yield single("breaker_store_sync_seconds", "gauge", meaning, sync.link.round_trip)
        if counted is not None:
            meaning = "Calls whose counts were dropped while the store was away"
            yield single("breaker_store_lost_counts_total", "counter", meaning, counted.get(LOST, 0))
    yield single("breaker_workers", "gauge", "Processes that guard calls", len(_workers(sync, shared=shared)))


def _workers(sync: Sync, *, shared: bool) -> Sequence[Worker]:
    if shared and sync.shared is not None:
        with suppress(StoreError):
            return sync.shared.heartbeats()
    return sync.local.heartbeats()


# -- as text -----------------------------------------------------------------------------------------------------------


def render(collectors: Iterable[Any], *, as_openmetrics: bool = False) -> bytes:
    """Prometheus's text format 0.0.4, or OpenMetrics 1.0. (prometheus_client's own takes 5 us for each sample, and
    1,000 breakers have 40,000.) Without timestamps and exemplars."""
    lines: list[str] = []
    for collector in collectors:
        for metric in collector.collect():
            _write(lines, metric, as_openmetrics)
    if as_openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _write(lines: list[str], metric: Metric, as_openmetrics: bool) -> None:
    name = metric.name if as_openmetrics or metric.type != "counter" else f"{metric.name}_total"
    meaning = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    head = len(lines)
    lines.append(f"# HELP {name} {_quoted(meaning) if as_openmetrics else meaning}\n# TYPE {name} {metric.type}\n")
    for sample in metric.samples:
        labels: Any = sample.labels
        value = sample.value
        text = labels.text if type(labels) is Labels else Labels(**labels).text
        number = value if type(value) is int else floatToGoString(value)  # type: ignore[no-untyped-call]
        lines.append(f"{sample.name}{{{text}}} {number}\n" if text else f"{sample.name} {number}\n")
    if len(lines) == head + 1:  # nothing to tell
        lines.pop()


def _quoted(meaning: str) -> str:
    return meaning.replace('"', r"\"")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
