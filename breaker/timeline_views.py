"""What was, over HTTP: the events of one breaker or of all, and a breaker's numbers over time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseFailure
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from breaker import timeline
from breaker.models import BreakerEvent
from breaker.serializers import EventSerializer, PointSerializer
from breaker.timeline import BadSpan, moment
from breaker.views import NAME, SEEN_ERRORS, AlwaysJson, Away, MaySee, error_response, known

HOUR = timedelta(hours=1)
_EVENT = {
    "id": 4711,
    "breaker": "MIFOS-Maker-post",
    "kind": "transition",
    "operation": None,
    "from": "CLOSED",
    "to": "OPEN",
    "at": "2026-11-23T14:02:11.000Z",
    "actor": None,
    "source": "breaker",
    "reason": None,
    "counts": {"successes": 2, "failures": 3, "timeouts": 2, "errorRate": 71.43, "processes": 2, "hosts": 1},
    "durationMs": 86400000,
    "alone": False,
}
_POINT = {
    "at": "2026-11-23T14:02:00.000Z",
    "fires": 120,
    "successes": 80,
    "failures": 6,
    "timeouts": 2,
    "rejects": 32,
    "fallbacks": 32,
    "latencyMean": 212.4,
    "p50": 180.3,
    "p95": 540.8,
    "p99": 1204.9,
    "secondsOpen": 48.2,
}
_AT = (
    "A time of the years 1970 to 2200, such as `2026-11-23T14:00:00Z`, seconds since 1970, or how long ago: `24h`, "
    "`15m`, `7d`."
)
_ERRORS = SEEN_ERRORS | {
    400: error_response("A parameter cannot be read.", "BAD_REQUEST", "step=61: whole minutes are needed, in seconds"),
    503: error_response("The database is away.", "SERVICE_UNAVAILABLE", "The database, which keeps history, is away."),
}
_PAGES = [
    OpenApiParameter("page", int, description="From 1."),
    OpenApiParameter("page_size", int, description="At most 1,500."),
]


class Pages(PageNumberPagination):
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = timeline.MOST_POINTS


class PointPages(Pages):
    page_size = timeline.MOST_POINTS


class _TimelineView(APIView):
    permission_classes = (IsAuthenticated, MaySee)
    content_negotiation_class = AlwaysJson

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, DatabaseFailure):
            exc = Away("The database, which keeps history, is away. Please try again.")
        if isinstance(exc, BadSpan):
            exc = ValidationError(str(exc))
        return super().handle_exception(exc)


class _EventsView(_TimelineView):
    def pages(self, request: Request, name: str | None) -> Response:
        asked = request.query_params
        found = timeline.events(name)
        if since := asked.get("since"):
            found = _since(found, since)
        if until := asked.get("until"):
            found = found.filter(at__lt=moment("until", until))
        if kind := asked.get("kind"):
            if kind not in BreakerEvent.Kind.values:
                raise ValidationError(f"kind={kind!r}: one of {', '.join(BreakerEvent.Kind.values)} is needed")
            found = found.filter(kind=kind)
        if name is None and (breaker := asked.get("breaker")):
            found = timeline.of_breaker(found, breaker)
        pages = Pages()
        page = pages.paginate_queryset(found, request, view=self) or []
        return _answer(pages, [timeline.as_dict(event) for event in page])


_SINCE = OpenApiParameter("since", str, description=f"{_AT} A smaller number is an event's id: those after it.")
_FILTERS = [
    _SINCE,
    OpenApiParameter("until", str, description=_AT),
    OpenApiParameter("kind", str, enum=BreakerEvent.Kind.values),
    *_PAGES,
]
_EVENTS: dict[str, Any] = {
    "tags": ["Circuit breakers"],
    "responses": {200: EventSerializer(many=True), **_ERRORS},
    "examples": [OpenApiExample("An opening", value=_EVENT, response_only=True, status_codes=["200"])],
}


class AllEventsView(_EventsView):
    pagination_class = Pages

    @extend_schema(
        operation_id="circuit_breaker_all_events",
        summary="What happened to all breakers",
        description="Transitions and operators' acts, the newest first. Needs the scope `view`.",
        parameters=[*_FILTERS, OpenApiParameter("breaker", str, description="Only this one.")],
        **_EVENTS,
    )
    def get(self, request: Request) -> Response:
        return self.pages(request, None)


class EventsView(_EventsView):
    pagination_class = Pages

    @extend_schema(
        operation_id="circuit_breaker_events",
        summary="What happened to one breaker",
        description="Its transitions and operators' acts, the newest first. Needs the scope `view`.",
        parameters=[NAME, *_FILTERS],
        **_EVENTS,
    )
    def get(self, request: Request, name: str) -> Response:
        _ever_known(name)
        return self.pages(request, name)


class HistoryView(_TimelineView):
    pagination_class = PointPages

    @extend_schema(
        operation_id="circuit_breaker_history",
        tags=["Circuit breakers"],
        summary="One breaker's numbers over time",
        description="Counts and latencies (ms) of each `step` seconds, the oldest first; without parameters the last "
        "hour by the minute. Needs the scope `view`.",
        parameters=[
            NAME,
            OpenApiParameter("from", str, description=_AT),
            OpenApiParameter("to", str, description=f"{_AT} Default: now."),
            OpenApiParameter(
                "step",
                int,
                description="Whole minutes in seconds, above an hour whole hours, up to 366 days. Default: at most 360 "
                "points.",
            ),
            *_PAGES,
        ],
        responses={200: PointSerializer(many=True), **_ERRORS},
        examples=[OpenApiExample("A minute", value=_POINT, response_only=True, status_codes=["200"])],
    )
    def get(self, request: Request, name: str) -> Response:
        _ever_known(name)
        asked = request.query_params
        until = moment("to", asked["to"]) if asked.get("to") else timeline.now()
        since = moment("from", asked["from"]) if asked.get("from") else until - HOUR
        points = timeline.history(name, since, until, _step(asked.get("step")))
        pages = PointPages()
        page = pages.paginate_queryset(points, request, view=self) or []
        return _answer(pages, [point.as_dict() for point in page])


def _answer(pages: PageNumberPagination, results: list[dict[str, Any]]) -> Response:
    answer = pages.get_paginated_response(results)
    answer["Cache-Control"] = "no-store"
    return answer


def _ever_known(name: str) -> None:
    """404, unless there is such a breaker, or was one: history outlives it."""
    if not timeline.knows(name):
        known(name)


def _since(found: QuerySet[BreakerEvent], given: str) -> QuerySet[BreakerEvent]:
    if given.isdecimal() and len(given) < 10:
        return found.filter(pk__gt=int(given))
    return found.filter(at__gte=moment("since", given))


def _step(given: str | None) -> int | None:
    if given in (None, ""):
        return None
    try:
        return int(given)
    except ValueError:
        raise ValidationError(f"step={given!r}: seconds are needed, such as 60") from None
