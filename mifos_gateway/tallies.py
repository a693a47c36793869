"""What the gateway counts beside its calls: requests, and MIFOS's refusals of its users. All processes count together.

In running totals of the shared store, each under its own name, with these fields:

    @requests   r|<method>|<status>|<route>    requests
                h|<step>|<method>|<route>      the same by their time, in steps of breaker.engine.window.DURATIONS
                u|<method>|<route>             their time, microseconds
    @mifos      rejected|<maker or checker>
"""

import re
import time
from collections.abc import Callable
from functools import cache

from django.http import HttpRequest, HttpResponse

from breaker.engine.window import LATENCY, step
from breaker.registry import registry

REQUESTS, MIFOS = "@requests", "@mifos"
REQUEST, REJECTED = "r", "rejected"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
OTHER = "OTHER"
PROBES = {"/livez": "livez", "/readyz": "readyz", "/metrics": "metrics"}
"""Addresses that are answered before Django resolves any."""

_CONVERTER = re.compile(r"<\w+:(\w+)>")


class MetricsMiddleware:
    """Counts each request by the template of its address. Outermost but for the one that gives it its id."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        response = self.get_response(request)
        count_request(request, response.status_code, time.perf_counter() - began)
        return response


def count_request(request: HttpRequest, status: int, seconds: float) -> None:
    note = registry.sync.link.note
    method = request.method if request.method in METHODS else OTHER
    route = route_of(request)
    note(REQUESTS, f"{REQUEST}|{method}|{status}|{route}")
    note(REQUESTS, f"{step(seconds)}|{method}|{route}")
    note(REQUESTS, f"{LATENCY}|{method}|{route}", int(seconds * 1e6))


def route_of(request: HttpRequest) -> str:
    """The template of the address, such as `api/v1/mifos/<client>/<path>`; "" where there is none."""
    if request.resolver_match is None:
        return PROBES.get(request.path_info, "")
    return _template(request.resolver_match.route)


@cache
def _template(route: str) -> str:
    return _CONVERTER.sub(r"<\1>", route)


def count_rejected_credentials(user: str) -> None:
    """MIFOS refused our technical user."""
    registry.sync.link.note(MIFOS, f"{REJECTED}|{user}")
