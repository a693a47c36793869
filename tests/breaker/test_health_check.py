"""The breakers on django-health-check's page, by that package itself."""

import json
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import RequestFactory
from health_check.views import HealthCheckView

from breaker import operations, queries
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.sync import PATIENCE, Sync
from breaker.registry import create_circuit_breaker, registry
from breaker.testing import fail, succeed
from tests.breaker.conftest import House

CHECK = "breaker.health_check.CircuitBreakers"


def health(**options: Any) -> tuple[int, dict[str, str]]:
    """The page's status and what it says."""
    view = HealthCheckView.as_view(checks=[(CHECK, options)])
    answer: HttpResponse = async_to_sync(view)(RequestFactory().get("/health/?format=json"))
    return answer.status_code, json.loads(answer.content)


@pytest.fixture
def payments(monkeypatch: pytest.MonkeyPatch) -> SharedCircuitBreaker:
    """A breaker of a project that has none of its own API."""
    monkeypatch.setattr(registry, "own", set())
    return create_circuit_breaker(name="payments").breaker


def test_a_page_is_well_while_no_breaker_is_open(payments: SharedCircuitBreaker) -> None:
    succeed(payments)
    assert health() == (200, {"CircuitBreakers(names=())": "OK"})


def test_a_page_names_the_breakers_that_are_open(payments: SharedCircuitBreaker) -> None:
    other = create_circuit_breaker(name="balance").breaker
    fail(other, 5)
    fail(payments, 5)
    assert health() == (500, {"CircuitBreakers(names=())": "Unavailable: open: payments, balance"})


def test_a_page_is_well_while_a_breaker_is_on_trial(house: House, payments: SharedCircuitBreaker) -> None:
    fail(payments, 5)
    house.advance(60)
    assert payments.current_state == "half-open"
    assert health()[0] == 200


def test_what_another_process_opened_is_seen(house: House, payments: SharedCircuitBreaker) -> None:
    fail(SharedCircuitBreaker("payments", sync=house.there), 5)
    house.beat()
    assert health()[0] == 500


@pytest.mark.django_db
def test_a_breaker_forced_open_is_open_until_its_time(house: House, payments: SharedCircuitBreaker) -> None:
    operations.act(["payments"], "open", actor="ada", source="admin", reason="upgrade", for_seconds=60)
    assert health()[0] == 500
    house.clock.advance(60)
    assert health()[0] == 200


def test_the_services_own_breakers_are_judged_alone(payments: SharedCircuitBreaker) -> None:
    """As GET /api/v1/circuit-breaker/health judges."""
    own = create_circuit_breaker(name="own", own=True).breaker
    fail(payments, 5)
    assert health()[0] == 200
    fail(own, 5)
    assert health()[0] == 500


def test_the_named_are_judged_alone(payments: SharedCircuitBreaker) -> None:
    create_circuit_breaker(name="balance", own=True)
    assert health(names=("balance", "payments"))[0] == 200
    fail(payments, 5)
    assert health(names=("balance",))[0] == 200
    assert health(names=("balance", "payments"))[0] == 500


def test_a_name_that_nobody_bears_is_no_health(payments: SharedCircuitBreaker) -> None:
    assert health(names=("paymints",)) == (
        500,
        {
            "CircuitBreakers(names=('paymints',))": "Unexpected Result: no breaker 'paymints' here; there are payments",
        },
    )


def test_without_redis_this_process_judges_by_itself(house: House, payments: SharedCircuitBreaker) -> None:
    house.lose_store()
    assert health()[0] == 200
    fail(payments, 5)
    assert health()[0] == 500


def test_redis_is_not_asked(house: House, payments: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch) -> None:
    house.cable.cut = True  # whoever asks notices, and goes on alone
    assert health()[0] == 200
    assert house.here.sharing


def test_a_hanging_redis_holds_a_new_process_up_once_and_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    class Hanging:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: let_go.wait(60)

    sync = Sync(Hanging())  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "_sync", sync)
    waits: list[float | None] = []
    monkeypatch.setattr(sync._first_contact, "wait", waits.append)
    create_circuit_breaker(name="payments")
    try:
        for _ in range(3):
            assert queries.open_here() == []
        assert waits == [PATIENCE]
    finally:
        sync.closed = True
        let_go.set()
