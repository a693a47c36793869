"""Give each request its id, its line in the access log, and its errors their one shape."""

import contextlib
import logging
from collections.abc import Callable

from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse

from breaker import otel
from mifos_gateway import api_errors, exchange, request_id
from mifos_gateway.exchange import Exchange
from mifos_gateway.metrics import MetricsView
from mifos_gateway.probes import LiveView, ReadyView
from mifos_gateway.routes import METHODS

log = logging.getLogger("gateway.access")

GetResponse = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Outermost: whatever answers, the answer carries `X-Request-ID`."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        begun = exchange.begin(request)
        before = request_id.current.set(begun.request_id)
        try:
            response = _in_our_shape(request, self.get_response(request))
        finally:
            request_id.current.reset(before)
        response.headers["X-Request-ID"] = begun.request_id
        if getattr(response, "is_of_unknown_length", False):
            # CommonMiddleware takes an empty body for a length of 0, but HEAD and 304 speak of another body's.
            del response.headers["Content-Length"]
        return _without_body(response) if request.method == "HEAD" else response


class TraceContextMiddleware:
    """Outside of all that logs: a caller's trace goes on. Without OpenTelemetry it is not there."""

    def __init__(self, get_response: GetResponse) -> None:
        if not otel.is_on():
            raise MiddlewareNotUsed
        from mifos_gateway.otel import request

        self.get_response = get_response
        self.in_trace = request

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with self.in_trace(request.META):
            return self.get_response(request)


class ProbeMiddleware:
    """Answers probes and Prometheus before anything looks at `Host` or scheme: they ask by address and without TLS."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.views = {"/livez": LiveView.as_view(), "/readyz": ReadyView.as_view(), "/metrics": MetricsView.as_view()}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        view = self.views.get(request.path_info)
        if view is None:
            return self.get_response(request)
        response: HttpResponse = view(request)
        if isinstance(response, SimpleTemplateResponse):  # an error is a plain one, with nothing to render
            response.render()
        return response


class AccessLogMiddleware:
    """One line per API call, without anything that could be personal: no path, query, body or token."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path_info.startswith("/api/v1/"):
            with contextlib.suppress(Exception):  # a log that fails must not fail the call; where could we say so?
                write_line(request, response.status_code)
        return response


def write_line(request: HttpRequest, status: int) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    done = exchange.of(request)
    fields = {
        "consumer": done.consumer,
        "client": done.client,
        "method": request.method if request.method in METHODS else "OTHER",
        "route": _route(request, done),
        "status": status,
        "outcome": done.outcome or ("success" if status < 400 else "refused" if status < 500 else "error"),
        "duration_ms": done.duration_ms,
    }
    if done.code:
        fields["code"] = done.code
    line = " ".join(f"{name}={value}" for name, value in fields.items())
    log.info("%s", line, extra={**fields, "request_id": done.request_id})


def _route(request: HttpRequest, done: Exchange) -> str:
    if done.route != "-" or request.resolver_match is None:
        return done.route
    return request.resolver_match.route


def _in_our_shape(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Django's pages pass by the handlers where DEBUG is on and where CSRF or host is refused; WhiteNoise's always."""
    is_mifoss = hasattr(response, "is_of_unknown_length")
    is_json = response.headers.get("Content-Type", "") == "application/json"  # ours, health and readiness
    if response.status_code < 400 or is_mifoss or is_json:
        return response
    if exchange.expects_html(request):
        response.headers.setdefault("X-Gateway-Error", api_errors.code_of(response.status_code))
        return response
    kept = {name: response.headers[name] for name in ("Allow", "Content-Range") if name in response.headers}
    return api_errors.answer(request, status=response.status_code, headers=kept)


def _without_body(response: HttpResponse) -> HttpResponse:
    """A server would drop the body of a HEAD's answer, and warn; its length may stay."""
    if not response.streaming and response.content:
        response.headers.setdefault("Content-Length", str(len(response.content)))
        response.content = b""
    return response
