"""Status and health over HTTP; open to monitors unless the settings say otherwise."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from breaker import conf, queries
from breaker.serializers import HealthSerializer, MonitorErrorSerializer, StatusSerializer

_ENTRY = {
    "enabled": True,
    "state": "CLOSED",
    "name": "MIFOS-Maker-get",
    "stats": {
        "fires": 1250,
        "successes": 1217,
        "failures": 25,
        "rejects": 5,
        "timeouts": 3,
        "fallbacks": 5,
        "latencyMean": 523.45,
        "errorRate": "2.24%",
        "decidingErrorRate": "2.25%",
        "percentiles": {"p50": 480.1, "p90": 910.4, "p95": 1204.9, "p99": 2981.2},
    },
    "options": {
        "timeout": 30000,
        "errorThresholdPercentage": 50,
        "resetTimeout": 60000,
        "volumeThreshold": 5,
        "rollingCountTimeout": 60000,
        "rollingCountBuckets": 10,
    },
}
_AT = "2026-11-23T14:02:11.000Z"
_STATUS = {
    "success": True,
    "data": {"maker": {"get": _ENTRY}, "checker": {}, "custom": {}, "shared": True, "timestamp": _AT},
}
_HEALTH = {
    "success": True,
    "healthy": True,
    "summary": {"total": 12, "open": 0, "closed": 11, "halfOpen": 1},
    "details": [{"name": "MIFOS-Maker-post", "state": "CLOSED", "errorRate": "2.50%"}],
    "timestamp": _AT,
}
_UNHEALTHY = _HEALTH | {"healthy": False, "summary": {"total": 12, "open": 1, "closed": 11, "halfOpen": 0}}


def _error(description: str, code: str, message: str) -> OpenApiResponse:
    value = {"success": False, "code": code, "message": message, "requestId": "5f0c2a9e7d7b4f0a9a3f1c2b7e6d5a41"}
    example = OpenApiExample(code, value=value, response_only=True)
    return OpenApiResponse(MonitorErrorSerializer, description=description, examples=[example])


_ERRORS = {
    401: _error(
        "While BREAKER_STATUS_PUBLIC is false: no token, or none that is live.",
        "NOT_AUTHENTICATED",
        "The token is not valid, was revoked or has expired.",
    ),
    405: _error("It can only be read.", "METHOD_NOT_ALLOWED", 'Method "POST" not allowed.'),
    500: _error("A fault of the gateway.", "INTERNAL_ERROR", "Something went wrong in the gateway."),
}
_ERROR_HEADERS = [OpenApiParameter("X-Gateway-Error", str, OpenApiParameter.HEADER, response=list(_ERRORS))]


class AlwaysJson(BaseContentNegotiation):
    """For who asks with a browser or a bare probe: nobody gets a 406 because of an `Accept`."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return next(iter(parsers), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


class MonitorView(APIView):
    """What monitors read: without a token while `BREAKER_STATUS_PUBLIC`, else with any live one."""

    content_negotiation_class = AlwaysJson
    renderer_classes = (JSONRenderer,)

    def get_authenticators(self) -> list[Any]:
        return [] if conf.status_is_public() else super().get_authenticators()

    def get_permissions(self) -> list[BasePermission]:
        return [] if conf.status_is_public() else [IsAuthenticated()]


class StatusView(MonitorView):
    @extend_schema(
        operation_id="circuit_breaker_status",
        tags=["Circuit breakers"],
        summary="Every breaker's state and numbers",
        description="The cluster's numbers over the rolling window, at most 250 ms old, whichever worker answers.",
        parameters=_ERROR_HEADERS,
        responses={200: StatusSerializer, **_ERRORS},
        examples=[OpenApiExample("Calm", value=_STATUS, response_only=True, status_codes=["200"])],
    )
    def get(self, request: Request) -> Response:
        return Response({"success": True, "data": queries.status().as_dict()}, headers={"Cache-Control": "no-store"})


class HealthView(MonitorView):
    @extend_schema(
        operation_id="circuit_breaker_health",
        tags=["Circuit breakers"],
        summary="Whether MIFOS can be called",
        description="503 while one of the twelve breakers is open. Not a readiness probe: see /readyz.",
        parameters=_ERROR_HEADERS,
        responses={200: HealthSerializer, 503: OpenApiResponse(HealthSerializer, "A breaker is open."), **_ERRORS},
        examples=[
            OpenApiExample("Healthy", value=_HEALTH, response_only=True, status_codes=["200"]),
            OpenApiExample("A breaker is open", value=_UNHEALTHY, response_only=True, status_codes=["503"]),
        ],
    )
    def get(self, request: Request) -> Response:
        health = queries.health()
        return Response(health.as_dict(), status=200 if health.healthy else 503, headers={"Cache-Control": "no-store"})
