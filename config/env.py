"""Reads the environment: every variable, typed, declared in one table.

The table is the reference; a test compares the README's with it. A value comes from the variable, else from
the file that `<VARIABLE>_FILE` names, else (never in a server) from what `make up` chose for this PORT, else
it is the default. An empty value is as good as none, unless the table says that empty means something.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from environs import EnvValidationError, FileAwareEnv

from config import values
from config.values import boolean, seconds, text, whole


class BadEnvironment(ImproperlyConfigured):
    """Every wrong variable at once, each with its value (never a secret's) and what is allowed."""

    def __init__(self, problems: list[str], found: dict[str, Any]) -> None:
        self.problems = problems
        self.found = found  # what could be read
        super().__init__("\n".join(["These settings in the environment can't be used:", *(f"  {p}" for p in problems)]))


@dataclass(frozen=True)
class Variable:
    """One row of the table; `default` is the text that would have the same effect, None where there is none."""

    name: str
    parse: Callable[[str], Any]
    default: str | None = None
    secret: bool = False  # the value is never shown; for a URL the part that may hold a password
    empty_counts: bool = False


VARIABLES = (
    # The server
    Variable("HOST", text, "127.0.0.1"),
    Variable("PORT", whole(1, 65535), "8000"),
    Variable("WEB_CONCURRENCY", whole(1, 256), "2"),
    Variable("WEB_THREADS", whole(1, 1024), "32"),
    Variable("GUNICORN_PRELOAD", boolean, "false"),
    Variable("GUNICORN_TIMEOUT", whole(1, 3600), "30"),
    Variable("GUNICORN_GRACEFUL_TIMEOUT", whole(1, 3605)),  # default: the longest breaker timeout + 5
    Variable("GUNICORN_KEEPALIVE", whole(1, 3600), "5"),
    Variable("GUNICORN_BACKLOG", whole(1, 65535), "2048"),
    Variable("GUNICORN_MAX_REQUESTS", whole(0, 10**9), "0"),
    Variable("GUNICORN_MAX_REQUESTS_JITTER", whole(0, 10**9)),  # default: a tenth of GUNICORN_MAX_REQUESTS
    # Django
    Variable("DJANGO_DEBUG", boolean, "false"),
    Variable("DJANGO_SECRET_KEY", text, secret=True),
    Variable("DJANGO_ALLOWED_HOSTS", values.hosts),
    Variable("DJANGO_CSRF_TRUSTED_ORIGINS", values.origins),
    Variable("DJANGO_SECURE_SSL_REDIRECT", boolean, "true"),
    Variable("DJANGO_SECURE_HSTS_SECONDS", whole(0, 10**9), "31536000"),
    Variable("DJANGO_SECURE_PROXY_SSL_HEADER", values.header_name),
    Variable("DJANGO_CLIENT_ADDRESS_HEADER", values.header_name),
    Variable("ADMIN_REQUIRE_OTP", boolean, "false"),
    Variable("ADMIN_SESSION_HOURS", whole(1, 720), "12"),
    Variable("DATABASE_URL", values.database_url, secret=True),
    Variable("DATABASE_CONN_MAX_AGE", whole(0, 86400), "60"),
    Variable("REDIS_URL", values.redis_url, secret=True),
    Variable("REDIS_SENTINELS", values.addresses),
    Variable("REDIS_SENTINEL_PASSWORD", text, secret=True),
    Variable("CACHE_URL", values.redis_url, secret=True),  # default: REDIS_URL with its database number + 1
    # MIFOS
    Variable("MIFOS_BASE_URL", values.http_url, secret=True),
    Variable("MIFOS_TENANT_ID", text, "default"),
    Variable("MIFOS_MAKER_USERNAME", values.username),
    Variable("MIFOS_MAKER_PASSWORD", text, secret=True),
    Variable("MIFOS_CHECKER_USERNAME", values.username),
    Variable("MIFOS_CHECKER_PASSWORD", text, secret=True),
    Variable("MIFOS_VERIFY_TLS", boolean, "true"),
    Variable("MIFOS_CA_BUNDLE", values.authorities),
    Variable("MIFOS_MAX_RESPONSE_BYTES", whole(1, 2**31), str(16 * 2**20)),
    # The breakers
    Variable("BREAKER_TIMEOUT", seconds, "30"),
    Variable("BREAKER_ERROR_THRESHOLD_PERCENTAGE", values.percentage, "50"),
    Variable("BREAKER_RESET_TIMEOUT", seconds, "60"),
    Variable("BREAKER_ROLLING_COUNT_TIMEOUT", seconds, "60"),
    Variable("BREAKER_ROLLING_COUNT_BUCKETS", whole(1, 1000), "10"),
    Variable("BREAKER_VOLUME_THRESHOLD", whole(1, 10**6), "5"),
    Variable("BREAKER_ENABLED", boolean, "true"),
    Variable("BREAKER_OPTIONS", values.breaker_options),
    Variable("BREAKER_NAMESPACE", values.namespace),  # default: from MIFOS_BASE_URL and MIFOS_TENANT_ID
    Variable("BREAKER_STATUS_PUBLIC", boolean, "true"),
    Variable("BREAKER_HISTORY_MINUTE_DAYS", whole(1, 3660), "30"),
    Variable("BREAKER_HISTORY_HOUR_DAYS", whole(1, 36600), "400"),
    # The gateway
    Variable("GATEWAY_MAX_REQUEST_BYTES", whole(1, 2**31), str(10 * 2**20)),
    Variable("GATEWAY_DENIED_ROUTES", values.words, empty_counts=True),  # default: mifos_gateway.routes.DEFAULT_DENIED
    Variable("GATEWAY_RAW_IDEMPOTENCY_KEYS", boolean, "false"),
    Variable("GATEWAY_BULKHEAD", whole(1, 1024)),  # default: 3/8 of WEB_THREADS, at least 1
    Variable("GATEWAY_IGNORE_REPLAYS", boolean, "true"),
    Variable("GATEWAY_BUSINESS_503_CODES", values.words, empty_counts=True),  # default: mifos_gateway.errors has it
    Variable("GATEWAY_CACHED_ROUTES", values.seconds_by_pattern),
    Variable("GATEWAY_CACHED_BYTES", whole(2**20, 2**40), str(64 * 2**20)),
    Variable("GATEWAY_CACHED_ENTRY_BYTES", whole(1024, 2**30), str(64 * 2**10)),
    Variable("GATEWAY_DEFERRED_ROUTES", values.seconds_by_rule),
    Variable("GATEWAY_DEFERRED_LET_DIRECT_PASS", boolean, "false"),
    Variable("GATEWAY_DEFERRED_RATE", values.rate, "20"),
    Variable("GATEWAY_DEFERRED_THREADS", whole(1, 256), "8"),
    Variable("GATEWAY_DEFERRED_GRACE", whole(1, 3600), "10"),
    Variable("GATEWAY_DEFERRED_DAYS", whole(1, 3660), "30"),
    Variable("GATEWAY_IDEMPOTENCY_DAYS", whole(1, 3660), "7"),
    Variable("GATEWAY_MIFOS_PURGE_DAYS", whole(1, 36600), "30"),
    Variable("GATEWAY_PAYLOAD_KEYS", values.fernet_keys, secret=True),  # default: one from DJANGO_SECRET_KEY
    # Metrics
    Variable("METRICS_TOKEN", values.token, secret=True),
    Variable("METRICS_PUBLIC", boolean),  # default: as DJANGO_DEBUG
    # The log
    Variable("LOG_FORMAT", values.one_of("plain", "json"), "plain"),
    Variable("LOG_LEVEL", values.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO"),
)
NAMES = frozenset(variable.name for variable in VARIABLES)
BREAKER_DEFAULTS = {
    option: f"BREAKER_{option.upper()}"
    for option in (
        "timeout",
        "error_threshold_percentage",
        "reset_timeout",
        "rolling_count_timeout",
        "rolling_count_buckets",
        "volume_threshold",
        "enabled",
    )
}


class Environment(FileAwareEnv):
    """environs' reader, for several sources, with empty values as none and files without their last newline."""

    def __init__(self, sources: tuple[Mapping[str, str], ...]) -> None:
        super().__init__(eager=False)
        self.sources = sources
        self.empty_counts = {variable.name for variable in VARIABLES if variable.empty_counts}

    def _get_value(self, env_key: str, default: Any) -> Any:
        for source in self.sources:
            value, path = source.get(env_key, ""), source.get(f"{env_key}_FILE", "")
            if value and path:
                self._errors[env_key].append(f"{env_key}_FILE is set as well: set only one of the two")
            if value or (env_key in source and env_key in self.empty_counts and not path):
                return value
            if path:
                return self._from_file(env_key, path, default)
        return default

    def _from_file(self, env_key: str, path: str, default: Any) -> Any:
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n") or default
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            self._errors[f"{env_key}_FILE"].append(f"a readable file's path is allowed ({reason})")
            return default


def read(saved: Mapping[str, str] | None = None, *, judged: bool = True) -> dict[str, Any]:
    """All variables by name, None where neither set nor defaulted; raises BadEnvironment naming all that is wrong.

    `judged=False` leaves out what only the apps can judge, and their code unloaded: gunicorn's master must not
    have it, or its workers would go on with it after a reload.
    """
    env = Environment((os.environ, saved or {}))
    env.add_parser("declared", lambda value, *, parse: None if value is None else parse(value))
    found = {each.name: env.declared(each.name, each.default, parse=each.parse) for each in VARIABLES}
    problems: list[str] = []
    try:
        env.seal()
    except EnvValidationError as error:
        problems = _problems(cast("Mapping[str, list[str]]", error.error_messages), env)
    if judged or problems:
        problems += judge(found)
    if problems:
        raise BadEnvironment(problems, found)
    return found


def is_given(name: str, saved: Mapping[str, str] | None = None) -> bool:
    """Whether somebody has set this variable, itself or by a file."""
    return any(source.get(key) for source in (os.environ, saved or {}) for key in (name, f"{name}_FILE"))


def judge(found: Mapping[str, Any]) -> list[str]:
    """What the apps say of their options, where the table has let them pass."""
    from breaker.engine.policy import Policy, PolicyError
    from mifos_gateway.outbox.rules import DeferredRule
    from mifos_gateway.routes import RouteError, Rules

    problems, defaults = [], Policy()
    given = {option: found[name] for option, name in BREAKER_DEFAULTS.items()}
    try:
        defaults = Policy.of({option: value for option, value in given.items() if value is not None})
    except PolicyError as error:
        problems.append(f"BREAKER_...: {error}")
    for name, options in (found["BREAKER_OPTIONS"] or {}).items():
        try:
            Policy.of(options, base=defaults)
        except PolicyError as error:
            problems.append(f"BREAKER_OPTIONS, {name}: {error}")
    for rule in found["GATEWAY_DENIED_ROUTES"] or []:
        try:
            Rules([rule])
        except RouteError as error:
            problems.append(f"GATEWAY_DENIED_ROUTES: {error}")
    for pattern in found["GATEWAY_CACHED_ROUTES"] or {}:
        try:
            Rules([f"GET {pattern}"])
        except RouteError as error:
            problems.append(f"GATEWAY_CACHED_ROUTES: {error}")
    for rule in found["GATEWAY_DEFERRED_ROUTES"] or {}:
        try:
            DeferredRule.parse(rule)
        except RouteError as error:
            problems.append(f"GATEWAY_DEFERRED_ROUTES: {error}")
    return problems


def _problems(messages: Mapping[str, list[str]], env: Environment) -> list[str]:
    return [f"{name}{_shown(name, env)}: {'; '.join(found)}" for name, found in messages.items()]


def _shown(name: str, env: Environment) -> str:
    variable = next((each for each in VARIABLES if each.name == name), None)
    value = next((source[name] for source in env.sources if source.get(name)), "")
    if variable and variable.secret:
        value = _without_secrets(value)
    return f"={value}" if value else ""


def _without_secrets(value: str) -> str:
    """A URL without what stands before its last @ and after its ?; of anything else nothing."""
    scheme, mark, rest = value.partition("://")
    if not mark:
        return ""
    return f"{scheme}://{'***@' if '@' in rest else ''}{re.split('[?#]', rest.rpartition('@')[2])[0]}"
