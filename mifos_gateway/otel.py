"""The spans of calls to MIFOS, by OpenTelemetry's conventions for HTTP clients, and the trace that goes on to MIFOS.

No path, query, header or body is told: the resource is a template (`route_template.py`), and `url.full`, which the
conventions ask for, is left out. Only `traceparent` and `tracestate` are taken and passed on, whatever
`OTEL_PROPAGATORS` says: a caller's baggage is nobody's business here, and not MIFOS's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.core.signals import setting_changed
from opentelemetry import context, trace
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from breaker.fallbacks import Fallback
from breaker.otel import spans
from mifos_gateway import conf, fallbacks, route_template, targets
from mifos_gateway.guard import Call, Guard

if TYPE_CHECKING:
    import requests

    from mifos_gateway.cached import Cached

_propagator = TraceContextTextMapPropagator()
_HEADERS = {"traceparent": "HTTP_TRACEPARENT", "tracestate": "HTTP_TRACESTATE"}
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))
"""Known to the conventions; a Python caller may send others."""
_ERRORS_FROM = 400
"""The status from which a client's span is an error. (A breaker judges otherwise: a 404 is a success to it.)"""

_called: ContextVar[list[SpanContext] | None] = ContextVar("mifos_gateway_otel_called", default=None)
"""The span of the request's last call to MIFOS: the access log's line comes when it has ended."""


@contextlib.contextmanager
def request(meta: Mapping[str, str]) -> Iterator[None]:
    """All that is done in the block belongs to the caller's trace, which the headers name."""
    before = _called.set([])
    token = context.attach(_extracted(meta))
    try:
        yield
    finally:
        context.detach(token)
        _called.reset(before)


def _extracted(meta: Mapping[str, str]) -> context.Context:
    """The caller's context, unless somebody (an instrumentation of Django, say) has opened a span already."""
    here = context.get_current()
    if trace.get_current_span(here).get_span_context().is_valid:
        return here
    return _propagator.extract({name: meta[key] for name, key in _HEADERS.items() if key in meta}, here)


def ids() -> dict[str, str]:
    """What a log line says of the trace that it belongs to; nothing outside of one."""
    span = trace.get_current_span().get_span_context()
    if (called := _called.get()) and (span.is_remote or not span.is_valid):
        span = called[-1]
    if not span.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}


class TracedGuard(Guard):
    """A guard each of whose calls has a span, a rejected one too; not what the cache gives without a call."""

    def _answered(
        self, call: Call, instead: Fallback | None, keeper: Cached | None = None, seconds: float = 0
    ) -> requests.Response:
        name, attributes = _described(call)
        with spans.guarded_call(
            self._breakers[call.user, call.key], name, kind=SpanKind.CLIENT, attributes=attributes
        ) as running:
            if (called := _called.get()) is not None:
                called[:] = [running.span.get_span_context()]
            try:
                answer = super()._answered(call, instead, keeper, seconds)
            except Exception as error:  # be it a success to the breaker, as an answer too large is
                running.failed(spans.type_of(error), spans.said_of(error))
                raise
            if (provenance := fallbacks.provenance(answer)) != fallbacks.MIFOS:
                running.fell_back(provenance)
            return answer

    def _send(self, call: Call, timeout: float) -> requests.Response:
        answer = super()._send(replace(call, headers=_carrying_the_trace(call.headers)), timeout)
        if running := spans.running(call.breaker):
            running.span.set_attribute("http.response.status_code", answer.status_code)
            if answer.status_code >= _ERRORS_FROM:
                running.failed(str(answer.status_code))
        return answer


def _described(call: Call) -> tuple[str, dict[str, str | int]]:
    """A name, and what is known before the call is made."""
    target = targets.parse(call.target)
    route = route_template.of(target.path, version=target.version)
    template = f"/api/{target.version}/{route.removeprefix('v2/')}"
    known = call.method in _METHODS
    attributes: dict[str, str | int] = {
        "http.request.method": call.method if known else "_OTHER",
        "url.template": template,
        "mifos.resource": route,
        **_server(),
    }
    if not known:
        attributes["http.request.method_original"] = call.method
    return f"{call.method if known else 'HTTP'} {template}", attributes


@cache
def _server() -> dict[str, str | int]:
    url = urlsplit(conf.mifos()["BASE_URL"])
    return {"server.address": url.hostname or "", "server.port": url.port or (443 if url.scheme == "https" else 80)}


def _carrying_the_trace(headers: Mapping[str, str]) -> dict[str, str]:
    """With this span as the parent of whatever MIFOS does."""
    if not trace.get_current_span().get_span_context().is_valid:
        return dict(headers)
    carried = {name: value for name, value in headers.items() if name.lower() not in _HEADERS}
    _propagator.inject(carried)
    return carried


def _forget(*, setting: str, **_: object) -> None:
    if setting == "MIFOS":
        _server.cache_clear()


setting_changed.connect(_forget)
