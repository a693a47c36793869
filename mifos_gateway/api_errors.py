"""Make every error one shape: `{"success": false, "code", "message", "requestId"}` and the header `X-Gateway-Error`.

Ours, DRF's and Django's own; where a call to MIFOS was meant with `sent`, for a rejected one with `retryAfter` and
`breaker`.
"""

import json
import logging
import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template import loader
from django.views import defaults
from rest_framework import exceptions

from mifos_gateway import exchange
from mifos_gateway.errors import GatewayError, Sent
from mifos_gateway.refusals import ServiceUnavailable

log = logging.getLogger("gateway")

CODES = {
    400: "BAD_REQUEST",
    401: "NOT_AUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
_MESSAGES = {
    400: "The request cannot be understood.",
    403: "This is not allowed.",
    404: "There is nothing at this address.",
    500: "Something went wrong in the gateway.",
}


def answer(
    request: HttpRequest,
    *,
    status: int,
    message: str | None = None,
    code: str | None = None,
    sent: Sent = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> HttpResponse:
    """The error as a response; `sent` defaults to what this request has come to."""
    current = exchange.of(request)
    current.code = code or code_of(status)
    sent = current.sent if sent is None else sent
    body = {
        "success": False,
        "code": current.code,
        "message": message or _MESSAGES.get(status) or f"{HTTPStatus(status).phrase}.",
        "requestId": current.request_id,
        **({} if sent is None else {"sent": sent}),
        **more,
    }
    response = HttpResponse(
        json.dumps(body), status=status, content_type="application/json", headers=dict(headers or {})
    )
    response.headers["X-Gateway-Error"] = current.code
    response.headers["Content-Length"] = str(len(response.content))
    return quiet(response)


def code_of(status: int) -> str:
    return CODES.get(status) or ("BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")


def of_error(request: HttpRequest, error: GatewayError) -> HttpResponse:
    more: dict[str, Any] = {}
    if isinstance(error, ServiceUnavailable):
        more = {"retryAfter": error.retry_after, "breaker": error.breaker}
    sent = error.sent if exchange.of(request).sent is not None else None
    return answer(
        request,
        status=error.status,
        code=error.code,
        message=error.for_consumers,
        sent=sent,
        headers=error.headers,
        **more,
    )


def quiet(response: HttpResponse) -> HttpResponse:
    """Keep Django from logging the path, which may hold personal data; the access log has the template."""
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """DRF's hook: nothing gets past it, so no view can answer with Django's pages."""
    request: HttpRequest = context["request"]._request
    match error:
        case GatewayError():
            return of_error(request, error)
        case Http404():
            return answer(request, status=404)
        case PermissionDenied():
            return answer(request, status=403)
        case exceptions.APIException():
            return _of_drf_error(request, error, context)
    _log_unexpected(request, error)
    return answer(request, status=500)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if exchange.expects_html(request):
        return defaults.bad_request(request, exception)
    return answer(request, status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if exchange.expects_html(request):
        return defaults.permission_denied(request, exception)
    return answer(request, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if exchange.expects_html(request):
        return defaults.page_not_found(request, exception)
    return answer(request, status=404)


def server_error(request: HttpRequest) -> HttpResponseBase:
    if not exchange.expects_html(request):
        return answer(request, status=500)
    if isinstance(sys.exception(), OperationalError | InterfaceError):
        page = loader.render_to_string("unavailable.html")  # without a request, whose user the database would know
        return HttpResponse(page, status=503, headers={"Retry-After": "5"})
    return defaults.server_error(request)


def _of_drf_error(request: HttpRequest, error: exceptions.APIException, context: Mapping[str, Any]) -> HttpResponse:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) or 1)
    if error.status_code == 405:
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    return answer(request, status=error.status_code, message=_message(error.detail), headers=headers)


def _message(detail: Any) -> str:
    """One sentence of DRF's nested detail: fields in front of what is wrong with them."""
    if isinstance(detail, dict):
        return " ".join(
            _message(value) if field == "non_field_errors" else f"{field}: {_message(value)}"
            for field, value in detail.items()
        )
    if isinstance(detail, list):
        return " ".join(_message(value) for value in detail)
    return str(detail)


def _log_unexpected(request: HttpRequest, error: Exception) -> None:
    # The traceback without the message, which may quote what the caller sent.
    frames = error.__traceback__
    log.error(
        "%s while serving %s %s",
        type(error).__name__,
        request.method,
        exchange.of(request).route,
        exc_info=(UnexpectedError, UnexpectedError(type(error).__name__), frames),
    )


class UnexpectedError(Exception):
    """Stands in the log for an error whose own message may hold personal data."""
