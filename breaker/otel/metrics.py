"""The metrics by OTLP: those of `GET /metrics`, under the same names, sent by one process of the cluster.

Each process sees the cluster's numbers, so if all sent them they would be counted as often. At every
`OTEL_METRIC_EXPORT_INTERVAL` of the shared clock the process that sent the last time asks first whether it is its
turn; the others ask a quarter of it later, lest it has died. While the shared store is away nobody sends, for nobody
has the cluster's numbers; a process without a shared store sends its own, with its `service.instance.id`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource

from breaker import otel
from breaker.engine.events import complain
from breaker.engine.stores.base import StoreError
from breaker.engine.sync import Sync
from breaker.otel import export
from breaker.otel.readings import Family, Reading, to_otlp
from breaker.registry import registry

log = logging.getLogger("breaker")

CLAIM = "otlp-metrics"
EVERY_MS = 60_000
"""Unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise."""
POINTS_AT_ONCE = 1_000
"""A request of many breakers must not be larger than receivers take (some 500 kB): histograms make it 330 kB."""
_OF_A_PROCESS = ("service.instance.", "process.", "host.", "container.", "k8s.pod.", "k8s.node.", "k8s.container.")


class Turn:
    """Whose turn it is to send, on the shared clock, in milliseconds."""

    def __init__(self, every_ms: int) -> None:
        self.every_ms = every_ms
        self.mine = False
        """Whether it was this process's the last time."""

    def next_slot(self, now_ms: int) -> int:
        return (now_ms // self.every_ms + 1) * self.every_ms

    def asks_at(self, slot_ms: int) -> int:
        return slot_ms + (0 if self.mine else self.every_ms // 4)

    def take(self, sync: Sync, slot_ms: int) -> bool:
        """Ask; of those who do, however late, one gets it. Raises StoreError."""
        if sync.shared is None:
            return True
        self.mine = False  # unless the store answers
        self.mine = sync.shared.claim(f"{CLAIM}:{slot_ms // self.every_ms}", milliseconds=2 * self.every_ms)
        return self.mine


class Sender:
    """Sends what `read` gives, at each slot that is this process's turn."""

    def __init__(
        self,
        sync: Sync,
        read: Callable[[], Iterable[Family]],
        exporter: MetricExporter,
        resource: Resource,
        *,
        every_ms: int = EVERY_MS,
        delta: bool = False,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sync = sync
        self._read = read
        self._exporter = exporter
        self._resource = resource
        self._delta = delta
        self._wall_ns = wall_ns
        self._before: Reading | None = None
        self._lived_ms = 0
        """The last slot."""
        self.turn = Turn(every_ms)

    def run(self) -> None:
        while not self._sync.closed:
            try:
                for moment in self.live(self.turn.next_slot(self._sync.now())):
                    self._wait_until(moment)
                    if self._sync.closed:
                        return
            except StoreError:  # the beat says so
                self._before = None
            except BaseException:  # the thread must live, and not spin
                complain("metrics could not be exported")
                time.sleep(1)

    def live(self, slot_ms: int) -> Iterator[int]:
        """One slot; gives each moment that it must wait for. Raises StoreError.

        For deltas each process reads at the slot, whoever sends: so the next sender goes on where the last has ended.
        """
        yield slot_ms
        if self._sync.shared is not None and (not self._sync.sharing or self._has_missed(slot_ms)):
            self.turn.mine, self._before = False, None  # others have sent meanwhile
        self._lived_ms = slot_ms
        before, reading = self._before, self._reading() if self._delta or self.turn.mine else None
        if self._delta:
            self._before = reading.after(before) if reading else None
        yield self.turn.asks_at(slot_ms)
        if (self._delta and before is None) or not self._knows_all() or not self.turn.take(self._sync, slot_ms):
            return
        if (reading := reading or self._reading()) is not None:
            self._exporter.export(to_otlp(reading, self._resource, before=before))

    def _reading(self) -> Reading | None:
        """None where this process has none but its own numbers, and ought to have the cluster's."""
        made = Reading.of(self._read(), at_ns=self._wall_ns()) if self._knows_all() else None
        return made if self._knows_all() else None

    def _has_missed(self, slot_ms: int) -> bool:
        return slot_ms - self._lived_ms != self.turn.every_ms

    def _knows_all(self) -> bool:
        return self._sync.shared is None or self._sync.sharing

    def _wait_until(self, at_ms: int) -> None:
        while not self._sync.closed and (left := at_ms - self._sync.now()) > 0:
            time.sleep(min(left / 1000, 1.0))


_starting = threading.Lock()
_thread: threading.Thread | None = None


def start() -> None:
    """Run the thread, if the metrics are exported and it does not run yet."""
    global _thread
    if not otel.is_exported("metrics"):
        return
    with _starting:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="breaker-otel-metrics", daemon=True)
            _thread.start()


def _run() -> None:
    try:
        sender = _sender(registry.sync)
    except Exception:
        log.exception("OpenTelemetry metrics cannot be exported")
        return
    sender.run()


def _sender(sync: Sync) -> Sender:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    from breaker.metrics import BreakerCollector

    collectors = otel.collectors or [BreakerCollector()]
    return Sender(
        sync,
        lambda: (metric for collector in collectors for metric in collector.collect()),
        OTLPMetricExporter(max_export_batch_size=POINTS_AT_ONCE),
        _resource(shared=sync.shared is not None),
        every_ms=_every_ms(),
        delta=_temporality() in ("delta", "lowmemory"),
    )


def _resource(*, shared: bool) -> Resource:
    """The cluster speaks, not the process that happens to send: another one's metrics would be other series."""
    made = export.resource()
    if not shared:
        return made
    return Resource({name: value for name, value in made.attributes.items() if not name.startswith(_OF_A_PROCESS)})


def _temporality() -> str:
    return os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()


def _every_ms() -> int:
    said = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    return max(100, int(said)) if said.isdecimal() else EVERY_MS


def _after_fork() -> None:
    global _starting, _thread
    _starting, _thread = threading.Lock(), None


os.register_at_fork(after_in_child=_after_fork)
