"""A receiver of OTLP over HTTP, as a collector is one: it decodes what comes by the protocol's own messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

SERVICES: dict[str, tuple[Any, Any]] = {
    "/v1/traces": (traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
    "/v1/logs": (logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
}


@dataclass(frozen=True)
class Got:
    """A span, a log record or a metric, and who has sent it."""

    it: Any
    resource: dict[str, Any]

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.it.attributes)


def plain(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@dataclass
class Receiver:
    """`with Receiver() as receiver: … receiver.url … receiver.spans`. While `hangs` it takes calls and says nothing."""

    hangs: bool = False
    headers: list[dict[str, str]] = field(default_factory=list)
    _messages: list[Any] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._free = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="otlp-receiver", daemon=True).start()
        return self

    def __exit__(self, *raised: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._free.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        self.headers.append(headers)
        if self.hangs:
            self._free.wait(60)
        request, response = SERVICES[path]
        self._messages.append(request.FromString(body))
        return bytes(response().SerializeToString())

    @property
    def spans(self) -> list[Got]:
        return self._all(traces.ExportTraceServiceRequest, "spans", "scope_spans", "spans")

    @property
    def records(self) -> list[Got]:
        return self._all(logs.ExportLogsServiceRequest, "logs", "scope_logs", "log_records")

    @property
    def metrics(self) -> list[Got]:
        return self._all(metrics.ExportMetricsServiceRequest, "metrics", "scope_metrics", "metrics")

    def _all(self, kind: Any, signal: str, scopes: str, things: str) -> list[Got]:
        return [
            Got(thing, plain(each.resource.attributes))
            for message in list(self._messages)
            if isinstance(message, kind)
            for each in getattr(message, f"resource_{signal}")
            for scope in getattr(each, scopes)
            for thing in getattr(scope, things)
        ]


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.take(self.path, body, headers)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
