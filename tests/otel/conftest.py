"""OpenTelemetry as a project would have set it up, with exporters that keep what they get."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from breaker import listeners
from breaker.otel import news
from breaker.testing import Cluster
from tests.breaker.conftest import house as house

_spans, _records = InMemorySpanExporter(), InMemoryLogRecordExporter()


class Told:
    """What was told of in a test, and has ended."""

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(_spans.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        (one,) = self.spans
        return one

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.span.attributes or {})

    @property
    def records(self) -> list[Any]:
        return [found.log_record for found in _records.get_finished_logs()]


@pytest.fixture(scope="session")
def _providers() -> None:
    """A process has one of each, for good; without OpenTelemetry on nobody uses them."""
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(_spans))
    trace.set_tracer_provider(tracing)
    logging = LoggerProvider(shutdown_on_exit=False)
    logging.add_log_record_processor(SimpleLogRecordProcessor(_records))
    _logs.set_logger_provider(logging)


@pytest.fixture
def told(_providers: None, house: Cluster, settings: Any) -> Iterator[Told]:
    """OpenTelemetry is on, and its listener is there."""
    settings.BREAKER = {**settings.BREAKER, "OPENTELEMETRY": True}
    listeners.add(news.hear)
    _spans.clear()
    _records.clear()
    yield Told()
    listeners.remove(news.hear)
