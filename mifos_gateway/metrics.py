"""`GET /metrics` for Prometheus. docs/metrics.md has the table.

What there is to tell beyond breakers and requests is told by a further collector, an object with `collect()` as
prometheus_client has them: `metrics.register(collector)`, in an app's `ready()`.
"""

import platform
import secrets
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from typing import Any

import django
from django.http import HttpResponse
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from rest_framework.request import Request
from rest_framework.views import APIView

from breaker import totals
from breaker.engine.window import DURATIONS, LATENCY, SLOT, Tally
from breaker.metrics import OPENMETRICS, TEXT, BreakerCollector, Labels, family, histogram, render, sample
from breaker.views import AlwaysJson
from mifos_gateway import conf, openapi
from mifos_gateway.refusals import MetricsClosed
from mifos_gateway.tallies import MIFOS, REJECTED, REQUEST, REQUESTS

_STEPS = len(DURATIONS) + 1

# -- what is told ------------------------------------------------------------------------------------------------------


class GatewayCollector:
    def collect(self) -> Iterator[Metric]:
        counted = totals.read([REQUESTS, MIFOS])
        if (refused := counted.get(MIFOS)) is not None:
            yield _credentials(refused)
        if (requests := counted.get(REQUESTS)) is not None:
            yield from _requests(requests)
        name = "gateway_build_info"
        yield family(name, "gauge", "What runs", [sample(name, Labels(**_build()), 1)])


def _credentials(counted: Tally) -> Metric:
    name = "gateway_mifos_credentials_rejected_total"
    samples = [sample(name, Labels(client=user), counted.get(f"{REJECTED}|{user}", 0)) for user in ("maker", "checker")]
    return family(name, "counter", "MIFOS refused our technical user", samples)


def _requests(counted: Tally) -> Iterator[Metric]:
    answered, durations = "gateway_http_requests_total", "gateway_http_request_duration_seconds"
    counts: list[Sample] = []
    times: list[Sample] = []
    for field, count in sorted(counted.items()):
        kind, _, rest = field.partition("|")
        if kind == REQUEST:
            method, status, route = rest.split("|", 2)
            counts.append(sample(answered, Labels(method=method, route=route, status=status), count))
        elif kind == LATENCY:
            method, route = rest.split("|", 1)
            slots = [counted.get(f"{SLOT}|{number}|{rest}", 0) for number in range(_STEPS)]
            times += histogram(durations, Labels(method=method, route=route), slots.__getitem__, sum(slots), count)
    yield family(answered, "counter", "Requests that the gateway answered", counts)
    yield family(durations, "histogram", "Time of these requests", times)


@cache
def _build() -> dict[str, str]:
    try:
        version = metadata.version("mifos-gateway")
    except metadata.PackageNotFoundError:  # a checkout
        version = "unreleased"
    return {"version": version, "python": platform.python_version(), "django": django.get_version()}


collectors: list[Any] = [BreakerCollector(), GatewayCollector()]


def register(collector: Any) -> None:
    """Have a further collector tell what it knows. It must neither raise nor wait."""
    collectors.append(collector)


# -- where it is asked -------------------------------------------------------------------------------------------------


@openapi.metrics
class MetricsView(APIView):
    """What the cluster's breakers and gateways do, whichever worker answers."""

    authentication_classes = ()
    permission_classes = ()
    content_negotiation_class = AlwaysJson  # of errors; ours is below

    def get(self, request: Request) -> HttpResponse:
        _let_in(request.META.get("HTTP_AUTHORIZATION", ""))
        as_openmetrics = wants_openmetrics(request.META.get("HTTP_ACCEPT", ""))
        content = render(collectors, as_openmetrics=as_openmetrics)
        headers = {"Cache-Control": "no-store", "Vary": "Accept, Authorization"}
        return HttpResponse(content, content_type=OPENMETRICS if as_openmetrics else TEXT, headers=headers)


def wants_openmetrics(accept: str) -> bool:
    """Whether who asks would rather have OpenMetrics 1.0 than the older text format."""
    wanted = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for media in accept.split(","):
        name, *parameters = (part.strip().lower() for part in media.split(";"))
        said = dict(parameter.partition("=")[::2] for parameter in parameters)
        if name in wanted and said.get("version", "1.0.0").strip('"') in _VERSIONS[name]:
            wanted[name] = max(wanted[name], _weight(said.get("q", "1")))
    openmetrics, text = wanted.values()
    return openmetrics > 0 and openmetrics >= text


_VERSIONS = {"application/openmetrics-text": ("1.0.0", "0.0.1"), "text/plain": ("1.0.0", "0.0.4")}


def _weight(q: str) -> float:
    try:
        return float(q)
    except ValueError:
        return 0.0


def _let_in(authorization: str) -> None:
    """Raises MetricsClosed."""
    gateway = conf.gateway()
    if gateway.metrics_public:
        return
    scheme, _, given = authorization.partition(" ")
    wanted = gateway.metrics_token or ""
    same = secrets.compare_digest(given.strip().encode(), wanted.encode())
    if not (wanted and scheme.lower() == "bearer" and same):
        raise MetricsClosed("The token METRICS_TOKEN is needed, as in `Authorization: Bearer ...`.")
