"""Fallbacks of calls to MIFOS: which one a call has, and what it gives as an answer.

`settings.GATEWAY["FALLBACKS"]` maps breakers (`"MIFOS-Maker-get"`) and routes (`"GET offices*"`) to strategies of
`breaker.fallbacks` or to functions `(call, error)`; the first route that fits comes before the breaker. `CACHED_ROUTES`
maps patterns of GETs (`"offices"`) to seconds or to `Cached(...)`, which is asked before those. Nothing is said by
default, and a call fails fast. What a strategy returns is the body of a 200 in JSON, unless it is an answer already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.core.signals import setting_changed

from breaker.fallbacks import Chain, Custom, FailFast, Fallback, Placeholder, fallback, strategy
from mifos_gateway import conf, resources, targets
from mifos_gateway.cached import MIFOS, Cached
from mifos_gateway.client import answer_of
from mifos_gateway.deferred import Deferred
from mifos_gateway.errors import GatewayError, InvalidCall
from mifos_gateway.kept import answers
from mifos_gateway.resources import READS
from mifos_gateway.routes import Rule, Rules

if TYPE_CHECKING:
    import requests

    from mifos_gateway.guard import Call

__all__ = ["MIFOS", "Cached", "Custom", "Deferred", "FailFast", "Fallback", "Placeholder", "fallback"]

T = TypeVar("T")
HEADER = "X-Fallback"
_OF_PROXIES = (408, 502, 503, 504)
"""Statuses of who stands before MIFOS, which may go on all the same."""


def configured(call: Call) -> Fallback | None:
    """What the settings say of such a call; None: nothing."""
    chosen = _configured_for(call)
    if call.write is None or call.write.deferred is None:
        return chosen
    return call.write.deferred if chosen is None else first(call.write.deferred, chosen)


def deferring(breaker: str, method: str, path: str) -> Deferred | None:
    """The strategy that takes such writes for later, where the fallbacks of its route or breaker hold one."""
    told = _configured()
    chosen = (_first(told.routes, method, path) if told.routes else None) or told.breakers.get(breaker)
    return deferred_in(chosen) if chosen is not None else None


def first(deferred: Deferred, others: Fallback) -> Fallback:
    """A chain in which the caller's wish to have it done later comes before what else there is."""
    rest = [
        one for one in (others.strategies if isinstance(others, Chain) else [others]) if not isinstance(one, Deferred)
    ]
    return Chain(deferred, *rest) if rest else deferred


def defers() -> bool:
    """Whether what the settings say of fallbacks defers anything."""
    told = _configured()
    return any(deferred_in(one) for one in (*told.breakers.values(), *(one for _, one in told.routes)))


def deferred_in(instead: Fallback) -> Deferred | None:
    strategies = instead.strategies if isinstance(instead, Chain) else (instead,)
    return next((one for one in strategies if isinstance(one, Deferred)), None)


def _configured_for(call: Call) -> Fallback | None:
    told = _configured()
    if not (told.routes or told.cached):
        return told.breakers.get(call.breaker)
    path = targets.parse(call.target).path
    chosen = _first(told.routes, call.method, path) or told.breakers.get(call.breaker)
    cached = _cached_route(call.method, path)
    if cached is None or chosen is None:
        return chosen or cached
    return Chain(cached, chosen)


def keeper(call: Call, instead: Fallback | None) -> tuple[Cached | None, float]:
    """Who keeps the answer of such a call, and for how many seconds: what its strategy holds, and what the settings say
    of its route, for what one caller asks for must not end what others may get."""
    if call.method != "GET":
        return None, 0
    own = cached_in(instead) if instead is not None else None
    route = _cached_route("GET", targets.parse(call.target).path) if _configured().cached else None
    found = own or route
    return found, max(one.max_stale for one in (own, route) if one) if found else 0


def _cached_route(method: str, path: str) -> Cached | None:
    found = _first(_configured().cached, method, path) if method == "GET" else None
    return found if found is not None and found.max_stale else None


def cached_in(instead: Fallback) -> Cached | None:
    for one in instead.strategies if isinstance(instead, Chain) else (instead,):
        if isinstance(one, Cached) and one.max_stale:
            return one
    return None


def sent(call: Call, send: Callable[[], requests.Response]) -> requests.Response:
    """Send a call. If it writes, what is kept of what it may change counts no longer, from before it goes out."""
    if call.method in READS or not (answers.used or _configured().keeps):
        return send()
    target = targets.parse(call.target)
    if not resources.writes(call.method, target.path, target.query):
        return send()
    answers.drop(target.path)
    try:
        answer = send()
    except GatewayError as error:
        if error.sent is not False:
            answers.drop(target.path, again=True)
        raise
    except BaseException:
        answers.drop(target.path, again=True)
        raise
    answers.drop(target.path, again=answer.status_code in _OF_PROXIES)  # what was read meanwhile may be of before
    return answer


def answer(
    instead: Fallback, call: Call, error: GatewayError, *, rejected: bool
) -> tuple[requests.Response, Sequence[Exception]]:
    """What the strategy gives, with its provenance, and the errors of those in its chain that failed.

    Raises `error` when it gives nothing, or the strategy's own. A function that returns None gives nothing: one that
    only logs must not make a write look done.
    """
    if instead.reads_only and call.method not in READS:
        raise error
    found = instead.given(call, error, rejected=rejected)
    if found.answer is None and found.provenance != Placeholder.provenance:
        raise found.faults[-1] if found.faults else error
    made: Any = _own_copy(found.answer) if hasattr(found.answer, "status_code") else _json(found.answer)
    made.provenance = made.headers[HEADER] = found.provenance
    return cast("requests.Response", made), found.faults


def _own_copy(given: Any) -> Any:
    """A strategy may hand the same answer to many. Raises TypeError for one that cannot go out."""
    if not isinstance(given.status_code, int) or not 200 <= given.status_code <= 599:
        raise TypeError(f"an answer's status is 200 to 599, not {given.status_code!r}")
    if not isinstance(given.content, bytes):
        raise TypeError("an answer's content is bytes")
    made = answer_of(given.status_code, given.content, given.headers)
    made.encoding = getattr(given, "encoding", made.encoding)
    return made


def provenance(answer: requests.Response) -> str:
    return getattr(answer, "provenance", MIFOS)


def chosen(given: Any, method: str) -> Fallback | None:
    """What a caller in Python has asked for. Raises InvalidCall."""
    if given is None:
        return None
    try:
        found = of(given)
    except TypeError as error:
        raise InvalidCall(str(error)) from None
    if deferred_in(found) is not None and method in READS:
        raise InvalidCall(f"fallback: {method} reads, and only writes are deferred.")
    if found.reads_only and method not in READS:
        raise InvalidCall(f"fallback: {method} writes, and a {type(given).__name__} would say that it was done.")
    return found


def of(given: Any) -> Fallback:
    """What was given, as a strategy for calls to MIFOS. Raises TypeError."""
    found = strategy(given)
    if found.is_async:
        raise TypeError("fallback: an async function cannot answer for a call to MIFOS, which is not async")
    return found


def _json(value: Any) -> requests.Response:
    content = json.dumps(value, allow_nan=False).encode()
    return answer_of(200, content, {"Content-Type": "application/json", "Cache-Control": "no-store"})


def writes(key: str) -> bool:
    """Whether what a key of the settings stands for holds calls that write."""
    if " " in key.strip():
        return Rule.parse(key).method not in READS
    return not key.endswith("-get")


def cached_route(given: Any) -> Cached:
    """What `CACHED_ROUTES` says of a pattern: seconds, or a strategy. Raises ValueError."""
    return given if isinstance(given, Cached) else Cached(given)


@dataclass(frozen=True, slots=True)
class _Configured:
    routes: list[tuple[Rules, Fallback]]
    breakers: dict[str, Fallback]
    cached: list[tuple[Rules, Cached]]
    keeps: bool


@cache
def _configured() -> _Configured:
    given, cached = conf.gateway().fallbacks, conf.gateway().cached_routes
    told = {key: of(value) for key, value in given.items()}
    kept = [(Rules([f"GET {pattern}"]), cached_route(value)) for pattern, value in cached.items()]
    return _Configured(
        routes=[(Rules([key]), value) for key, value in told.items() if " " in key.strip()],
        breakers={key: value for key, value in told.items() if " " not in key.strip()},
        cached=kept,
        keeps=any(one.max_stale for _, one in kept) or any(cached_in(one) for one in told.values()),
    )


def _first(routes: Sequence[tuple[Rules, T]], method: str, path: str) -> T | None:
    return next((chosen for rules, chosen in routes if rules.match(method, path)), None)


def _forget(*, setting: str, **_: object) -> None:
    if setting == "GATEWAY":
        _configured.cache_clear()


setting_changed.connect(_forget)
