"""Breakers over HTTP: status and health, open to monitors unless the settings say otherwise; one breaker, and acts."""

from __future__ import annotations

from typing import Any

from django.db import Error as DatabaseFailure
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from breaker import conf, operations, queries
from breaker.operations import ActRefused, UnknownBreaker
from breaker.serializers import (
    ActedSerializer,
    ActSerializer,
    EntrySerializer,
    HealthSerializer,
    MonitorErrorSerializer,
    StatusSerializer,
)

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


def error_response(description: str, code: str, message: str) -> OpenApiResponse:
    value = {"success": False, "code": code, "message": message, "requestId": "5f0c2a9e7d7b4f0a9a3f1c2b7e6d5a41"}
    example = OpenApiExample(code, value=value, response_only=True)
    return OpenApiResponse(MonitorErrorSerializer, description=description, examples=[example])


_ERRORS = {
    401: error_response(
        "While BREAKER_STATUS_PUBLIC is false: no token, or none that is live.",
        "NOT_AUTHENTICATED",
        "The token is not valid, was revoked or has expired.",
    ),
    405: error_response("It can only be read.", "METHOD_NOT_ALLOWED", 'Method "POST" not allowed.'),
    500: error_response("A fault of the gateway.", "INTERNAL_ERROR", "Something went wrong in the gateway."),
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


class Away(APIException):
    """The shared state, or the database for the act's row, cannot be reached."""

    status_code = 503
    default_detail = "The act was not done: what all workers share is away. Please try again."
    wait = 2


class MaySee(BasePermission):
    message = "Who, what and why is for those who may see breakers: scope view, or permission breaker.view_breaker."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.user.has_perm("breaker.view_breaker")


class MayOperate(BasePermission):
    message = "Acts are for those who may operate breakers: scope operate, or permission breaker.operate_breaker."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.user.has_perm("breaker.operate_breaker")


SEEN_ERRORS = {
    401: error_response("No token, or none that is live.", "NOT_AUTHENTICATED", "The token is not valid."),
    403: error_response("The token lacks the scope.", "FORBIDDEN", MaySee.message),
    404: error_response(
        "No such breaker.", "NOT_FOUND", "No breaker 'MIFOS-Maker-gte'; the closest is MIFOS-Maker-get."
    ),
    500: _ERRORS[500],
}
_ACT_ERRORS = SEEN_ERRORS | {
    400: error_response("The act cannot be done so.", "BAD_REQUEST", "reason: This field is required."),
    403: error_response("The token lacks the scope.", "FORBIDDEN", MayOperate.message),
    503: error_response("Redis is away; nothing was done.", "SERVICE_UNAVAILABLE", Away.default_detail),
}
NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="Such as MIFOS-Maker-post.")


class BreakerView(APIView):
    permission_classes = (IsAuthenticated, MaySee)
    content_negotiation_class = AlwaysJson

    @extend_schema(
        operation_id="circuit_breaker",
        tags=["Circuit breakers"],
        summary="One breaker",
        description="Its entry of the status. Needs the scope `view`.",
        parameters=[NAME],
        responses={200: EntrySerializer, **SEEN_ERRORS},
        examples=[OpenApiExample("Calm", value=_ENTRY, response_only=True, status_codes=["200"])],
    )
    def get(self, request: Request, name: str) -> Response:
        return _entry(name)


class ActView(APIView):
    permission_classes = (IsAuthenticated, MayOperate)
    content_negotiation_class = AlwaysJson

    @extend_schema(
        operation_id="circuit_breaker_act",
        tags=["Circuit breakers"],
        summary="Act on one breaker",
        description="Holds in every worker of every host within 100 ms, and leaves a row and an entry in Django's log: "
        "who, when, what, why and from where. "
        "`open` and `close` force the state, `disable` lets calls pass unguarded, and `enable` guards again, each for "
        "`forSeconds` or until released; `release` lifts a force, and `reset` lifts force and disable and closes it. "
        "An act that holds is answered with 200, also when its row or its entry could not be written: then `warning` "
        "says what is missing. Needs the scope `operate`.",
        parameters=[NAME, OpenApiParameter("action", str, OpenApiParameter.PATH, enum=operations.ACTIONS)],
        request=ActSerializer,
        responses={200: ActedSerializer, **_ACT_ERRORS},
        examples=[
            OpenApiExample(
                "Force open", value={"reason": "MIFOS is being upgraded", "forSeconds": 600}, request_only=True
            ),
            OpenApiExample("Done", value=_ENTRY | {"forced": "open"}, response_only=True, status_codes=["200"]),
            OpenApiExample(
                "Done, but not all of it is written",
                value=_ENTRY | {"forced": "open", "warning": "Django's log could not be written: disk full"},
                response_only=True,
                status_codes=["200"],
            ),
        ],
    )
    def post(self, request: Request, name: str, action: str) -> Response:
        asked = ActSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            (done,) = operations.act(
                [name],
                action,
                actor=str(request.user),
                source="api",
                reason=asked.validated_data["reason"],
                for_seconds=asked.validated_data.get("forSeconds"),
            )
        except ActRefused as error:
            raise ValidationError(str(error).replace("for_seconds", "forSeconds")) from None
        except UnknownBreaker as error:
            raise NotFound(str(error)) from None
        except DatabaseFailure:
            raise Away("The act was not done: the database, which keeps who did it, is away.") from None
        if done.row.status == done.row.Status.FAILED:
            raise Away(f"{Away.default_detail} ({done.error})")
        return _entry(name, warning=done.error)


def known(name: str) -> None:
    """404 with the closest name, unless there is such a breaker."""
    try:
        operations.check_names([name])
    except UnknownBreaker as error:
        raise NotFound(str(error)) from None


def _entry(name: str, *, warning: str = "") -> Response:
    entries = queries.status([name]).entries
    if not entries:
        known(name)
        raise Away("What all workers share went away just now, so the breaker's state is not known.")
    (entry,) = entries
    told = entry.as_dict() | ({"warning": warning} if warning else {})
    return Response(told, headers={"Cache-Control": "no-store"})
