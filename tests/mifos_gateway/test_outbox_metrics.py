"""What a scrape is told of the outbox, and that it waits for no database."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import OperationalError

from mifos_gateway.outbox import clock, metrics
from mifos_gateway.outbox.metrics import OutboxCollector
from mifos_gateway.outbox.turnstile import turnstile
from tests.mifos_gateway.deferred_rows import deferred


def told(collector: OutboxCollector) -> dict[str, float]:
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this thread, which sees the test's rows."""

    class Now(threading.Thread):
        def start(self) -> None:
            self.run()

        def join(self, timeout: float | None = None) -> None:
            pass

    monkeypatch.setattr(metrics.threading, "Thread", Now)
    monkeypatch.setattr(metrics.connection, "close", lambda: None)


@pytest.mark.django_db
def test_what_waits_is_told(at_once: None) -> None:
    deferred("loans/5", ago=90)
    deferred("loans/6", status="rejected")
    deferred("loans/6", status="delivered")
    found = told(OutboxCollector())
    assert 90 <= found.pop("gateway_deferred_oldest_age_seconds") < 120
    assert found.pop("gateway_deferred_blocked_orders") == 1
    assert {name: value for name, value in found.items() if value} == {
        f"gateway_deferred_requests[{status}]": 1 for status in ("queued", "rejected", "delivered")
    }
    assert len(found) == 8


@pytest.mark.django_db
def test_nothing_is_told_where_nothing_is_deferred(at_once: None, settings: Any) -> None:
    assert told(OutboxCollector()) == {}
    settings.GATEWAY = {**settings.GATEWAY, "DEFERRED_ROUTES": ["POST clients"]}
    assert set(told(OutboxCollector()).values()) == {0}


@pytest.mark.parametrize("fault", [OperationalError, RuntimeError])
def test_without_an_answer_the_scrape_goes_on(at_once: None, monkeypatch: pytest.MonkeyPatch, fault: type) -> None:
    def gone() -> None:
        raise fault("away")

    monkeypatch.setattr(metrics, "counted", gone)
    assert told(OutboxCollector()) == {}


def test_one_that_hangs_is_waited_for_once_and_not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, asked = threading.Event(), []

    def hangs() -> None:
        asked.append(True)
        let_go.wait(20)

    monkeypatch.setattr(metrics, "counted", hangs)
    monkeypatch.setattr(metrics, "PATIENCE", 0.05)
    collector = OutboxCollector()
    assert [told(collector) for _ in range(3)] == [{}] * 3
    assert len(asked) == 1
    let_go.set()


def test_a_count_that_fails_leaves_the_doors_open(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise OperationalError("too many clients")

    monkeypatch.setattr(metrics, "counted", gone)
    told(OutboxCollector())
    with turnstile:
        pass


def test_who_asks_beside_another_is_told_the_last(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "counted", lambda: ({"queued": 3}, 1.0, 0))
    collector = OutboxCollector()
    first = told(collector)
    with collector._asking:
        assert told(collector) == first
    monkeypatch.setattr(metrics, "KEPT", 0.0)
    with collector._asking:
        assert told(collector) == {}


@pytest.mark.django_db
def test_an_unknown_one_that_was_released_wakes_nobody(at_once: None) -> None:
    deferred(status="unknown")
    deferred("loans/5", status="unknown", released_at=clock.now())
    assert told(OutboxCollector())["gateway_deferred_requests[unknown]"] == 1
