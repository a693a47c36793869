"""Deferred requests over HTTP, for the consumers they are of: how they stand; cancelled; sent again."""

from __future__ import annotations

import reprlib
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from django.db import Error as DatabaseFailure
from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.functional import cached_property
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from breaker.timeline import BadSpan, moment
from breaker.views import AlwaysJson
from mifos_gateway import api_errors, guard, openapi, targets
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import desk
from mifos_gateway.outbox.desk import NotPossible
from mifos_gateway.outbox.turnstile import turnstile
from mifos_gateway.refusals import Forbidden, OutboxUnavailable
from mifos_gateway.tokens import Identity
from mifos_gateway.views import refuse_denied

_ENTRY = {
    "id": "0d7f5a52-8f3e-4b51-9c55-0f7f6a3b8f10",
    "status": "delivered",
    "client": "maker",
    "method": "POST",
    "path": "loans/5/transactions?command=repayment",
    "idempotencyKey": "order-4711",
    "orderKey": "loans/5",
    "position": None,
    "createdAt": "2026-11-23T14:02:11.000Z",
    "expiresAt": "2026-11-23T15:02:11.000Z",
    "perhapsSent": False,
    "attempts": [{"at": "2026-11-23T14:05:01.400Z", "outcome": "delivered", "status": 200, "error": None}],
    "response": {"status": 200, "body": {"resourceId": 17}},
}


class AttemptSerializer(serializers.Serializer[object]):
    at = serializers.DateTimeField()
    outcome = serializers.CharField(help_text="delivered, rejected, unknown, not_sent, timeout, conflict, …")
    status = serializers.IntegerField(allow_null=True, help_text="MIFOS's; null without an answer.")
    error = serializers.CharField(
        allow_null=True, help_text="MIFOS's code for it, such as error.msg.loan.locked; or what went wrong on the way."
    )


class GivenSerializer(serializers.Serializer[object]):
    status = serializers.IntegerField()
    body = serializers.JSONField(help_text="MIFOS's answer, or its error.")


class DeferredSerializer(serializers.Serializer[object]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=DeferredRequest.Status.values)
    client = serializers.ChoiceField(choices=guard.USERS)
    method = serializers.CharField()
    path = serializers.CharField()
    idempotencyKey = serializers.CharField(help_text="The caller's, or the one that the gateway has made.")
    orderKey = serializers.CharField(allow_null=True, help_text="null: it has no order.")
    position = serializers.IntegerField(allow_null=True, help_text="In its order, from 1; null once it has ended.")
    createdAt = serializers.DateTimeField()
    expiresAt = serializers.DateTimeField()
    perhapsSent = serializers.BooleanField(help_text="It was sent with its present key, and no answer is known.")
    attempts = AttemptSerializer(many=True)
    response = GivenSerializer(allow_null=True)


class RetrySerializer(serializers.Serializer[object]):
    newKey = serializers.BooleanField(
        required=False,
        help_text="MIFOS gets another key: where it has recorded an error under the old one and nothing was done.",
    )

    def to_internal_value(self, data: Any) -> Any:
        """Strict: a misspelt `newKey` must not be taken for none."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({"non_field_errors": 'a JSON object is needed, such as {"newKey": true}'})
        wrong = {
            name: f"{name}={reprlib.repr(data[name])}: unknown; newKey is." for name in data if name not in self.fields
        }
        if "newKey" in data and not isinstance(data["newKey"], bool):
            wrong["newKey"] = f"{reprlib.repr(data['newKey'])}: true or false is needed."
        if wrong:
            raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)


class Pages(PageNumberPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


_SEEN = {
    401: openapi.errors(
        "No token, or none that is live.",
        openapi.error_example("NOT_AUTHENTICATED", "The token is not valid, was revoked or has expired."),
    ),
    404: openapi.errors(
        "No such request, or another consumer's.",
        openapi.error_example("NOT_FOUND", "No deferred request of yours has this id."),
    ),
    503: openapi.errors(
        "The database is away.", openapi.error_example("OUTBOX_UNAVAILABLE", OutboxUnavailable().message)
    ),
}
_BAD_REQUEST = openapi.errors(
    "A parameter cannot be read.",
    openapi.error_example("BAD_REQUEST", "status='quued': one of queued, replaying, … is needed"),
)
_STATE = openapi.errors(
    "It is not in a state for that.",
    openapi.error_example("DEFERRED_STATE", "It is delivered, and can no longer be cancelled."),
    openapi.error_example("KEY_BURNT", "MIFOS has recorded an error under its key and would repeat it. …"),
    openapi.error_example("KEY_FORGOTTEN", "MIFOS may have forgotten its key, and would do it again. …"),
)
_RIGHTS = openapi.errors(
    "The consumer may no longer do this.",
    openapi.error_example("FORBIDDEN", "This consumer may not call MIFOS as checker."),
    openapi.error_example("ROUTE_DENIED", "This route is closed to all consumers."),
)
_IDENT = OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH)
_EXAMPLE = OpenApiExample("Delivered", value=_ENTRY, response_only=True, status_codes=["200"])
_TAGS = ["Deferred requests"]


class _DeferredView(APIView):
    permission_classes = (IsAuthenticated,)
    content_negotiation_class = AlwaysJson

    def own(self, request: Request) -> QuerySet[DeferredRequest]:
        return DeferredRequest.objects.filter(consumer__name=str(request.user)).defer("payload")

    def one(self, request: Request, ident: uuid.UUID) -> DeferredRequest:
        found = self.own(request).filter(uid=ident).first()
        if found is None:
            raise _none()
        return found

    def acted(self, request: Request, ident: uuid.UUID, act: Callable[[int], DeferredRequest]) -> HttpResponse:
        try:
            row = act(self.one(request, ident).pk)
        except NotPossible as error:
            return api_errors.answer(request._request, status=409, code=error.code, message=str(error))
        except DeferredRequest.DoesNotExist:
            raise _none() from None  # deleted meanwhile, for its age
        return _answer(desk.entry(row))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self._inside.enter_context(turnstile)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        self._inside.close()
        return super().finalize_response(request, response, *args, **kwargs)

    @cached_property
    def _inside(self) -> ExitStack:
        return ExitStack()

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, DatabaseFailure):
            exc = OutboxUnavailable()
        if isinstance(exc, BadSpan):
            exc = ValidationError(str(exc))
        return super().handle_exception(exc)


class DeferredListView(_DeferredView):
    pagination_class = Pages

    @extend_schema(
        operation_id="deferred_requests",
        tags=_TAGS,
        summary="What was accepted for later",
        description="The consumer's own, the newest first.",
        parameters=[
            OpenApiParameter("status", str, enum=DeferredRequest.Status.values, description="Several with commas."),
            OpenApiParameter("client", str, enum=guard.USERS),
            OpenApiParameter(
                "since",
                str,
                description="Accepted since: `2026-11-23T14:00:00Z`, seconds since 1970, or how long ago: `24h`, `7d`.",
            ),
            OpenApiParameter("page", int, description="From 1."),
            OpenApiParameter("page_size", int, description="At most 200."),
        ],
        responses={200: DeferredSerializer(many=True), 400: _BAD_REQUEST, 401: _SEEN[401], 503: _SEEN[503]},
        examples=[_EXAMPLE],
    )
    def get(self, request: Request) -> Response:
        asked, found = request.query_params, self.own(request)
        if statuses := asked.get("status"):
            found = found.filter(status__in=_chosen("status", statuses, DeferredRequest.Status.values))
        if clients := asked.get("client"):
            found = found.filter(client__in=_chosen("client", clients, guard.USERS))
        if since := asked.get("since"):
            found = found.filter(created_at__gte=moment("since", since))
        pages = Pages()
        numbered = desk.with_numbers(found).prefetch_related("attempts")
        page: list[Any] = pages.paginate_queryset(numbered, request, view=self) or []
        told = [desk.entry(row, attempts=row.attempts.all(), place=row.place) for row in page]
        answer = pages.get_paginated_response(told)
        answer["Cache-Control"] = "no-store"
        return answer


class DeferredView(_DeferredView):
    @extend_schema(
        operation_id="deferred_request",
        tags=_TAGS,
        summary="How one stands",
        parameters=[_IDENT],
        responses={200: DeferredSerializer, **_SEEN},
        examples=[_EXAMPLE],
    )
    def get(self, request: Request, id: uuid.UUID) -> Response:
        return _answer(desk.entry(self.one(request, id)))

    @extend_schema(
        operation_id="deferred_request_cancel",
        tags=_TAGS,
        summary="Cancel it",
        description="While it is queued, and when it is rejected or unknown, so that those behind it go on. What it "
        "was sent for before may have been done: `perhapsSent` says whether.",
        parameters=[_IDENT],
        responses={200: DeferredSerializer, **_SEEN, 409: _STATE},
        examples=[
            OpenApiExample(
                "Cancelled",
                value=_ENTRY | {"status": "cancelled", "attempts": [], "response": None},
                response_only=True,
            )
        ],
    )
    def delete(self, request: Request, id: uuid.UUID) -> HttpResponse:
        return self.acted(request, id, desk.cancel)


class RetryView(_DeferredView):
    @extend_schema(
        operation_id="deferred_request_retry",
        tags=_TAGS,
        summary="Send it again",
        description="What is rejected, unknown or expired, for a new time to live. With `newKey` MIFOS does not know "
        "that it may have seen it: first make sure in MIFOS that it was not done. What is rejected was not, and gets "
        "a new key unless `newKey` is false.",
        parameters=[_IDENT],
        request=RetrySerializer,
        responses={200: DeferredSerializer, **_SEEN, 400: _BAD_REQUEST, 403: _RIGHTS, 409: _STATE},
        examples=[
            OpenApiExample("With another key", value={"newKey": True}, request_only=True),
            OpenApiExample(
                "Queued",
                value=_ENTRY | {"status": "queued", "position": 1, "response": None},
                response_only=True,
                status_codes=["200"],
            ),
        ],
    )
    def post(self, request: Request, id: uuid.UUID) -> HttpResponse:
        asked = RetrySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        self._check_rights(request, id)
        new_key = asked.validated_data.get("newKey")
        return self.acted(request, id, lambda pk: desk.retry(pk, new_key=new_key))

    def _check_rights(self, request: Request, ident: uuid.UUID) -> None:
        """What is sent again is asked for now, by the rights of now."""
        row, consumer = self.one(request, ident), request.user
        assert isinstance(consumer, Identity)
        if not consumer.may(row.client):
            raise Forbidden(f"This consumer may not call MIFOS as {row.client}.")
        refuse_denied(consumer, row.method, targets.parse(row.target))


def _none() -> NotFound:
    return NotFound("No deferred request of yours has this id.")


def _answer(entry: dict[str, Any]) -> Response:
    return Response(entry, headers={"Cache-Control": "no-store"})


def _chosen(name: str, given: str, there_are: Any) -> list[str]:
    found = [word.strip() for word in given.split(",") if word.strip()]
    for word in found:
        if word not in there_are:
            raise ValidationError(f"{name}={word!r}: one of {', '.join(there_are)} is needed")
    return found
