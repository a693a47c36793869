"""Alive, and ready."""

import threading
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from mifos_gateway import probes
from mifos_gateway.probes import KNOWN_FOR, PatientCheck
from mifos_gateway.token_memory import KEPT_WHILE_AWAY


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Database:
    def __init__(self) -> None:
        self.asked, self.error = 0, False

    def __call__(self) -> None:
        self.asked += 1
        if self.error:
            raise OperationalError("gone")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Database:
    found = Database()
    monkeypatch.setattr(probes, "database", PatientCheck(found, monotonic=clock))
    return found


def ready(client: Client) -> tuple[int, dict[str, Any]]:
    response = client.get("/readyz")
    return response.status_code, response.json()


def test_livez_asks_nobody(client: Client, database: Database) -> None:
    assert client.get("/livez").json() == {"status": "ok"}
    assert database.asked == 0


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_may_ask_by_any_host_and_without_tls(
    client: Client, database: Database, settings: Any, path: str
) -> None:
    settings.SECURE_SSL_REDIRECT = True

    response = client.get(path, headers={"Host": "10.1.2.3"})
    assert (response.status_code, response.json()["status"]) == (200, "ok")
    assert "X-Request-ID" in response.headers


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_probe_is_only_read(client: Client, path: str, method: str) -> None:
    response = client.generic(method, path)

    assert (response.status_code, response.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["X-Gateway-Error"] == "METHOD_NOT_ALLOWED"
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/v1/circuit-breaker/status"])
def test_a_probe_answers_json_whatever_it_is_asked_for(client: Client, database: Database, path: str) -> None:
    response = client.get(path, headers={"Accept": "text/html"})

    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")


def test_ready_when_all_is_well(client: Client, database: Database) -> None:
    checks = {"database": "ok", "redis": "not configured", "mifos": "ok"}

    assert ready(client) == (200, {"status": "ok", "checks": checks})


def test_mifos_down_degrades_and_stays_in_rotation(
    client: Client, database: Database, breakers: dict[tuple[str, str], Any]
) -> None:
    breakers["maker", "get"].open()

    status, body = ready(client)
    assert (status, body["status"], body["checks"]["mifos"]) == (200, "degraded", "failing")


def test_the_database_away_degrades_and_stays_in_rotation(client: Client, database: Database) -> None:
    database.error = True

    status, body = ready(client)
    assert (status, body["status"], body["checks"]["database"]) == (200, "degraded", "away")


def test_after_fifteen_minutes_without_database_there_is_nothing_to_serve(
    client: Client, database: Database, clock: Clock
) -> None:
    database.error = True
    ready(client)
    clock.now += KEPT_WHILE_AWAY + 1

    assert ready(client)[0] == 503


def test_the_database_back_is_ready(client: Client, database: Database, clock: Clock) -> None:
    database.error = True
    ready(client)
    database.error = False
    clock.now += KNOWN_FOR

    assert ready(client)[0:1] == (200,)
    assert probes.database.failing_for() == 0


def test_the_database_is_asked_once_a_second(client: Client, database: Database, clock: Clock) -> None:
    for _ in range(5):
        ready(client)
    clock.now += KNOWN_FOR
    ready(client)

    assert database.asked == 2


@pytest.mark.django_db
def test_a_database_with_our_tables_is_there() -> None:
    probes._ask_database()


def test_a_check_that_hangs_is_not_waited_for_and_not_repeated(clock: Clock) -> None:
    go = threading.Event()
    asked = []
    check = PatientCheck(lambda: asked.append(go.wait(5)), monotonic=clock)

    assert [check.passes(patience=0.01) for _ in range(3)] == [False] * 3
    go.set()
    assert check._running is not None
    check._running.join(5)
    assert (asked, check.passes()) == ([True], True)
