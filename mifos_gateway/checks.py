"""Django's system checks for the settings of this app: a wrong one stops the start and says how to put it right."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from breaker.engine.policy import PolicyError
from breaker.fallbacks import Fallback
from breaker.registry import registry
from mifos_gateway import fallbacks, guard
from mifos_gateway.conf import GatewaySettings
from mifos_gateway.outbox import rules
from mifos_gateway.outbox.rules import DeferredRule
from mifos_gateway.routes import RouteError, Rule

_DENIED_HINT = (
    "Each is 'METHOD pattern', such as '* users*' or 'DELETE loans/*'; none allows all (GATEWAY_DENIED_ROUTES)."
)
_FALLBACKS_HINT = (
    "Each is a breaker, such as 'MIFOS-Maker-get', or a route, such as 'GET offices*', with a strategy of "
    "mifos_gateway.fallbacks or a function (call, error). Placeholder and Cached are for GET alone, Deferred is for "
    "what writes."
)
_CACHED_HINT = (
    "Each is a path pattern with seconds, such as {'offices': 600}, or with Cached(max_stale=600) "
    "(GATEWAY_CACHED_ROUTES=offices=600)."
)
_DEFERRED_HINT = (
    "Each is 'METHOD pattern' with seconds or Deferred(ttl=600), such as {'POST loans/*?command=disburse': 600} "
    "(GATEWAY_DEFERRED_ROUTES=POST clients,POST loans/*?command=disburse=600)."
)
_KEPT_BY_ONE = tuple(
    f"django.core.cache.backends.{name}"
    for name in ("locmem.LocMemCache", "dummy.DummyCache", "filebased.FileBasedCache", "db.DatabaseCache")
)
_MIDDLEWARE = ("mifos_gateway.middleware.RequestIdMiddleware", "mifos_gateway.middleware.AccessLogMiddleware")
_HANDLER = "mifos_gateway.api_errors.exception_handler"
_TYPES: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "MAX_REQUEST_BYTES": ("E002", "a whole number of bytes, at least 1", lambda value: _is_whole(value)),
    "BULKHEAD": ("E003", "a whole number of calls in flight, at least 1", lambda value: _is_whole(value)),
    "RAW_IDEMPOTENCY_KEYS": ("E004", "True or False", lambda value: isinstance(value, bool)),
    "IGNORE_REPLAYS": ("E005", "True or False", lambda value: isinstance(value, bool)),
    "BUSINESS_503_CODES": ("E006", "a list of texts", lambda value: _is_list_of_texts(value)),
    "CACHED_BYTES": ("E013", "a whole number of bytes, at least 1", lambda value: _is_whole(value)),
    "DEFERRED_LET_DIRECT_PASS": ("E018", "True or False", lambda value: isinstance(value, bool)),
    "DEFERRED_RATE": ("E019", "a number per second, more than 0", lambda value: _is_positive(value)),
    "DEFERRED_THREADS": ("E020", "a whole number of threads, at least 1", lambda value: _is_whole(value)),
    "DEFERRED_GRACE": ("E025", "seconds, more than 0", lambda value: _is_positive(value)),
    "DEFERRED_DAYS": ("E021", "a whole number of days, at least 1", lambda value: _is_whole(value)),
    "IDEMPOTENCY_DAYS": ("E022", "a whole number of days, at least 1", lambda value: _is_whole(value)),
    "MIFOS_PURGE_DAYS": ("E023", "a whole number of days, at least 1", lambda value: _is_whole(value)),
    "CACHED_ENTRY_BYTES": ("E014", "a whole number of bytes, at least 1", lambda value: _is_whole(value)),
}


@register
def check_gateway(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    given = getattr(settings, "GATEWAY", {})
    if not isinstance(given, dict):
        return [_error("E001", f"settings.GATEWAY is {given!r}", "Make it a dict, or leave it out.")]
    return [
        *_unknown_keys(given),
        *_wrong_types(given),
        *_wrong_routes(given),
        *_wrong_fallbacks(given),
        *_wrong_cached_routes(given),
        *_wrong_deferred_routes(given),
        *_wrong_keys(given),
    ]


@register
def check_mifos(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    # Unset is not wrong: commands need no MIFOS, and what serves refuses to start without.
    base_url = getattr(settings, "MIFOS", {}).get("BASE_URL")
    if not base_url:
        return []
    parts = urlsplit(str(base_url))
    if parts.scheme in ("http", "https") and parts.hostname and parts.username is None and not parts.query:
        return []
    # The address may hold a password, so it is not shown.
    hint = "Write http(s)://host[:port]/fineract-provider, without user, password and query (MIFOS_BASE_URL)."
    return [_error("E009", "settings.MIFOS['BASE_URL'] is not the address of a MIFOS", hint)]


@register
def check_breakers(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    try:
        guard.make_breakers()
    except PolicyError as error:
        hint = "Durations are seconds. See BREAKER_TIMEOUT and the others, and settings.BREAKER['BREAKERS']."
        return [_error("E010", f"The breakers' options cannot be used: {error}", hint)]
    return []


@register
def check_breaker_names(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Options for a breaker that nobody has made are options for nothing."""
    known = [*guard.USERS, *guard.NAMES.values(), *registry.circuits]
    return [
        _warning(
            "W003",
            f"settings.BREAKER['BREAKERS'] has options for {name!r}, and there is no such breaker",
            _closest_breaker(name, known),
        )
        for name in getattr(settings, "BREAKER", {}).get("BREAKERS", {})
        if name not in known
    ]


@register
def check_bulkhead(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    given = getattr(settings, "GATEWAY", {})
    if not isinstance(given, dict) or not all(_is_whole(given.get(key)) for key in ("THREADS", "BULKHEAD")):
        return []
    threads, places = given["THREADS"], given["BULKHEAD"]
    if 2 * places < threads:
        return []
    more_threads = f"set WEB_THREADS to {2 * places + 1} at least."
    fewer_places = f"Set GATEWAY_BULKHEAD to {(threads - 1) // 2} at most, or {more_threads}"
    return [
        _warning(
            "W004",
            f"Calls to MIFOS may take all {threads} threads of a worker (maker {places}, checker {places}): "
            "while MIFOS hangs, status, probes and the admin would wait with it",
            fewer_places if threads > 2 else f"S{more_threads[1:]}",
        )
    ]


@register
def check_wiring(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    missing = [name for name in _MIDDLEWARE if name not in settings.MIDDLEWARE]
    if missing:
        hint = "Put them first, the one for request ids before the one for the access log."
        found.append(_warning("W001", f"MIDDLEWARE lacks {', '.join(missing)}", hint))
    if getattr(settings, "REST_FRAMEWORK", {}).get("EXCEPTION_HANDLER") != _HANDLER:
        hint = f"Set REST_FRAMEWORK['EXCEPTION_HANDLER'] = {_HANDLER!r}."
        found.append(_warning("W002", "Errors will not have their documented shape", hint))
    return found


def _unknown_keys(given: dict[str, Any]) -> Iterator[CheckMessage]:
    known = [name.upper() for name in GatewaySettings.__dataclass_fields__]
    for key in given:
        if key not in known:
            yield _error("E007", f"settings.GATEWAY has an unknown key {key!r}", f"There are: {', '.join(known)}.")


def _wrong_types(given: dict[str, Any]) -> Iterator[CheckMessage]:
    for key, (ident, allowed, accepts) in _TYPES.items():
        if given.get(key) is not None and not accepts(given[key]):
            yield _error(ident, f"settings.GATEWAY[{key!r}] is {given[key]!r}", f"Make it {allowed} (GATEWAY_{key}).")


def _wrong_routes(given: dict[str, Any]) -> Iterator[CheckMessage]:
    routes = given.get("DENIED_ROUTES")
    if routes is not None and not _is_list_of_texts(routes):
        yield _error("E008", f"settings.GATEWAY['DENIED_ROUTES'] is {routes!r}", "Make it a list. " + _DENIED_HINT)
        return
    for text in routes or ():
        try:
            Rule.parse(text)
        except RouteError as error:
            yield _error("E008", f"settings.GATEWAY['DENIED_ROUTES']: {error}", _DENIED_HINT)


def _wrong_fallbacks(given: dict[str, Any]) -> Iterator[CheckMessage]:
    chosen = given.get("FALLBACKS")
    if chosen is not None and not isinstance(chosen, dict):
        yield _error("E011", f"settings.GATEWAY['FALLBACKS'] is {chosen!r}", f"Make it a dict. {_FALLBACKS_HINT}")
        return
    for key, value in (chosen or {}).items():
        if problem := _problem_of_fallback(key, value):
            yield _error("E011", f"settings.GATEWAY['FALLBACKS'][{key!r}]: {problem}", _FALLBACKS_HINT)


def _problem_of_fallback(key: Any, value: Any) -> str:
    if not isinstance(key, str) or (" " not in key.strip() and key not in guard.NAMES.values()):
        return "stands for no breaker and no route"
    try:
        chosen = fallbacks.of(value)
        if chosen.reads_only and fallbacks.writes(key):
            return "answers calls that write, and would say that it was done"
        if fallbacks.deferred_in(chosen) is not None and not fallbacks.writes(key):
            return "defers calls that read"
    except (TypeError, RouteError) as error:
        return str(error)
    return ""


def _wrong_cached_routes(given: dict[str, Any]) -> Iterator[CheckMessage]:
    cached = given.get("CACHED_ROUTES")
    if cached is not None and not isinstance(cached, dict):
        yield _error("E012", f"settings.GATEWAY['CACHED_ROUTES'] is {cached!r}", f"Make it a dict. {_CACHED_HINT}")
        return
    for pattern, value in (cached or {}).items():
        try:
            if " " in str(pattern).strip():
                raise ValueError(f"{pattern!r} holds a method; only GETs are kept, and a pattern is a path alone")
            Rule.parse(f"GET {pattern}")
            fallbacks.cached_route(value)
        except ValueError as error:
            yield _error("E012", f"settings.GATEWAY['CACHED_ROUTES'][{pattern!r}]: {error}", _CACHED_HINT)
    chosen = given.get("FALLBACKS")
    if cached or (isinstance(chosen, dict) and any(_keeps(value) for value in chosen.values())):
        yield from _unfit_cache(given.get("CACHE_ALIAS") or "default")


def _keeps(value: Any) -> bool:
    return isinstance(value, Fallback) and fallbacks.cached_in(value) is not None


def _unfit_cache(alias: str) -> Iterator[CheckMessage]:
    cache = settings.CACHES.get(alias)
    if cache is None:
        hint = f"There are: {', '.join(settings.CACHES)}."
        yield _error("E015", f"settings.GATEWAY['CACHE_ALIAS'] is {alias!r}, and there is no such cache", hint)
    elif cache.get("BACKEND") in _KEPT_BY_ONE:
        text = (
            f"Answers are kept in CACHES[{alias!r}], which not all processes share (or which holds a "
            "database's connection while MIFOS is called): a write drops only what its own process keeps"
        )
        yield _warning("W005", text, "Take one such as django-redis (CACHE_URL).")
    elif cache.get("OPTIONS", {}).get("IGNORE_EXCEPTIONS", getattr(settings, "DJANGO_REDIS_IGNORE_EXCEPTIONS", False)):
        text = f"CACHES[{alias!r}] hides that it is away, so that a write may not drop what is kept of it"
        yield _warning("W006", text, "Take a cache without IGNORE_EXCEPTIONS (GATEWAY['CACHE_ALIAS']).")


def _wrong_deferred_routes(given: dict[str, Any]) -> Iterator[CheckMessage]:
    named = given.get("DEFERRED_ROUTES")
    if named is not None and not isinstance(named, dict) and not _is_list_of_texts(named):
        yield _error("E017", f"settings.GATEWAY['DEFERRED_ROUTES'] is {named!r}", f"Make it a dict. {_DEFERRED_HINT}")
        return
    days = _days(given, "MIFOS_PURGE_DAYS")
    for rule, value in rules.by_rule(named or {}).items():
        try:
            DeferredRule.parse(rule)
            deferred = rules.route(value)
            if (deferred.ttl or 0) > days * 86_400:
                raise ValueError(
                    f"a time to live of {deferred.ttl:g} s is beyond the {days} days after which MIFOS forgets keys "
                    "(GATEWAY_MIFOS_PURGE_DAYS): what is sent again then would be done again"
                )
        except ValueError as error:
            yield _error("E017", f"settings.GATEWAY['DEFERRED_ROUTES'][{rule!r}]: {error}", _DEFERRED_HINT)
            continue
        if not deferred.safe and rules.never_honours_keys(rule):
            text = f"settings.GATEWAY['DEFERRED_ROUTES'][{rule!r}]: MIFOS looks at no keys there, so it is not deferred"
            yield _warning("W007", text, "Take it out; or, if doing it twice does no harm, Deferred(safe=True).")
    kept, known = _days(given, "DEFERRED_DAYS"), _days(given, "IDEMPOTENCY_DAYS")
    if kept < known:
        text = f"settings.GATEWAY: what has ended is deleted after {kept} days, and its key known for {known}"
        yield _error("E024", text, "Make DEFERRED_DAYS at least IDEMPOTENCY_DAYS (GATEWAY_DEFERRED_DAYS).")


def _wrong_keys(given: dict[str, Any]) -> Iterator[CheckMessage]:
    try:
        for key in given.get("PAYLOAD_KEYS") or ():
            Fernet(key)
    except (ValueError, TypeError):
        text = "settings.GATEWAY['PAYLOAD_KEYS'] has one that is no key"  # which is nobody's to see
        yield _error("E016", text, "Make each with cryptography.fernet.Fernet.generate_key() (GATEWAY_PAYLOAD_KEYS).")


def _days(given: dict[str, Any], key: str) -> int:
    """As they are set; what is wrong with them others say."""
    value: Any = given.get(key)
    found: int = value if _is_whole(value) else getattr(GatewaySettings(), key.lower())
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _closest_breaker(name: str, known: Sequence[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    closest = by_lower[difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0)[0]]
    return (
        f"The closest is {closest!r}; groups are {' and '.join(guard.USERS)} (BREAKER_OPTIONS). A breaker of this name "
        "in your own code that is made later gets these options all the same: then silence this warning."
    )


def _warning(ident: str, message: str, hint: str) -> CheckMessage:
    return Warning(message, hint=hint, id=f"mifos_gateway.{ident}")


def _error(ident: str, message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint, id=f"mifos_gateway.{ident}")
