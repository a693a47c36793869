"""Settings that stop the start."""

from typing import Any

import pytest

from mifos_gateway import checks


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
    ],
)
def test_a_wrong_gateway_setting_is_named_with_a_hint(settings: Any, given: Any, ids: list[str]) -> None:
    settings.GATEWAY = given

    assert found(checks.check_gateway) == ids


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


def test_missing_middleware_and_error_handler_are_warned_of(settings: Any) -> None:
    settings.MIDDLEWARE = []
    settings.REST_FRAMEWORK = {}

    assert found(checks.check_wiring) == ["W001", "W002"]


@pytest.mark.parametrize(
    "check", [checks.check_gateway, checks.check_mifos, checks.check_breakers, checks.check_wiring]
)
def test_these_settings_pass(check: Any) -> None:
    assert found(check) == []
