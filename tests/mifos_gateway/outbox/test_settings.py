"""Settings of the outbox that stop the start: checks of Django's, and the environment."""

from __future__ import annotations

from typing import Any

import pytest

from config import env
from mifos_gateway import checks
from mifos_gateway.fallbacks import Deferred

DAY = 86_400


def found(given: dict[str, Any], settings: Any) -> list[str]:
    settings.GATEWAY = given
    return [str(message.id).removeprefix("mifos_gateway.") for message in checks.check_gateway(None) if message.hint]


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({"DEFERRED_ROUTES": {}}, []),
        ({"DEFERRED_ROUTES": ["POST clients", "POST loans/*?command=disburse"]}, []),
        ({"DEFERRED_ROUTES": {"POST clients": 600, "PUT clients/*": None, "POST loans/*": Deferred(60)}}, []),
        ({"DEFERRED_ROUTES": "POST clients"}, ["E017"]),
        ({"DEFERRED_ROUTES": [5]}, ["E017"]),
        ({"DEFERRED_ROUTES": ["GET clients", "clients", "POST loans?x=1"]}, ["E017"] * 3),
        ({"DEFERRED_ROUTES": {"POST clients": 0, "POST loans": "60", "POST x": True}}, ["E017"] * 3),
        ({"DEFERRED_ROUTES": {"POST clients": 31 * DAY}}, ["E017"]),
        ({"DEFERRED_ROUTES": {"POST clients": 31 * DAY}, "MIFOS_PURGE_DAYS": 31}, []),
        ({"DEFERRED_ROUTES": {"POST clients": Deferred(2 * DAY)}, "MIFOS_PURGE_DAYS": 1}, ["E017"]),
        ({"DEFERRED_LET_DIRECT_PASS": 1}, ["E018"]),
        ({"DEFERRED_RATE": 0}, ["E019"]),
        ({"DEFERRED_RATE": float("inf")}, ["E019"]),
        ({"DEFERRED_RATE": True}, ["E019"]),
        ({"DEFERRED_RATE": 0.5}, []),
        ({"DEFERRED_THREADS": 0}, ["E020"]),
        ({"DEFERRED_DAYS": 0.5}, ["E021"]),
        ({"IDEMPOTENCY_DAYS": "7"}, ["E022"]),
        ({"MIFOS_PURGE_DAYS": 0}, ["E023"]),
        ({"DEFERRED_DAYS": 6, "IDEMPOTENCY_DAYS": 7}, ["E024"]),
        ({"DEFERRED_DAYS": 7, "IDEMPOTENCY_DAYS": 7}, []),
        ({"DEFERRED_DAYS": 6}, ["E024"]),  # the other is 7 unless set
        ({"IDEMPOTENCY_DAYS": 31}, ["E024"]),
        ({"DEFERRED_ROUTES": ["POST batches", "POST clients/*/images"]}, ["W007", "W007"]),
        ({"DEFERRED_ROUTES": {"POST batches": Deferred(safe=True), "POST *": None}}, []),
    ],
)
def test_a_wrong_setting_is_named_with_a_hint(settings: Any, given: dict[str, Any], ids: list[str]) -> None:
    assert found(given, settings) == ids


def test_the_rule_and_what_is_wrong_with_it_are_told(settings: Any) -> None:
    settings.GATEWAY = {"DEFERRED_ROUTES": {"POST loans": 0}}
    (message,) = checks.check_gateway(None)
    assert "'POST loans'" in message.msg
    assert "ttl=0" in message.msg
    assert "GATEWAY_DEFERRED_ROUTES" in str(message.hint)


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        ("DEFERRED_ROUTES", "POST clients", {"POST clients": None}),
        (
            "DEFERRED_ROUTES",
            " POST clients = 60 , POST loans/*?command=disburse=600, PUT clients/*?command=x",
            {"POST clients": 60, "POST loans/*?command=disburse": 600, "PUT clients/*?command=x": None},
        ),
        ("DEFERRED_LET_DIRECT_PASS", "yes", True),
        ("DEFERRED_RATE", "0.5", 0.5),
        ("DEFERRED_THREADS", "2", 2),
        ("DEFERRED_DAYS", "90", 90),
        ("IDEMPOTENCY_DAYS", "1", 1),
        ("MIFOS_PURGE_DAYS", "3650", 3650),
    ],
)
def test_the_environment_is_typed(monkeypatch: pytest.MonkeyPatch, name: str, value: str, typed: Any) -> None:
    monkeypatch.setenv(f"GATEWAY_{name}", value)
    assert env.read()[f"GATEWAY_{name}"] == typed


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("DEFERRED_ROUTES", "clients", "does not begin with a method"),
        ("DEFERRED_ROUTES", "GET clients", "a method that writes nothing"),
        ("DEFERRED_ROUTES", "POST clients=0", "0 defers nothing"),
        ("DEFERRED_ROUTES", "POST loans?x=y", "one ?command=…"),
        ("DEFERRED_ROUTES", "POST =60", "no path pattern"),
        ("DEFERRED_LET_DIRECT_PASS", "perhaps", "true, false"),
        ("DEFERRED_RATE", "0", "more than 0"),
        ("DEFERRED_RATE", "nan", "number per second"),
        ("DEFERRED_RATE", "10001", "at most 10000"),
        ("DEFERRED_THREADS", "0", "from 1 to 256"),
        ("DEFERRED_DAYS", "0", "from 1 to 3660"),
        ("IDEMPOTENCY_DAYS", "7d", "whole number"),
        ("MIFOS_PURGE_DAYS", "0", "from 1 to 36600"),
    ],
)
def test_a_bad_environment_is_refused_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(f"GATEWAY_{name}", value)
    with pytest.raises(env.BadEnvironment) as refused:
        env.read()
    (problem,) = refused.value.problems
    assert f"GATEWAY_{name}" in problem
    assert allowed in problem
