"""The export by OTLP, from the environment's `OTEL_…`: made in the process that exports, after it was forked.

Spans and log records wait in bounded queues (`OTEL_BSP_…`, `OTEL_BLRP_…`), which threads of the SDK empty: a receiver
that is away or hangs costs them, and no call any time. Where a project has set up an SDK of its own, that one exports.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry import _logs, trace
from opentelemetry._logs._internal import ProxyLoggerProvider

from breaker import conf, otel

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

log = logging.getLogger("breaker")

FLUSH_SECONDS = 2.0
"""So long an ending process waits for what it has not exported yet."""

EXPORTERS = "opentelemetry.exporter.otlp.proto.http"
_HEADERS_LOGGER = "opentelemetry.util.re"


class Sparing(logging.Filter):
    """One line of a kind a minute: while a receiver is away each export has several to say."""

    EVERY = 60.0

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._told: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = (record.name, str(record.msg)), self._monotonic()
        if now - self._told.get(kind, float("-inf")) < self.EVERY:
            return False
        self._told[kind] = now
        return True


class Discreet(logging.Filter):
    """What cannot be read of `OTEL_EXPORTER_OTLP_HEADERS` may be a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.args = ("(not shown)",)
        return True


_starting = threading.Lock()
_started = False
_ends: list[Callable[[], None]] = []


def start() -> None:
    """Export what the environment asks for; the first call alone does anything. What fails is logged, no more."""
    global _started
    if _started:
        return
    with _starting:
        if _started:
            return
        _started = True
        try:
            _start()
        except Exception:
            log.exception("OpenTelemetry cannot be exported")


def _start() -> None:
    logging.getLogger(_HEADERS_LOGGER).addFilter(Discreet())
    for each in ("trace_exporter", "_log_exporter", "metric_exporter"):
        logging.getLogger(f"{EXPORTERS}.{each}").addFilter(Sparing())
    if otel.is_exported("traces") and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        _ends.append(_export_spans())
    if otel.is_exported("logs") and isinstance(_logs.get_logger_provider(), ProxyLoggerProvider):
        _ends.append(_export_logs())
    if _ends:
        atexit.register(finish)


def _export_spans() -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _export_logs() -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=resource(), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(provider)
    return provider.shutdown


def resource() -> Resource:
    """Who speaks, by `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    made = Resource.create()
    if str(made.attributes[SERVICE_NAME]).startswith("unknown_service"):
        made = made.merge(Resource({SERVICE_NAME: conf.service_name()}))
    return made


def finish(seconds: float = FLUSH_SECONDS) -> None:
    """Send what waits, no longer than that; nothing is exported afterwards.

    By threads, for the SDK's own end waits for half a minute where a receiver hangs.
    """
    threads = [threading.Thread(target=end, name="breaker-otel-end", daemon=True) for end in _ends]
    _ends.clear()
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _after_fork() -> None:
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
