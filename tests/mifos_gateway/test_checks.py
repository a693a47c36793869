"""Settings that stop the start."""

from typing import Any

import pytest
from cryptography.fernet import Fernet

from mifos_gateway import checks
from mifos_gateway.fallbacks import Cached, FailFast, Placeholder

EMPTY = Placeholder({"pageItems": []})


def found(check: Any) -> list[str]:
    return [message.id.removeprefix("mifos_gateway.") for message in check(None) if message.hint]


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, []),
        ({"BULKHEAD": None}, []),
        ({"DENIED_ROUTES": []}, []),
        ([], ["E001"]),
        ({"MAX_REQUEST_BYTES": 0}, ["E002"]),
        ({"BULKHEAD": 0}, ["E003"]),
        ({"BULKHEAD": True}, ["E003"]),
        ({"RAW_IDEMPOTENCY_KEYS": "yes"}, ["E004"]),
        ({"IGNORE_REPLAYS": 1}, ["E005"]),
        ({"BUSINESS_503_CODES": "a"}, ["E006"]),
        ({"BULKHEADS": 1}, ["E007"]),
        ({"DENIED_ROUTES": "* users*"}, ["E008"]),
        ({"DENIED_ROUTES": ["users", "* ", "GET clients"]}, ["E008", "E008"]),
        ({"FALLBACKS": {"MIFOS-Maker-get": EMPTY, "GET offices*": EMPTY, "* loans*": FailFast(), "PUT x": len}}, []),
        ({"FALLBACKS": [EMPTY]}, ["E011"]),
        ({"FALLBACKS": {"MIFOS-Maker-gte": EMPTY, "FETCH offices": EMPTY}}, ["E011", "E011"]),
        ({"FALLBACKS": {"MIFOS-Maker-get": "cached", "GET x": None}}, ["E011", "E011"]),
        (
            {"FALLBACKS": {"MIFOS-Maker-post": EMPTY, "MIFOS-Maker-request": EMPTY, "* x": FailFast() | EMPTY}},
            ["E011", "E011", "E011"],
        ),
        ({"FALLBACKS": {"POST loans": Cached(60), "MIFOS-Maker-get": Cached}}, ["E011", "E011", "W005"]),
        ({"FALLBACKS": {"GET loans": FailFast() | Cached(60)}}, ["W005"]),
        ({"CACHED_ROUTES": {"POST loans": 600}, "CACHE_ALIAS": "shared"}, ["E012"]),
        ({"CACHED_ROUTES": {"offices": 600, "codes*": Cached(60)}, "CACHE_ALIAS": "shared"}, []),
        ({"CACHED_ROUTES": ["offices"]}, ["E012"]),
        (
            {"CACHED_ROUTES": {"offices": "600", "x?a=b": 5, " ": 5, "y": -1, "z": 86_401}, "CACHE_ALIAS": "shared"},
            ["E012"] * 5,
        ),
        ({"CACHED_BYTES": 0, "CACHED_ENTRY_BYTES": "1"}, ["E013", "E014"]),
        ({"CACHED_ROUTES": {"offices": 600}}, ["W005"]),
        ({"CACHED_ROUTES": {"offices": 600}, "CACHE_ALIAS": "quiet"}, ["W006"]),
        ({"CACHED_ROUTES": {"offices": 600}, "CACHE_ALIAS": "none"}, ["E015"]),
        ({"PAYLOAD_KEYS": [Fernet.generate_key().decode()]}, []),
        ({"PAYLOAD_KEYS": ["hush"]}, ["E016"]),
    ],
)
def test_a_wrong_gateway_setting_is_named_with_a_hint(settings: Any, given: Any, ids: list[str]) -> None:
    redis = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://redis.invalid/1"}
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "shared": redis,
        "quiet": {**redis, "OPTIONS": {"IGNORE_EXCEPTIONS": True}},
    }
    settings.GATEWAY = given

    assert found(checks.check_gateway) == ids
    assert not any("hush" in message.msg + message.hint for message in checks.check_gateway(None))


@pytest.mark.parametrize(
    ("base_url", "ids"),
    [
        ("", []),
        ("https://mifos.example/fineract-provider/api/v1", []),
        ("mifos.example", ["E009"]),
        ("ftp://mifos.example", ["E009"]),
        ("https://user:password@mifos.example", ["E009"]),
    ],
)
def test_a_wrong_address_of_mifos_is_named(settings: Any, base_url: str, ids: list[str]) -> None:
    settings.MIFOS = {"BASE_URL": base_url}

    assert found(checks.check_mifos) == ids


def test_a_password_in_the_address_is_not_shown(settings: Any) -> None:
    settings.MIFOS = {"BASE_URL": "https://user:hunter2@mifos.example"}

    assert "hunter2" not in str(checks.check_mifos(None))


def test_wrong_breaker_options_are_named(settings: Any) -> None:
    from breaker.registry import registry

    registry.forget()
    settings.BREAKER = {"DEFAULTS": {"timeout": 30_000}}

    assert found(checks.check_breakers) == ["E010"]
    registry.forget()


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("MIFOS-Maker-gte", "MIFOS-Maker-get"),
        ("mifos-checker-PATCH", "MIFOS-Checker-patch"),
        ("makers", "maker"),
        ("Checker", "checker"),
    ],
)
def test_options_for_a_breaker_that_is_not_there_are_named_with_the_closest(
    settings: Any, name: str, closest: str
) -> None:
    settings.BREAKER = {"BREAKERS": {"MIFOS-Maker-get": {}, "maker": {}, name: {"timeout": 60}}}

    (warning,) = checks.check_breaker_names(None)
    assert (warning.id, warning.is_serious()) == ("mifos_gateway.W003", False)
    assert repr(name) in warning.msg
    assert f"closest is {closest!r}" in str(warning.hint)


@pytest.mark.usefixtures("breakers")
def test_a_breaker_of_ones_own_may_have_options(settings: Any) -> None:
    from breaker.registry import create_circuit_breaker

    create_circuit_breaker(name="ledger-of-this-test")
    settings.BREAKER = {"BREAKERS": {"ledger-of-this-test": {"timeout": 60}}}

    assert found(checks.check_breaker_names) == []


@pytest.mark.parametrize(
    ("threads", "places", "hint"),
    [
        (32, 12, None),
        (3, 1, None),
        (None, 12, None),
        (32, 16, "Set GATEWAY_BULKHEAD to 15 at most, or set WEB_THREADS to 33 at least."),
        (8, 20, "Set GATEWAY_BULKHEAD to 3 at most, or set WEB_THREADS to 41 at least."),
        (2, 1, "Set WEB_THREADS to 3 at least."),
    ],
)
def test_a_bulkhead_that_leaves_no_thread_is_warned_of(
    settings: Any, threads: int | None, places: int, hint: str | None
) -> None:
    settings.GATEWAY = {"THREADS": threads, "BULKHEAD": places}

    assert [(message.id, message.hint) for message in checks.check_bulkhead(None)] == (
        [("mifos_gateway.W004", hint)] if hint else []
    )


def test_missing_middleware_and_error_handler_are_warned_of(settings: Any) -> None:
    settings.MIDDLEWARE = []
    settings.REST_FRAMEWORK = {}

    assert found(checks.check_wiring) == ["W001", "W002"]


@pytest.mark.parametrize(
    "check",
    [
        checks.check_gateway,
        checks.check_mifos,
        checks.check_breakers,
        checks.check_breaker_names,
        checks.check_bulkhead,
        checks.check_wiring,
    ],
)
def test_these_settings_pass(check: Any) -> None:
    assert found(check) == []
