"""Fallbacks of calls to MIFOS: which one a call has, and what it gives as an answer.

`settings.GATEWAY["FALLBACKS"]` maps breakers (`"MIFOS-Maker-get"`) and routes (`"GET offices*"`) to strategies of
`breaker.fallbacks` or to functions `(call, error)`; the first route that fits comes before the breaker. Nothing is said
by default, and a call fails fast. What a strategy returns is the body of a 200 in JSON, unless it is an answer already.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from django.core.signals import setting_changed

from breaker.fallbacks import Custom, FailFast, Fallback, Placeholder, fallback, strategy
from mifos_gateway import conf, targets
from mifos_gateway.client import answer_of
from mifos_gateway.errors import GatewayError, InvalidCall
from mifos_gateway.routes import Rule, Rules

if TYPE_CHECKING:
    import requests

    from mifos_gateway.guard import Call

__all__ = ["Custom", "FailFast", "Fallback", "Placeholder", "fallback"]

HEADER = "X-Fallback"
MIFOS = "mifos"
"""The provenance of an answer that is no fallback's."""
READS = ("GET", "HEAD", "OPTIONS")


def configured(call: Call) -> Fallback | None:
    """What the settings say of such a call; None: nothing."""
    by_route, by_breaker = _configured()
    if by_route:
        path = targets.parse(call.target).path
        for rules, chosen in by_route:
            if rules.match(call.method, path):
                return chosen
    return by_breaker.get(call.breaker)


def answer(instead: Fallback, call: Call, error: GatewayError) -> requests.Response:
    """What the strategy gives, with its provenance. Raises `error` when it gives nothing, or the strategy's own."""
    if instead.reads_only and call.method not in READS:
        raise error
    given, named = instead.given(call, error)
    made: Any = given if hasattr(given, "status_code") else _json(given)
    made.provenance = made.headers[HEADER] = named
    return cast("requests.Response", made)


def provenance(answer: requests.Response) -> str:
    return getattr(answer, "provenance", MIFOS)


def chosen(given: Any, method: str) -> Fallback | None:
    """What a caller in Python has asked for. Raises InvalidCall."""
    if given is None:
        return None
    try:
        found = strategy(given)
    except TypeError as error:
        raise InvalidCall(str(error)) from None
    if found.reads_only and method not in READS:
        raise InvalidCall(f"fallback={given!r}: {method} writes, and this answer would say that it was done.")
    return found


def _json(value: Any) -> requests.Response:
    content = json.dumps(value, allow_nan=False).encode()
    return answer_of(200, content, {"Content-Type": "application/json"})


def writes(key: str) -> bool:
    """Whether what a key of the settings stands for holds calls that write."""
    if " " in key.strip():
        return Rule.parse(key).method not in READS
    return not key.endswith("-get")


@cache
def _configured() -> tuple[list[tuple[Rules, Fallback]], dict[str, Fallback]]:
    given = conf.gateway().fallbacks
    routes = [(Rules([key]), strategy(value)) for key, value in given.items() if " " in key.strip()]
    return routes, {key: strategy(value) for key, value in given.items() if " " not in key.strip()}


def _forget(*, setting: str, **_: object) -> None:
    if setting == "GATEWAY":
        _configured.cache_clear()


setting_changed.connect(_forget)
