"""Calls to MIFOS meet no session, no user and no message; people's pages do."""

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from config.people import AuthenticationMiddleware, MessageMiddleware, SessionMiddleware

OF_PEOPLE = {"session", "user", "_messages"}


@pytest.mark.parametrize(
    ("path", "met"), [("/admin/", OF_PEOPLE), ("/api/v1/circuit-breaker/status", OF_PEOPLE), ("/api/v1/mifos/x", set())]
)
def test_only_what_people_use_has_a_session(path: str, met: set[str]) -> None:
    seen: list[HttpRequest] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse()

    request = RequestFactory().get(path, headers={"cookie": "sessionid=x"})
    SessionMiddleware(AuthenticationMiddleware(MessageMiddleware(view)))(request)
    assert {name for name in OF_PEOPLE if hasattr(seen[0], name)} == met
