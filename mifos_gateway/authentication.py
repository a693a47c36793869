"""Know the caller by `Authorization: Token …`."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from mifos_gateway import exchange
from mifos_gateway.refusals import NotAuthenticated
from mifos_gateway.token_memory import memory
from mifos_gateway.tokens import Identity


class ConsumerTokenAuthentication(BaseAuthentication):
    """DRF's way in: any live token; what it may do is asked elsewhere."""

    def authenticate(self, request: Request) -> tuple[Identity, None] | None:
        scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "token":
            return None
        identity = memory.identify(credentials.strip())
        if identity is None:
            raise NotAuthenticated("The token is not valid, was revoked or has expired.")
        exchange.of(request._request).consumer = identity.name
        return identity, None

    def authenticate_header(self, request: Request) -> str:
        return "Token"
