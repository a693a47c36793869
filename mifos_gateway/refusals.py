"""What the gateway itself refuses, before any byte goes to MIFOS.

GatewayError                     (errors.py has the rest of the tree: what may happen once a call is under way)
├── Refusal                      sent: False, always
│   ├── NotAuthenticated         401 NOT_AUTHENTICATED        no token, or none that is live
│   ├── MetricsClosed            401 NOT_AUTHENTICATED        the same for metrics, which have a token of their own
│   ├── Forbidden                403 FORBIDDEN                the wrong client, maker or checker, or a missing scope
│   ├── RouteDenied              403 ROUTE_DENIED             the route is closed, to all or to this consumer
│   ├── InvalidPath              400 INVALID_PATH             the path could leave MIFOS's API
│   ├── InvalidQuery             400 INVALID_QUERY            the query chooses a tenant
│   ├── InvalidIdempotencyKey    400 INVALID_IDEMPOTENCY_KEY
│   ├── InvalidBody              400 INVALID_BODY             the body broke off or is badly framed
│   ├── RequestTooLarge          413 REQUEST_TOO_LARGE
│   ├── InvalidOrderKey          400 INVALID_ORDER_KEY
│   ├── IdempotencyKeyReused     422 IDEMPOTENCY_KEY_REUSED   the key has come with another body
│   ├── DeferredAhead            409 DEFERRED_AHEAD           what was accepted before it is not done yet
│   ├── OutboxUnavailable        503 OUTBOX_UNAVAILABLE       the database is away, which holds what was accepted
│   ├── NotCached                504 NOT_CACHED               only what is kept was asked for (only-if-cached)
│   └── TokensUnavailable        503 TOKENS_UNAVAILABLE       the database is away and the token is not remembered
└── ServiceUnavailable           503 SERVICE_UNAVAILABLE      the circuit, its trial, capacity or bulkhead rejects
"""

from types import MappingProxyType

from mifos_gateway.errors import GatewayError


class Refusal(GatewayError):
    """Nothing was sent, and the same call will be refused again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class NotAuthenticated(Refusal):
    code = "NOT_AUTHENTICATED"
    status = 401
    headers = MappingProxyType({"WWW-Authenticate": "Token"})


class MetricsClosed(Refusal):
    code = "NOT_AUTHENTICATED"
    status = 401
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class Forbidden(Refusal):
    code = "FORBIDDEN"
    status = 403


class RouteDenied(Refusal):
    code = "ROUTE_DENIED"
    status = 403


class InvalidPath(Refusal):
    code = "INVALID_PATH"
    status = 400


class InvalidQuery(Refusal):
    code = "INVALID_QUERY"
    status = 400


class InvalidIdempotencyKey(Refusal):
    code = "INVALID_IDEMPOTENCY_KEY"
    status = 400


class InvalidOrderKey(Refusal):
    code = "INVALID_ORDER_KEY"
    status = 400


class IdempotencyKeyReused(Refusal):
    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422

    def __init__(self, other: str = "with another body") -> None:
        super().__init__(f"This Idempotency-Key has come {other} before; a new request needs a new key.")


class DeferredAhead(Refusal):
    """`location`: of the first that is ahead, if it is this consumer's own."""

    code = "DEFERRED_AHEAD"
    status = 409

    def __init__(self, order_key: str, location: str | None) -> None:
        whose = "Deferred requests" if location else "Deferred requests of others"
        super().__init__(
            f"{whose} of the order {order_key} come before this one; wait for them, or ask for this one to be deferred "
            "as well (Prefer: respond-async)."
        )
        self.headers = {"Location": location} if location else {}


class OutboxUnavailable(Refusal):
    code = "OUTBOX_UNAVAILABLE"
    status = 503
    headers = MappingProxyType({"Retry-After": "2"})

    def __init__(self) -> None:
        super().__init__("What was deferred cannot be looked up at the moment. Please try again.")


class InvalidBody(Refusal):
    code = "INVALID_BODY"
    status = 400


class RequestTooLarge(Refusal):
    code = "REQUEST_TOO_LARGE"
    status = 413


class NotCached(Refusal):
    code = "NOT_CACHED"
    status = 504

    def __init__(self) -> None:
        super().__init__("No answer is kept that the Cache-Control of this call allows; ask without only-if-cached.")


class TokensUnavailable(Refusal):
    code = "TOKENS_UNAVAILABLE"
    status = 503
    headers = MappingProxyType({"Retry-After": "2"})


class ServiceUnavailable(GatewayError):
    """A rejected call: nothing was sent; `retry_after` says when it is worth trying again."""

    code = "SERVICE_UNAVAILABLE"
    status = 503
    rejected = True

    def __init__(self, *, breaker: str, reason: str, retry_after: int) -> None:
        super().__init__(f"Service temporarily unavailable. Please try again in {retry_after} seconds.", sent=False)
        self.breaker = breaker
        self.reason = reason
        self.retry_after = retry_after
        self.headers = {"Retry-After": str(retry_after)}
