"""The settings that this app reads, typed, with the defaults of an importer who sets none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from mifos_gateway.client import Credentials, MifosConfig
from mifos_gateway.errors import BUSINESS_503_CODES, OutcomeRules
from mifos_gateway.routes import DEFAULT_DENIED, Rules

OPTIONAL_OF_CLIENT = ("verify_tls", "ca_bundle", "max_response_bytes", "pool_size")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`settings.GATEWAY`, whose keys are these names in capitals."""

    max_request_bytes: int = 10 * 2**20
    denied_routes: tuple[str, ...] = DEFAULT_DENIED
    raw_idempotency_keys: bool = False
    bulkhead: int = 12  # calls in flight per process and per client
    threads: int | None = None  # of a serving process, where known: for the check of the bulkhead alone
    ignore_replays: bool = True
    business_503_codes: tuple[str, ...] = BUSINESS_503_CODES
    fallbacks: Mapping[str, Any] = field(default_factory=dict)  # see mifos_gateway.fallbacks
    cached_routes: Mapping[str, Any] = field(default_factory=dict)  # the same
    cache_alias: str = "default"  # of settings.CACHES, where answers are kept
    cached_entry_bytes: int = 64 * 2**10  # of one answer, compressed and encrypted
    cached_bytes: int = 64 * 2**20  # of all
    deferred_routes: Mapping[str, Any] | tuple[str, ...] = field(default_factory=dict)  # see mifos_gateway.outbox.rules
    deferred_let_direct_pass: bool = False  # of the same order as what was deferred
    deferred_rate: float = 20.0  # sent per second and runner, at most
    deferred_threads: int = 8  # of a runner
    # seconds between the limit of a call and the end of its lease: to begin late, and to record the answer
    deferred_grace: float = 10.0
    deferred_days: int = 30  # until what has ended is deleted
    idempotency_days: int = 7  # for so long a key is remembered
    mifos_purge_days: int = 30  # after so many MIFOS forgets keys; no request lives longer
    payload_keys: tuple[str, ...] = ()  # Fernet's; see mifos_gateway.vault
    metrics_token: str | None = field(default=None, repr=False)
    metrics_public: bool = False


@cache
def gateway() -> GatewaySettings:
    given: dict[str, Any] = getattr(settings, "GATEWAY", {})
    known = {name.lower(): _frozen(value) for name, value in given.items() if value is not None}
    return GatewaySettings(**known)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@cache
def denied_routes() -> Rules:
    return Rules(gateway().denied_routes)


@cache
def outcome_rules() -> OutcomeRules:
    return OutcomeRules(gateway().ignore_replays, gateway().business_503_codes)


def mifos() -> dict[str, Any]:
    return getattr(settings, "MIFOS", {})


def tenant() -> str:
    return mifos().get("TENANT_ID") or "default"


def breaker_defaults() -> dict[str, Any]:
    """The options of the twelve; `settings.BREAKER["BREAKERS"]` may say otherwise for one of them."""
    return dict(getattr(settings, "BREAKER", {}).get("DEFAULTS", {}))


def client_config() -> MifosConfig:
    """`settings.MIFOS` for the client; ImproperlyConfigured when it does not say where MIFOS is."""
    given = mifos()
    if not given.get("BASE_URL"):
        raise ImproperlyConfigured("settings.MIFOS has no BASE_URL (environment: MIFOS_BASE_URL)")
    optional = {name: given[name.upper()] for name in OPTIONAL_OF_CLIENT if given.get(name.upper()) is not None}
    return MifosConfig(
        base_url=given["BASE_URL"],
        tenant_id=tenant(),
        maker=Credentials(given.get("MAKER_USERNAME") or "", given.get("MAKER_PASSWORD") or ""),
        checker=Credentials(given.get("CHECKER_USERNAME") or "", given.get("CHECKER_PASSWORD") or ""),
        **optional,
    )


def _forget(*, setting: str, **_: object) -> None:
    if setting == "GATEWAY":
        for cached in (gateway, denied_routes, outcome_rules):
            cached.cache_clear()


setting_changed.connect(_forget)
