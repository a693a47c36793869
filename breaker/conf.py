"""The settings that this app reads: `BREAKER`, and the cache connection that it names.

BREAKER = {
    "NAMESPACE": "production",   # one for each set of breakers that share state; default "default"
    "BREAKERS": {"MIFOS-Maker-post": {"timeout": 60}, "checker": {…}},   # options by name or group; win over code's
    "DEFAULTS": {"timeout": 20},  # what a service's own code takes for the options of its own breakers
    "BREAKERS_FROM": "BREAKER_OPTIONS",                # the environment variables behind both, for who asks where a
    "DEFAULTS_FROM": {"timeout": "BREAKER_TIMEOUT"},   # value comes from; here only what has been set
    "STATUS_PUBLIC": True,       # status and health without a token
    "HISTORY": True,             # store events and minutes in the database
    "HISTORY_MINUTE_DAYS": 30,   # how long minutes are kept, and hours and events
    "HISTORY_HOUR_DAYS": 400,
    "REDIS_ALIAS": "breaker",    # the django-redis entry of CACHES; without it each process guards alone
    "OPENTELEMETRY": None,       # True, False: whatever the environment's OTEL_... say (breaker/otel/__init__.py)
    "SERVICE_NAME": "breaker",   # for OpenTelemetry, where OTEL_SERVICE_NAME does not say
}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings


def _get(name: str, default: Any) -> Any:
    return getattr(settings, "BREAKER", {}).get(name, default)


def namespace() -> str:
    return str(_get("NAMESPACE", "default"))


def options_of(name: str, group: str) -> Mapping[str, Any]:
    """What the settings say of one breaker: of its group, and over that of its name."""
    given = breakers()
    return {**given.get(group, {}), **given.get(name, {})}


def breakers() -> Mapping[str, Mapping[str, Any]]:
    """Options by a breaker's name, or by its group's."""
    return _get("BREAKERS", {})  # type: ignore[no-any-return]


def breakers_from() -> str:
    return str(_get("BREAKERS_FROM", ""))


def defaults() -> Mapping[str, Any]:
    return _get("DEFAULTS", {})  # type: ignore[no-any-return]


def defaults_from() -> Mapping[str, str] | None:
    """The variable of each of the defaults that one has set; None where they are not from an environment."""
    return _get("DEFAULTS_FROM", None)  # type: ignore[no-any-return]


def status_is_public() -> bool:
    return bool(_get("STATUS_PUBLIC", True))


def keeps_history() -> bool:
    return bool(_get("HISTORY", True))


def minute_days() -> int:
    return int(_get("HISTORY_MINUTE_DAYS", 30))


def hour_days() -> int:
    return int(_get("HISTORY_HOUR_DAYS", 400))


def opentelemetry() -> bool | None:
    """None: by the environment, as `breaker.otel` says."""
    said = _get("OPENTELEMETRY", None)
    return None if said is None else bool(said)


def service_name() -> str:
    return str(_get("SERVICE_NAME", "breaker"))


def redis_alias() -> str:
    return str(_get("REDIS_ALIAS", "breaker"))


def no_store() -> str:
    """Why nothing is shared, where the settings name no store."""
    return f"no shared store is configured (CACHES[{redis_alias()!r}])"


def redis_connector() -> Callable[[], Any] | None:
    """A function that makes a redis-py client of the shared store; None when none is configured."""
    alias = redis_alias()
    if alias not in settings.CACHES:
        return None

    def connect() -> Any:
        from django_redis import get_redis_connection

        return get_redis_connection(alias)

    return connect
