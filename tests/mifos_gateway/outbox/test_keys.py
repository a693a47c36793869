"""What is sent again bears the key that it was first sent with; and who has perhaps sent it is never forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from breaker.registry import registry
from mifos_gateway.fallbacks import Deferred
from mifos_gateway.models import DeferredRequest, UsedKey
from mifos_gateway.outbox import clock, delivery, desk
from mifos_gateway.outbox.desk import NotPossible
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer
from tests.mifos_gateway.test_deferred import AWAY, BODY, LOST, accept, due_now, only, open_circuit, send_all

pytestmark = pytest.mark.django_db

KEY = {"Idempotency-Key": "k"}
DAY = timedelta(days=1)


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("key", [{}, KEY])
def test_the_key_stays_what_it_was_whatever_the_settings_say_later(
    routes: Any, caller: Caller, mifos: FakeMifos, key: dict[str, str], later: bool
) -> None:
    routes(RAW_IDEMPOTENCY_KEYS=True)
    mifos.behaviour = LOST
    assert accept(caller, headers=key).status_code == 202
    first = mifos.last["headers"]["Idempotency-Key"]
    mifos.behaviour = mifos_answer()
    routes(RAW_IDEMPOTENCY_KEYS=later)
    due_now()
    assert send_all() == ["delivered"]
    assert mifos.last["headers"]["Idempotency-Key"] == first


@pytest.mark.parametrize("before", [mifos_answer(), mifos_answer(503), LOST])
def test_who_asks_again_later_with_the_same_key_has_perhaps_sent_it(
    routes: Any, caller: Caller, mifos: FakeMifos, before: Any
) -> None:
    mifos.behaviour = before
    caller.mifos("clients", "POST", body=BODY, headers=KEY)
    open_circuit(mifos)
    assert accept(caller, headers=KEY).json()["perhapsSent"]
    delivery.expire(clock.now() + DAY)
    assert only().status == "unknown"


def test_who_asks_for_the_first_time_has_not(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    mifos.behaviour = AWAY
    assert not accept(caller, headers=KEY).json()["perhapsSent"]
    assert not accept(caller, headers={**KEY, "Prefer": "respond-async, wait=0"}, target="loans/7/x").json()[
        "perhapsSent"
    ]
    delivery.expire(clock.now() + DAY)
    assert {row.status for row in DeferredRequest.objects.all()} == {"expired"}


def test_what_is_ahead_sends_nothing(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    accept(caller, "loans/5/charges")
    registry.circuits["MIFOS-Maker-post"].close()
    assert caller.mifos("loans/5/charges", "POST", body=BODY, headers=KEY).status_code == 409
    assert not accept(caller, "loans/5/charges", headers=KEY).json()["perhapsSent"]


def test_a_key_is_known_as_long_as_its_request(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    first = accept(caller, headers=KEY)
    desk.purge(clock.now() + 10 * DAY)
    assert UsedKey.objects.count() == 1
    assert accept(caller, headers=KEY, body=b"{}").status_code == 422
    assert accept(caller, headers=KEY)["Location"] == first["Location"]
    desk.cancel(only().pk)
    desk.purge(clock.now() + 40 * DAY)
    assert (UsedKey.objects.count(), DeferredRequest.objects.count()) == (0, 0)


def test_a_database_that_was_away_leaves_no_request_without_its_key(
    routes: Any, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mifos_gateway.outbox import intake

    open_circuit(mifos)
    with monkeypatch.context() as away:
        away.setattr(intake, "_known", lambda *_, **__: None)
        accept(caller, headers=KEY)
    assert accept(caller, headers=KEY, body=b"{}").status_code == 422


@pytest.mark.parametrize("more", [{}, {"DEFERRED_LET_DIRECT_PASS": True}])
def test_what_may_be_deferred_waits_behind_its_order_wherever_direct_writes_pass(
    routes: Any, caller: Caller, mifos: FakeMifos, more: dict[str, Any]
) -> None:
    routes(**more)
    open_circuit(mifos)
    accept(caller, "loans/5/charges")
    registry.circuits["MIFOS-Maker-post"].close()
    assert accept(caller, "loans/5/charges").json()["position"] == 2


def test_so_does_what_a_strategy_defers_where_no_route_is_named(routes: Any, mifos: FakeMifos) -> None:
    from mifos_gateway import maker

    routes({})
    open_circuit(mifos)
    assert maker.post("loans/5/charges", json={}, fallback=Deferred()).status_code == 202
    registry.circuits["MIFOS-Maker-post"].close()
    assert maker.post("loans/5/charges", json={}, fallback=Deferred()).status_code == 202


# -- for how long ------------------------------------------------------------------------------------------------------


def test_a_retry_gives_the_same_time_to_live_each_time(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    routes({"POST clients": 600})
    open_circuit(mifos)
    accept(caller)
    for hour in (1, 5, 24):
        now = clock.now() + timedelta(hours=hour)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(clock, "now", lambda at=now: at)
            delivery.expire(now)
            assert desk.retry(only().pk).expires_at - now == timedelta(seconds=600)


def test_a_key_that_mifos_may_have_forgotten_is_not_sent_again(
    routes: Any, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes({"POST clients": 2 * 86_400})
    mifos.behaviour = LOST
    accept(caller)
    began = clock.now()
    delivery.expire(began + 3 * DAY)
    monkeypatch.setattr(clock, "now", lambda: began + 29 * DAY)
    assert timedelta(0) < desk.retry(only().pk).expires_at - clock.now() <= DAY
    monkeypatch.setattr(clock, "now", lambda: began + 31 * DAY)
    delivery.expire(clock.now())
    with pytest.raises(NotPossible) as refused:
        desk.retry(only().pk)
    assert refused.value.code == "KEY_FORGOTTEN"
    renewed = desk.retry(only().pk, new_key=True)
    assert renewed.expires_at - clock.now() == 2 * DAY


# -- and what is recorded ----------------------------------------------------------------------------------------------


def test_an_attempt_whose_record_was_not_known_to_be_stored_is_recorded_once(
    routes: Any, caller: Caller, mifos: FakeMifos
) -> None:
    open_circuit(mifos)
    accept(caller)
    registry.circuits["MIFOS-Maker-post"].close()
    (leased,) = delivery.lease(clock.now(), limit=1, breakers=["MIFOS-Maker-post"])
    made = delivery.attempt(leased)
    assert delivery.settle(leased, made)
    assert not delivery.settle(leased, made)
    assert [one.outcome for one in only().attempts.all()] == ["delivered"]


def test_a_late_answer_is_recorded_and_decides_nothing(routes: Any, caller: Caller, mifos: FakeMifos) -> None:
    open_circuit(mifos)
    accept(caller)
    registry.circuits["MIFOS-Maker-post"].close()
    now = clock.now()
    (leased,) = delivery.lease(now, limit=1, breakers=["MIFOS-Maker-post"])
    made = delivery.attempt(leased)
    assert delivery.recover(now + timedelta(minutes=1)) == 1
    assert not delivery.settle(leased, made)
    assert (only().status, only().perhaps_sent) == ("queued", True)
    assert [one.outcome for one in only().attempts.all()] == ["abandoned", "delivered"]


def test_what_was_deleted_meanwhile_is_not_found(
    routes: Any, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_circuit(mifos)
    location = accept(caller)["Location"]

    def gone(pk: int) -> Any:
        raise DeferredRequest.DoesNotExist

    monkeypatch.setattr(desk, "cancel", gone)
    answer = caller.call("DELETE", location)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_request_that_is_accepted_between_two_looks_is_not_given_to_another_body(
    routes: Any, caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_circuit(mifos)
    accept(caller, headers=KEY)
    monkeypatch.setattr(UsedKey.objects, "filter", lambda **_: UsedKey.objects.none())  # as a moment ago
    for prefer in ("respond-async", "respond-async, wait=0"):
        assert accept(caller, headers={**KEY, "Prefer": prefer}, body=b"{}").status_code == 422
