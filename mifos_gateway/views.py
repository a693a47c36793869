"""The call to MIFOS over REST."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from mifos_gateway import (
    conf,
    database,
    exchange,
    fallbacks,
    guard,
    idempotency,
    openapi,
    route_template,
    targets,
    wire,
)
from mifos_gateway.authentication import ConsumerTokenAuthentication
from mifos_gateway.errors import GatewayError, classify
from mifos_gateway.outbox import intake
from mifos_gateway.refusals import (
    Forbidden,
    IdempotencyKeyReused,
    NotAuthenticated,
    NotCached,
    RequestTooLarge,
    RouteDenied,
)
from mifos_gateway.routes import METHODS
from mifos_gateway.targets import Target
from mifos_gateway.tokens import Identity


@openapi.mifos_view
class MifosView(APIView):
    """`/api/v1/mifos/{maker|checker}/{path}`: who calls and what they may, before anything of the call is looked at."""

    authentication_classes = (ConsumerTokenAuthentication,)
    permission_classes = ()
    # Bodies are nobody's business here, so no parser and no negotiation.
    parser_classes = ()
    http_method_names = [*(method.lower() for method in METHODS)]  # noqa: RUF012 - Django's own annotation

    target: Target
    write: intake.Write | None = None

    def initial(self, request: Request, client: guard.User, path: str) -> None:
        current = exchange.of(request._request)
        current.client, current.sent = client, False
        consumer: object = request.user
        if not isinstance(consumer, Identity):
            raise NotAuthenticated("A token is needed, as in `Authorization: Token mgw_...`.")
        if not consumer.may(client):
            raise Forbidden(f"This consumer may not call MIFOS as {client}.")
        self.target = targets.parse(_raw_target(request._request, path, current))
        current.route = route_template.of(self.target.path, version=self.target.version)
        refuse_denied(consumer, request.method or "", self.target)
        targets.refuse_tenant_choice(self.target.query)

    def forward(self, request: Request, client: guard.User, path: str) -> HttpResponse:
        django_request, method = request._request, request.method or ""
        current = exchange.of(django_request)
        call = guard.Call(
            user=client,
            method=method,
            target=self.target.raw,
            headers=self._headers(request, client, current.request_id),
            body=wire.body(django_request, conf.gateway().max_request_bytes),
            cache_control=wire.cache_control(django_request),
        )
        call = self._as_write(request, call, current.request_id)
        self.write = call.write
        answer = intake.admit(call)
        database.release()
        if answer is None:
            answer = _through_guard(call, current)
        else:
            current.outcome = "deferred"
        response = wire.answer(answer, method=method)
        self._show_key(response)
        return response

    # One each, so that each has a schema of its own.
    def get(self, request: Request, client: guard.User, path: str) -> HttpResponse:
        return self.forward(request, client, path)

    def post(self, request: Request, client: guard.User, path: str) -> HttpResponse:
        return self.forward(request, client, path)

    def put(self, request: Request, client: guard.User, path: str) -> HttpResponse:
        return self.forward(request, client, path)

    def patch(self, request: Request, client: guard.User, path: str) -> HttpResponse:
        return self.forward(request, client, path)

    def delete(self, request: Request, client: guard.User, path: str) -> HttpResponse:
        return self.forward(request, client, path)

    def head(self, request: Request, client: guard.User, path: str) -> HttpResponse:
        return self.forward(request, client, path)

    def handle_exception(self, exc: Exception) -> Any:
        response = super().handle_exception(exc)
        if not isinstance(exc, IdempotencyKeyReused):  # there is nothing to repeat by it
            self._show_key(response)
        if isinstance(exc, RequestTooLarge):
            wire.end_connection_after(response, self.request._request)
        return response

    def _show_key(self, response: HttpResponse) -> None:
        """To repeat the write by, also where the key is one of ours."""
        if self.write is not None and self.write.key:
            response.headers.setdefault("Idempotency-Key", self.write.key)

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}  # an `Allow` of the gateway's would stand for MIFOS's

    def _as_write(self, request: Request, call: guard.Call, request_id: str) -> guard.Call:
        """With what is known of it if it writes: its key, its order, and whether the caller takes a 202."""
        consumer: Any = request.user
        write = intake.write_of(
            call.method,
            self.target,
            client=call.user,
            consumer=consumer.name,
            key=request.META.get("HTTP_IDEMPOTENCY_KEY"),
            order_key=request.META.get("HTTP_X_ORDER_KEY"),
            preference=wire.preference(request._request),
            strategy=fallbacks.deferring(call.breaker, call.method, self.target.path),
            content_type=request.META.get("CONTENT_TYPE", ""),
            request_id=request_id,
        )
        return intake.with_write(call, write)

    def _headers(self, request: Request, client: str, request_id: str) -> dict[str, str]:
        headers = wire.headers(request._request, request_id)
        consumer: Any = request.user
        # An empty one too: who sent it believes the call to be protected.
        if (key := request.META.get("HTTP_IDEMPOTENCY_KEY")) is not None:
            headers["Idempotency-Key"] = idempotency.key_for_mifos(
                key,
                consumer=consumer.name,
                client=client,
                method=request.method or "",
                target=self.target,
                raw=conf.gateway().raw_idempotency_keys,
            )
        return headers


def _raw_target(request: HttpRequest, path: str, current: exchange.Exchange) -> str:
    current.route = route_template.INVALID
    return wire.target(request, path)


def refuse_denied(consumer: Identity, method: str, target: Target) -> None:
    if conf.denied_routes().match(method, target.path):
        raise RouteDenied("This route is closed to all consumers.")
    if consumer.allow and not consumer.allow.match(method, target.path):
        raise RouteDenied("This route is not among those this consumer may call.")


def _through_guard(call: guard.Call, current: exchange.Exchange) -> Any:
    the_guard = guard.current()
    current.sent = "unknown"  # until an error knows better
    try:
        answer = the_guard.call(call)
    except GatewayError as error:
        current.outcome = "cache" if isinstance(error, NotCached) else classify(None, error).name.lower()
        raise
    if fallbacks.provenance(answer) == fallbacks.Deferred.provenance:
        current.outcome = "deferred"
    elif fallbacks.provenance(answer) != fallbacks.MIFOS:
        current.outcome = "fallback" if fallbacks.HEADER in answer.headers else "cache"
    else:
        current.outcome = classify(answer, None, rules=conf.outcome_rules()).name.lower()
    return answer
