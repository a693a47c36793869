"""Fineract's front door: context path, tenant, authentication, routing, and how errors and ETags leave."""

import hashlib
import re
from dataclasses import replace
from urllib.parse import unquote

from .bank import Bank
from .call import PASSWORDS, Call, Spoil, Tenant
from .desk import Desk
from .errors import BadRequest, FineractError, InvalidMethod, NotAuthenticated, NotFound, detail, unmapped
from .messages import CONTEXT_PATH, Answer, Request, html_answer, json_answer
from .reads import echo
from .routes import ROUTES, Route

TENANTS = ("default", "second")
EXTERNAL_IDS = ("clients", "loans", "savingsaccounts", "offices", "loanproducts")


class Api:
    """Answers what Fineract would."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._tenants = {name: Tenant(name) for name in TENANTS}

    def handle(self, request: Request, spoil: Spoil | None = None) -> Answer:
        try:
            return _conditional(request, self._answer(request, spoil or Spoil()))
        except FineractError as error:
            return error.answer()
        except Exception as error:
            return unmapped(error)

    def _answer(self, request: Request, spoil: Spoil) -> Answer:
        path = request.path.removeprefix(CONTEXT_PATH)
        if path != request.path and re.fullmatch(r"/actuator/health(/(liveness|readiness))?", path):
            return json_answer({"status": "UP"})
        version, rest = path[:8], path[8:]
        if path == request.path or version not in ("/api/v1/", "/api/v2/"):
            return html_answer(404, "Not Found")
        tenant = self._tenants.get(request.tenant or "")
        if tenant is None:
            return html_answer(400, "Bad Request")  # by the servlet container, before Fineract maps any error
        call = Call(request, _user(request, rest), tenant, spoil)
        segments = [unquote(segment) for segment in rest.split("/")]
        if segments[0] == "__echo":
            return echo(request)
        if version == "/api/v2/":
            segments.insert(0, "v2")
        return self._route(call, _without_external_id(tenant.bank, segments))

    def _route(self, call: Call, segments: list[str]) -> Answer:
        matches = [(route, found) for route in ROUTES if (found := route.match(segments)) is not None]
        if not matches:
            raise NotFound("error.msg.resource.not.found", f"There is nothing at {call.request.path}")
        method = "GET" if call.request.method == "HEAD" else call.request.method
        candidates = {route: found for route, found in matches if route.method == method}
        if not candidates:
            raise InvalidMethod(method)
        route = _by_command(list(candidates), call.request.param("command"))
        ids, name = candidates[route]
        return route.answer(self._desk, replace(call, ids=ids, name=name))


def _by_command(routes: list[Route], wanted: str) -> Route:
    """A path with commands knows these only; one without ignores the parameter."""
    for route in routes:
        if route.command == wanted or (not route.command and len(routes) == 1):
            return route
    message = f"The query parameter command has an unsupported value of: {wanted}"
    code = "error.msg.query.parameter.value.unsupported"
    raise BadRequest(detail(code, message, parameter="command", value=wanted))


def _user(request: Request, rest: str) -> str:
    if rest == "authentication":
        return "anonymous"
    username, password = request.credentials or ("", "")
    if PASSWORDS.get(username) != password:
        raise NotAuthenticated()
    return username


def _without_external_id(bank: Bank, segments: list[str]) -> list[str]:
    """`clients/external-id/x/…` is `clients/{id}/…`."""
    if len(segments) < 3 or segments[1] != "external-id" or segments[0] not in EXTERNAL_IDS:
        return segments
    with bank.lock:
        return [segments[0], str(bank.id_of(segments[0], segments[2])), *segments[3:]]


def _conditional(request: Request, answer: Answer) -> Answer:
    """ETag and 304. Fineract has none; proxies in front of it do."""
    if request.method not in ("GET", "HEAD") or answer.status != 200 or answer.chunked:
        return answer
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    if tag in [candidate.strip() for candidate in request.headers.get("if-none-match", "").split(",")]:
        return Answer(304, b"", None, (("ETag", tag),))
    return answer.having(("ETag", tag))
