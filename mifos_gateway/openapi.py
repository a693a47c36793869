"""What the OpenAPI schema says of these endpoints: every answer and error, with an example."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework import serializers

REQUEST_ID = "5f0c2a9e7d7b4f0a9a3f1c2b7e6d5a41"


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error of the gateway; its `code` is also in the header `X-Gateway-Error`, which MIFOS's own errors lack."""

    success = serializers.BooleanField(default=False)
    code = serializers.CharField()
    message = serializers.CharField()
    requestId = serializers.CharField()
    sent = serializers.ChoiceField(
        choices=["unknown"],
        required=False,
        help_text='false: no byte went to MIFOS. "unknown": some did, so MIFOS may have done it.',
    )
    retryAfter = serializers.IntegerField(required=False, min_value=1, help_text="Seconds; also in `Retry-After`.")
    breaker = serializers.CharField(required=False)


class ChecksSerializer(serializers.Serializer[Any]):
    database = serializers.CharField(help_text="ok, away")
    redis = serializers.CharField(help_text="ok, away, not configured")
    mifos = serializers.CharField(help_text="ok, failing (a breaker is open), unknown")


class ReadinessSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "degraded", "unavailable"])
    checks = ChecksSerializer()


class LivenessSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok"])


class ConsumerTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "mifos_gateway.authentication.ConsumerTokenAuthentication"
    name = "consumerToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Authorization: Token mgw_…`, made by `manage.py create_consumer`.",
        }


def error_example(code: str, message: str, **more: Any) -> OpenApiExample:
    value = {"success": False, "code": code, "message": message, "requestId": REQUEST_ID, **more}
    return OpenApiExample(code, value=value, response_only=True)


def errors(description: str, *examples: OpenApiExample) -> OpenApiResponse:
    return OpenApiResponse(ErrorSerializer, description=description, examples=list(examples))


_NOT_SENT: dict[str, Any] = {"sent": False}
_UNKNOWN: dict[str, Any] = {"sent": "unknown"}

_ERRORS = {
    400: errors(
        "The call is refused as it stands; or MIFOS's own 400.",
        error_example("INVALID_PATH", "The path holds a dot segment (. or ..).", **_NOT_SENT),
        error_example("INVALID_QUERY", "The query must not name a tenant (tenantIdentifier).", **_NOT_SENT),
        error_example("INVALID_BODY", "The request's body could not be read.", **_NOT_SENT),
        error_example("INVALID_CALL", "The header Accept holds characters that no header value has.", **_NOT_SENT),
        error_example("INVALID_IDEMPOTENCY_KEY", "An Idempotency-Key is at most 255 characters.", **_NOT_SENT),
        error_example("INVALID_ORDER_KEY", "An X-Order-Key is at most 255 characters.", **_NOT_SENT),
        error_example("BAD_REQUEST", "The request cannot be understood.", **_NOT_SENT),
    ),
    401: errors(
        "No token, or none that is live.",
        error_example("NOT_AUTHENTICATED", "The token is not valid, was revoked or has expired.", **_NOT_SENT),
    ),
    403: errors(
        "The consumer may not do this; or MIFOS's own 403.",
        error_example("FORBIDDEN", "This consumer may not call MIFOS as checker.", **_NOT_SENT),
        error_example("ROUTE_DENIED", "This route is closed to all consumers.", **_NOT_SENT),
    ),
    404: errors(
        "There is no such address in the gateway; or MIFOS's own 404.",
        error_example("NOT_FOUND", "There is nothing at this address.", **_NOT_SENT),
    ),
    405: errors(
        "The gateway does not forward this method.",
        error_example("METHOD_NOT_ALLOWED", 'Method "OPTIONS" not allowed.', **_NOT_SENT),
    ),
    413: errors(
        "The body is larger than GATEWAY_MAX_REQUEST_BYTES.",
        error_example("REQUEST_TOO_LARGE", "The request's body is larger than 10485760 bytes.", **_NOT_SENT),
    ),
    500: errors(
        "A fault of the gateway; or MIFOS's own 500.",
        error_example("INTERNAL_ERROR", "Something went wrong in the gateway.", **_UNKNOWN),
    ),
    502: errors(
        "MIFOS cannot be reached, broke off, answered too much, or refuses the gateway's own user.",
        error_example("BAD_GATEWAY", "MIFOS cannot be reached.", **_NOT_SENT),
        error_example("RESPONSE_TOO_LARGE", "MIFOS's answer is larger than MIFOS_MAX_RESPONSE_BYTES.", **_UNKNOWN),
        error_example("MIFOS_CREDENTIALS_REJECTED", "MIFOS rejects the gateway's own maker user.", **_UNKNOWN),
    ),
    503: errors(
        "Rejected: the circuit is open or too many calls are in flight; `Retry-After` says when to come again.",
        error_example(
            "SERVICE_UNAVAILABLE",
            "Service temporarily unavailable. Please try again in 42 seconds.",
            sent=False,
            retryAfter=42,
            breaker="MIFOS-Maker-get",
        ),
        error_example(
            "OUTBOX_UNAVAILABLE",
            "What was deferred cannot be looked up at the moment. Please try again.",
            **_NOT_SENT,
        ),
        error_example(
            "ACCEPTANCE_UNKNOWN",
            "Whether it was accepted for later is not known. Repeat it with the Idempotency-Key of this answer.",
            **_UNKNOWN,
        ),
        error_example("TOKENS_UNAVAILABLE", "Tokens cannot be checked at the moment. Please try again.", **_NOT_SENT),
    ),
    504: errors(
        "MIFOS did not answer within the breaker's timeout; or only what is kept was asked for, and there is none.",
        error_example("GATEWAY_TIMEOUT", "MIFOS did not answer in time.", **_UNKNOWN),
        error_example(
            "NOT_CACHED",
            "No answer is kept that the Cache-Control of this call allows; ask without only-if-cached.",
            **_NOT_SENT,
        ),
    ),
}

_ERRORS_OF_WRITES = {
    409: errors(
        "What was deferred comes first; or MIFOS's own 409.",
        error_example(
            "DEFERRED_AHEAD",
            "Deferred requests of the order loans/5 come before this one; wait for them, or ask for this one to be "
            "deferred as well (Prefer: respond-async).",
            **_NOT_SENT,
        ),
    ),
    422: errors(
        "The Idempotency-Key has come with another body, or for another tenant of this namespace; or MIFOS's own 422.",
        error_example(
            "IDEMPOTENCY_KEY_REUSED",
            "This Idempotency-Key has come with another body before; a new request needs a new key.",
            **_NOT_SENT,
        ),
    ),
}

_PARAMETERS = [
    OpenApiParameter(
        "client", str, OpenApiParameter.PATH, enum=["maker", "checker"], description="As which technical user."
    ),
    OpenApiParameter(
        "path",
        str,
        OpenApiParameter.PATH,
        description="Below MIFOS's API; goes on byte for byte, as the query does: `clients`, `v2/clients/search`.",
        examples=[OpenApiExample("clients", value="clients")],
    ),
    OpenApiParameter("Accept", str, OpenApiParameter.HEADER, description="Goes to MIFOS."),
    OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="Goes to MIFOS."),
    OpenApiParameter(
        "Cache-Control",
        str,
        OpenApiParameter.HEADER,
        description="Of GETs whose answers are kept: max-age, max-stale, no-cache, no-store, only-if-cached.",
    ),
    OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="Goes to MIFOS."),
    OpenApiParameter(
        "X-Request-ID",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        OpenApiParameter.HEADER,
        description="Goes to MIFOS, also as X-Correlation-ID, and comes back; one is made when missing or malformed.",
    ),
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255},
        OpenApiParameter.HEADER,
        description=(
            "MIFOS gets a digest of consumer, client, method, path with query and this key, "
            "so that no caller's key can meet another's."
        ),
    ),
    OpenApiParameter(
        "X-Gateway-Error",
        str,
        OpenApiParameter.HEADER,
        response=[400, 401, 403, 404, 405, 409, 413, 422, 500, 502, 503, 504],
    ),
    OpenApiParameter("Retry-After", int, OpenApiParameter.HEADER, response=[503], description="Seconds, at least 1."),
    OpenApiParameter(
        "X-Fallback",
        str,
        OpenApiParameter.HEADER,
        response=[200, 202],
        description="Not MIFOS's answer of now, but what the gateway gives instead: cache, placeholder, custom or "
        "deferred.",
    ),
    OpenApiParameter(
        "Age", int, OpenApiParameter.HEADER, response=[200, 304], description="Seconds since MIFOS gave this answer."
    ),
    OpenApiParameter(
        "Cache-Status",
        str,
        OpenApiParameter.HEADER,
        response=[200, 304],
        description="`mifos-gateway; hit`: MIFOS was not asked, or gave no answer, and this is what was kept.",
    ),
]

_PARAMETERS_OF_WRITES = [
    OpenApiParameter(
        "Prefer",
        str,
        OpenApiParameter.HEADER,
        description="`respond-async`: where the route may be deferred, a 202 is welcome when MIFOS cannot be asked or "
        "what was deferred comes first; with `respond-async, wait=0` always.",
    ),
    OpenApiParameter(
        "X-Order-Key",
        {"type": "string", "minLength": 1, "maxLength": 255},
        OpenApiParameter.HEADER,
        description="What is deferred is sent after all that the consumer deferred with the same one. Without it, "
        "after what was deferred for the same resource and id.",
    ),
    OpenApiParameter(
        "Location",
        str,
        OpenApiParameter.HEADER,
        response=[202, 409],
        description="Of the deferred request; of the first that comes before this one.",
    ),
    OpenApiParameter("Preference-Applied", str, OpenApiParameter.HEADER, response=[202]),
    OpenApiParameter(
        "Idempotency-Key",
        str,
        OpenApiParameter.HEADER,
        response=[200, 202, 204, 400, 403, 404, 409, 422, 500, 502, 503, 504],
        description="To repeat this write by: the caller's, or the gateway's for one that may be deferred.",
    ),
]

_ANYTHING = {"application/json": OpenApiTypes.OBJECT, "application/octet-stream": OpenApiTypes.BINARY}
_ANSWER = {
    (200, "application/json"): OpenApiResponse(
        OpenApiTypes.OBJECT,
        description="MIFOS's answer: its status, whichever, its body unchanged, and its useful headers.",
        examples=[
            OpenApiExample(
                "clients",
                value={"totalFilteredRecords": 1, "pageItems": [{"id": 1, "displayName": "Asha Rao"}]},
                response_only=True,
            )
        ],
    ),
    (200, "application/octet-stream"): OpenApiTypes.BINARY,
    204: OpenApiResponse(description="MIFOS's answer without a body."),
    304: OpenApiResponse(description="MIFOS's answer to If-None-Match."),
}


_ACCEPTED = {
    202: OpenApiResponse(
        OpenApiTypes.OBJECT,
        description="Accepted for later, and in the database: the deferred request.",
        examples=[
            OpenApiExample(
                "deferred",
                value={"id": "0d7f5a52-8f3e-4b51-9c55-0f7f6a3b8f10", "status": "queued", "position": 1},
                response_only=True,
            )
        ],
    )
}


def _summary(method: str) -> str:
    return f"Forward a {method.upper()} to MIFOS"


def _description(key: str) -> str:
    return (
        f"Through the breaker `MIFOS-Maker-{key}` or `MIFOS-Checker-{key}`. "
        "One call in is at most one call out; nothing is repeated."
    )


def _forwarded(method: str) -> Any:
    writes = method != "get"
    has_body = method in ("post", "put", "patch")
    return extend_schema(
        operation_id=f"mifos_{method}",
        tags=["MIFOS"],
        summary=_summary(method),
        description=_description(method),
        parameters=[*_PARAMETERS, *(_PARAMETERS_OF_WRITES if writes else ())],
        request=_ANYTHING if has_body else None,
        responses={**_ANSWER, **_ERRORS, **(_ACCEPTED | _ERRORS_OF_WRITES if writes else {})},
        examples=[OpenApiExample("a client", value={"officeId": 1, "firstname": "Asha"}, request_only=True)]
        if has_body
        else [],
    )


mifos_view = extend_schema_view(**{method: _forwarded(method) for method in ("get", "post", "put", "patch", "delete")})


def add_head(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A hook of drf-spectacular, which leaves HEAD out: the same as GET, through another breaker and without bodies."""
    for operations in result["paths"].values():
        get = operations.get("get", {})
        if get.get("operationId") == "mifos_get":
            operations["head"] = {
                **get,
                "operationId": "mifos_head",
                "summary": _summary("head"),
                "description": _description("request"),
                "responses": {status: _without_body(answer) for status, answer in get["responses"].items()},
            }
    return result


def _without_body(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "content"}


_PROBE_ERRORS = {
    405: errors("It can only be read.", error_example("METHOD_NOT_ALLOWED", 'Method "POST" not allowed.')),
}
_PROBE_HEADERS = [OpenApiParameter("X-Gateway-Error", str, OpenApiParameter.HEADER, response=list(_PROBE_ERRORS))]
livez = extend_schema_view(
    get=extend_schema(
        operation_id="livez",
        tags=["Probes"],
        summary="Is this process alive?",
        parameters=_PROBE_HEADERS,
        responses={
            200: OpenApiResponse(
                LivenessSerializer, examples=[OpenApiExample("alive", value={"status": "ok"}, response_only=True)]
            ),
            **_PROBE_ERRORS,
        },
        auth=[],
    )
)

_METRICS_ERRORS = {
    **_PROBE_ERRORS,
    401: errors(
        "Neither METRICS_TOKEN as Bearer, nor METRICS_PUBLIC.",
        error_example("NOT_AUTHENTICATED", "The token METRICS_TOKEN is needed, as in `Authorization: Bearer ...`."),
    ),
}
_METRICS = (
    "# HELP breaker_state 1 for the state that calls meet\n"
    "# TYPE breaker_state gauge\n"
    'breaker_state{breaker="MIFOS-Maker-get",client="maker",method="get",state="closed"} 1\n'
)
metrics = extend_schema_view(
    get=extend_schema(
        operation_id="metrics",
        tags=["Probes"],
        summary="What Prometheus scrapes",
        description="The cluster's, whichever worker answers; docs/metrics.md has all names.",
        parameters=[OpenApiParameter("X-Gateway-Error", str, OpenApiParameter.HEADER, response=[401, 405])],
        responses={
            (200, media): OpenApiResponse(
                OpenApiTypes.STR, examples=[OpenApiExample("a breaker", value=_METRICS, response_only=True)]
            )
            for media in ("text/plain", "application/openmetrics-text")
        }
        | _METRICS_ERRORS,
        auth=[{"metricsToken": []}, {}],  # type: ignore[list-item]  # drf-spectacular takes what OpenAPI has
    )
)

_CHECKS = {"database": "ok", "redis": "ok", "mifos": "ok"}
readyz = extend_schema_view(
    get=extend_schema(
        operation_id="readyz",
        tags=["Probes"],
        summary="Should this process get traffic?",
        description="Stays 200 while MIFOS, Redis or the database is away: calls are guarded or rejected all the same.",
        parameters=_PROBE_HEADERS,
        responses={
            200: OpenApiResponse(
                ReadinessSerializer,
                description="It should.",
                examples=[
                    OpenApiExample("ok", value={"status": "ok", "checks": _CHECKS}, response_only=True),
                    OpenApiExample(
                        "degraded",
                        value={"status": "degraded", "checks": {**_CHECKS, "redis": "away"}},
                        response_only=True,
                    ),
                ],
            ),
            503: OpenApiResponse(
                ReadinessSerializer,
                description="It should not: the database has been away too long for any token to be known.",
                examples=[
                    OpenApiExample(
                        "unavailable",
                        value={"status": "unavailable", "checks": {**_CHECKS, "database": "away"}},
                        response_only=True,
                    )
                ],
            ),
            **_PROBE_ERRORS,
        },
        auth=[],
    )
)
