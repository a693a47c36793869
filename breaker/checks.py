"""System checks of this app's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from breaker import conf
from breaker.engine.policy import Policy, PolicyError


@register()
def check_options(**kwargs: Any) -> Iterable[CheckMessage]:
    """Every set of options in the settings makes a policy."""
    given = getattr(settings, "BREAKER", {})
    for name, options in {"DEFAULTS": given.get("DEFAULTS", {}), **given.get("BREAKERS", {})}.items():
        try:
            Policy.of(options)
        except (PolicyError, TypeError) as error:
            yield Error(
                f"BREAKER settings of {name}: {error}",
                hint="Options are those of breaker.engine.policy.Policy, durations in seconds.",
                id="breaker.E001",
            )


@register()
def check_database_number(**kwargs: Any) -> Iterable[CheckMessage]:
    """A cache's clear() is FLUSHDB: it must not share a database number with the breakers' state."""
    mine = conf.redis_alias()
    if mine not in settings.CACHES:
        return
    for alias, cache in settings.CACHES.items():
        if alias != mine and _databases(cache) & _databases(settings.CACHES[mine]):
            yield Error(
                f"CACHES[{alias!r}] is in the same Redis database as CACHES[{mine!r}]: clearing it would erase the "
                "state of every breaker.",
                hint="Give the cache another database number, for instance by CACHE_URL.",
                id="breaker.E002",
            )


def _databases(cache: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(server, database number) of a Redis cache's locations."""
    location = cache.get("LOCATION") or ()
    places = [location] if isinstance(location, str) else list(location)
    urls = [urlsplit(place) for place in places if "redis" in str(cache.get("BACKEND", "")).lower()]
    return {(_server(url), _number(url)) for url in urls}


def _server(url: Any) -> str:
    if url.scheme in ("unix", "redis+unix"):
        return str(url.path)
    return f"{url.hostname}:{url.port or 6379}"


def _number(url: Any) -> str:
    for pair in url.query.split("&"):
        key, _, value = pair.partition("=")
        if key == "db":
            return str(value)
    return "0" if url.scheme in ("unix", "redis+unix") else url.path.strip("/") or "0"


@register(deploy=True)
def check_eviction(**kwargs: Any) -> Iterable[CheckMessage]:
    """A Redis that evicts keys when full may forget that a circuit is open. Asked only with --deploy."""
    connect = conf.redis_connector()
    if connect is None:
        return
    try:
        policy = connect().config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except Exception:  # away, or a managed service that does not answer CONFIG: nothing can be said
        return
    if policy != "noeviction":
        yield Warning(
            f"The breakers' Redis evicts keys when its memory is full (maxmemory-policy {policy}).",
            hint="Use an instance with maxmemory-policy noeviction: an evicted circuit starts CLOSED.",
            id="breaker.W001",
        )
