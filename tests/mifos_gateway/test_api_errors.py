"""Errors that are Django's and DRF's own, in our shape."""

import json
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.urls import urlpatterns as real

RAISED: dict[str, Exception] = {
    "fault": RuntimeError("x"),
    "denied": PermissionDenied(),
    "missing": Http404(),
    "suspicious": SuspiciousOperation("x"),
    "invalid": exceptions.ValidationError({"reason": ["This field is required."]}),
    "unauthenticated": exceptions.NotAuthenticated(),
    "throttled": exceptions.Throttled(wait=7),
    "media": exceptions.UnsupportedMediaType("text/x"),
}


class RaisingView(APIView):
    permission_classes = ()

    def get(self, request: Request, name: str) -> Response:
        raise RAISED[name]


def raising(request: HttpRequest, name: str) -> HttpResponse:
    raise RAISED[name]


urlpatterns = [
    path("api/v1/drf/<name>", RaisingView.as_view()),
    path("api/v1/django/<name>", raising),
    path("admin/django/<name>", raising),
    path("", include(real)),
]
handler400 = "mifos_gateway.api_errors.bad_request"
handler403 = "mifos_gateway.api_errors.permission_denied"
handler404 = "mifos_gateway.api_errors.not_found"
handler500 = "mifos_gateway.api_errors.server_error"

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture(params=[False, True], ids=["production", "DEBUG"])
def client(request: pytest.FixtureRequest, settings: Any) -> Client:
    settings.DEBUG = request.param
    settings.DEBUG_PROPAGATE_EXCEPTIONS = False
    return Client(raise_request_exception=False)


def assert_error(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(response.content)
    assert (response.status_code, body["code"], response.headers["X-Gateway-Error"]) == (status, code, code)
    assert set(body) == {"success", "code", "message", "requestId"}
    assert body["requestId"] == response.headers["X-Request-ID"]
    return body


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("fault", 500, "INTERNAL_ERROR"),
        ("denied", 403, "FORBIDDEN"),
        ("invalid", 400, "BAD_REQUEST"),
        ("unauthenticated", 401, "NOT_AUTHENTICATED"),
        ("throttled", 429, "TOO_MANY_REQUESTS"),
        ("media", 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
def test_drfs_errors_have_our_shape(client: Client, name: str, status: int, code: str) -> None:
    assert_error(client.get(f"/api/v1/drf/{name}"), status, code)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("fault", 500, "INTERNAL_ERROR"), ("denied", 403, "FORBIDDEN"), ("suspicious", 400, "BAD_REQUEST")],
)
def test_djangos_errors_have_our_shape(client: Client, name: str, status: int, code: str) -> None:
    assert_error(client.get(f"/api/v1/django/{name}"), status, code)


@pytest.mark.parametrize("address", ["/api/v1/nothing", "/api/nothing", "/nothing", "/", "/api/v1/django/fault/more"])
def test_nothing_there_has_our_shape(client: Client, address: str) -> None:
    assert_error(client.get(address), 404, "NOT_FOUND")


def test_a_wrong_method_has_our_shape(client: Client) -> None:
    response = client.post("/api/v1/drf/fault")

    assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_a_host_that_is_not_ours_has_our_shape(client: Client) -> None:
    assert_error(client.get("/api/v1/drf/fault", headers={"Host": "evil.example"}), 400, "BAD_REQUEST")


def test_a_missing_csrf_token_has_our_shape() -> None:
    assert_error(Client(enforce_csrf_checks=True).post("/api/v1/django/fault"), 403, "FORBIDDEN")


def test_a_challenge_and_a_wait_are_told(client: Client) -> None:
    assert client.get("/api/v1/drf/unauthenticated").headers["WWW-Authenticate"] == "Token"
    assert client.get("/api/v1/drf/throttled").headers["Retry-After"] == "7"


def test_a_validation_error_is_one_sentence(client: Client) -> None:
    body = assert_error(client.get("/api/v1/drf/invalid"), 400, "BAD_REQUEST")

    assert body["message"] == "reason: This field is required."


@pytest.mark.parametrize("name", ["fault", "denied", "suspicious", "missing"])
def test_people_get_pages(client: Client, name: str) -> None:
    response = client.get(f"/admin/django/{name}")

    assert response.headers["Content-Type"].startswith("text/html")
    code = {"fault": "INTERNAL_ERROR", "denied": "FORBIDDEN", "suspicious": "BAD_REQUEST"}.get(name, "NOT_FOUND")
    assert response.headers["X-Gateway-Error"] == code


def test_a_page_that_lacks_its_csrf_token_says_that_it_is_ours(client: Client) -> None:
    response = Client(enforce_csrf_checks=True).post("/admin/login/")

    assert (response.status_code, response.headers["X-Gateway-Error"]) == (403, "FORBIDDEN")
    assert response.headers["Content-Type"].startswith("text/html")


def test_a_static_file_that_is_not_there_has_our_shape(client: Client) -> None:
    assert_error(client.get("/static/nothing.css"), 404, "NOT_FOUND")


def test_a_static_file_from_a_host_that_is_not_ours_has_our_shape(client: Client) -> None:
    assert_error(client.get("/static/nothing.css", headers={"Host": "evil.example"}), 400, "BAD_REQUEST")


def test_a_static_file_cannot_be_posted_to(client: Client) -> None:
    response = client.post("/static/admin/css/base.css")

    assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/livez", "/nothing", "/api/v1/drf/fault", "/static/nothing", "/admin/django/denied"])
def test_a_head_gives_the_server_no_body(path: str) -> None:
    # Past Django's test client, which takes bodies off as gunicorn does, but without gunicorn's warning.
    handler, requests = WSGIHandler(), RequestFactory()
    get, head = (handler.get_response(requests.generic(method, path)) for method in ("GET", "HEAD"))

    assert (len(get.content) > 0, head.content) == (True, b"")
    assert head.headers["Content-Length"] == str(len(get.content))


def test_every_answer_carries_a_request_id(client: Client) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "abc"}).headers["X-Request-ID"] == "abc"
