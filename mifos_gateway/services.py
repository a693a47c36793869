"""MIFOS in Python: `maker.get("clients", params={"limit": 5})` returns its `requests.Response`, 4xx and 5xx included.

What may be raised is drawn in `errors.py` and `refusals.py`; each error has `.code` and `.sent`, a rejected call's also
`.retry_after`. No route is denied here: the rules are for consumers, and this code has the technical users' rights.
Call it outside of a transaction: a database connection that you hold stays held while MIFOS answers.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from breaker import queries
from mifos_gateway import conf, fallbacks, guard, idempotency, request_id, targets
from mifos_gateway.cache_control import CacheControl
from mifos_gateway.errors import GatewayError, InvalidCall
from mifos_gateway.outbox.preferences import Preference
from mifos_gateway.refusals import IdempotencyKeyReused

if TYPE_CHECKING:
    import requests

Params = Mapping[str, Any] | Sequence[tuple[str, Any]]
Data = bytes | str | Mapping[str, Any]

# What may stand in a URL as it is, and "%", so that what the caller has encoded stays so.
_SAFE = "%/?:@!$&'()*+,;=~-._[]"
_FORM = "application/x-www-form-urlencoded"


class Mifos:
    """MIFOS as one of its two technical users sees it, through that user's breakers."""

    def __init__(self, user: guard.User) -> None:
        self.user = user

    def __repr__(self) -> str:
        return f"<MIFOS as {self.user}>"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> requests.Response:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> requests.Response:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.request("DELETE", path, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        data: Data | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        fallback: Any = None,
        deferred: bool = False,
        order_key: str | None = None,
    ) -> requests.Response:
        """One call; `path` is "clients", "/api/v1/clients" or "v2/clients/search", `json` or `data` its body.

        `fallback` answers when MIFOS does not, instead of what the settings say: a strategy of
        `mifos_gateway.fallbacks` or a function `(call, error)`. The answer's `.provenance` then says which:
        "placeholder" or "custom"; it is "mifos" otherwise.
        `deferred`: a write on a route that may be deferred is accepted for later when MIFOS cannot take it; its answer
        is then a 202 whose `.provenance` is "deferred". Within a transaction it is accepted as that one commits.
        `order_key`: to be sent after those of the same key, instead of after those to the same resource.
        Two calls with one `idempotency_key` (or with the header of that name) are one for MIFOS when user, method, path
        and query are the same too. MIFOS's answers have it in the header `Idempotency-Key`, errors in
        `.idempotency_key`, also where it is one of ours because the write may be deferred.
        """
        from mifos_gateway.outbox import intake  # whose models are there only once Django's apps are

        method = _method(method)
        instead = fallbacks.chosen(fallback, method)
        target = targets.parse(_with_query(path, params))
        targets.refuse_tenant_choice(target.query)
        body, content_type = _body(json, data)
        sent_headers = _headers(content_type, headers)
        idempotency_key = _key(idempotency_key, sent_headers)
        if idempotency_key is not None:
            sent_headers["Idempotency-Key"] = idempotency.key_for_mifos(
                idempotency_key,
                consumer="",  # no consumer's name is empty
                client=self.user,
                method=method,
                target=target,
                raw=conf.gateway().raw_idempotency_keys,
            )
        kept = CacheControl.parse(_taken(sent_headers, "cache-control"))
        call = guard.Call(self.user, method, target.raw, sent_headers, body, cache_control=kept)
        write = intake.write_of(
            method,
            target,
            client=self.user,
            consumer=None,
            key=idempotency_key,
            order_key=order_key,
            preference=Preference(asked=deferred),
            strategy=fallbacks.deferred_in(instead)
            if instead
            else fallbacks.deferring(call.breaker, method, target.path),
            content_type=_header(sent_headers, "content-type"),
            request_id=request_id.of_this_call(),
        )
        call = intake.with_write(call, write)
        try:
            if (answer := intake.admit(call)) is not None:
                return answer
            if instead is not None and write is not None and write.deferred is not None:
                instead = fallbacks.first(write.deferred, instead)
            answer = guard.current().call(call, fallback=instead)
        except GatewayError as error:
            if write is not None and write.key and not isinstance(error, IdempotencyKeyReused):
                error.idempotency_key = write.key
            raise
        if write is not None and write.key and fallbacks.provenance(answer) == fallbacks.MIFOS:  # not one that is kept
            answer.headers.setdefault("Idempotency-Key", write.key)
        return answer


maker = Mifos("maker")
checker = Mifos("checker")


def get_circuit_breaker_status() -> dict[str, Any]:
    """The `data` of `GET /api/v1/circuit-breaker/status`."""
    return queries.status().as_dict()


def _method(method: str) -> str:
    if not method.isascii() or not method.isalpha():
        raise InvalidCall(f"{method!r} is no HTTP method.")
    return method.upper()


def _with_query(path: str, params: Params | None) -> str:
    target = quote(path.removeprefix("/"), safe=_SAFE)
    pairs = params.items() if isinstance(params, Mapping) else params or []
    query = urlencode([(name, value) for name, value in pairs if value is not None], doseq=True)
    return f"{target}{'&' if '?' in target else '?'}{query}" if query else target


def _body(json: Any, data: Data | None) -> tuple[bytes | None, str | None]:
    if json is not None and data is not None:
        raise InvalidCall("A call has one body: json or data.")
    if json is not None:
        return jsonlib.dumps(json, allow_nan=False).encode(), "application/json"
    if isinstance(data, Mapping):
        return urlencode(data, doseq=True).encode(), _FORM
    return (data.encode() if isinstance(data, str) else data), None


def _key(given: str | None, headers: dict[str, str]) -> str | None:
    """The call's key, also where its headers have it: a deferred write would lose it there, for one of ours."""
    found = [headers.pop(each) for each in list(headers) if each.lower() == "idempotency-key"]
    found = [one for one in (given, *found) if one is not None]
    if len(found) > 1:
        raise InvalidCall("A call has one key: idempotency_key, or one header Idempotency-Key.")
    return found[0] if found else None


def _taken(headers: dict[str, str], name: str) -> str:
    """A header's value, which is for us and not for MIFOS."""
    return next((headers.pop(each) or "" for each in list(headers) if each.lower() == name), "")


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for each, value in headers.items() if each.lower() == name), "")


def _headers(content_type: str | None, given: Mapping[str, str] | None) -> dict[str, str]:
    ident = request_id.of_this_call()
    headers = {"Accept": "application/json", "X-Request-ID": ident, "X-Correlation-ID": ident}
    if content_type:
        headers["Content-Type"] = content_type
    lower = {name.lower(): name for name in headers}
    for name, value in (given or {}).items():
        headers.pop(lower.get(name.lower(), ""), None)
        headers[name] = value
    return headers
