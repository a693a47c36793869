"""Django's middleware for people: calls to MIFOS go past it, since they know no cookie, no session and no form."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from csp import middleware as csp
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest
from django_otp import middleware as otp

from mifos_gateway.exchange import MIFOS_PATH


class _PastCalls:
    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(MIFOS_PATH):
            return self.get_response(request)
        return super().__call__(request)  # type: ignore[misc]


class CSPMiddleware(_PastCalls, csp.CSPMiddleware):
    pass


class SessionMiddleware(_PastCalls, sessions.SessionMiddleware):
    pass


class AuthenticationMiddleware(_PastCalls, auth.AuthenticationMiddleware):
    pass


class OTPMiddleware(_PastCalls, otp.OTPMiddleware):  # type: ignore[misc]
    pass


class MessageMiddleware(_PastCalls, messages.MessageMiddleware):
    pass


def client_address(request: HttpRequest) -> str | None:
    """Whose logins are counted together: the address that the connection or the trusted proxy's header tells."""
    told = request.META.get(settings.CLIENT_ADDRESS_HEADER or "REMOTE_ADDR", "")
    try:
        found = ip_address(_without_port(told.rpartition(",")[2].strip()))  # the last, which the proxy itself has added
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:  # as a socket for both kinds tells IPv4
        found = found.ipv4_mapped
    if isinstance(found, IPv6Address):  # who has one such address has the 2**64 beside it as well
        return str(ip_network((found, 64), strict=False).network_address)
    return str(found)


def _without_port(told: str) -> str:
    """192.0.2.9:4711 and [2001:db8::1]:4711, as some proxies write them."""
    if told.startswith("["):
        return told[1:].partition("]")[0]
    return told.partition(":")[0] if told.count(":") == 1 else told
