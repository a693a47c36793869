"""System checks of this app's settings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from breaker import conf, otel
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
    if "redis" not in str(cache.get("BACKEND", "")).lower():
        return set()
    location = cache.get("LOCATION") or ()
    places = re.split("[;,]", location) if isinstance(location, str) else location
    otherwise = str(cache.get("OPTIONS", {}).get("db", 0))
    return {(_server(url), _number(url, otherwise)) for url in map(urlsplit, places)}


def _server(url: SplitResult) -> str:
    if url.scheme == "unix":
        return url.path
    host = "127.0.0.1" if url.hostname in (None, "localhost", "::1") else url.hostname
    with contextlib.suppress(ValueError):
        return f"{host}:{url.port or 6379}"
    return url.netloc  # a bad port is for the client to refuse


def _number(url: SplitResult, otherwise: str) -> str:
    """The database number: redis-py takes the query's before the path's, and both before the options'."""
    path = "" if url.scheme == "unix" else url.path.strip("/")
    return dict(parse_qsl(url.query)).get("db") or path or otherwise


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


@register()
def check_opentelemetry(**kwargs: Any) -> Iterable[CheckMessage]:
    """What the environment asks of OpenTelemetry can be done."""
    for problem in otel.problems():
        yield Error(problem, hint="docs/opentelemetry.md has the variables.", id="breaker.E003")
