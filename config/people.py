"""Django's middleware for people: calls to MIFOS go past it, since they know no cookie, no session and no form."""

from typing import Any

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest

from mifos_gateway.exchange import MIFOS_PATH


class _PastCalls:
    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(MIFOS_PATH):
            return self.get_response(request)
        return super().__call__(request)  # type: ignore[misc]


class SessionMiddleware(_PastCalls, sessions.SessionMiddleware):
    pass


class AuthenticationMiddleware(_PastCalls, auth.AuthenticationMiddleware):
    pass


class MessageMiddleware(_PastCalls, messages.MessageMiddleware):
    pass
