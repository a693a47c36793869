"""Deferred requests in all: where each stands, how many wait, and how long they are kept."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from mifos_gateway.models import DeferredRequest, UsedKey
from mifos_gateway.outbox import clock, delivery, desk
from mifos_gateway.outbox.desk import Backlog
from tests.mifos_gateway.deferred_rows import attempted, deferred

pytestmark = pytest.mark.django_db


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_place_and_tries_come_with_the_rows(django_assert_num_queries: Any) -> None:
    rows = [
        deferred("loans/5", status="delivered"),
        deferred("loans/5", status="rejected"),
        deferred("loans/5"),
        deferred("loans/6"),
        deferred(),
        deferred("loans/5", status="rejected", released_at=clock.now()),
        deferred("loans/5"),
    ]
    attempted(rows[1], "busy", "rejected")
    with django_assert_num_queries(1):
        found = list(desk.with_numbers(desk.of_namespace()).order_by("pk"))
    assert [(row.place, row.tries) for row in found] == [  # type: ignore[attr-defined]
        *((None, 0), (1, 2), (2, 0), (1, 0), (1, 0), (None, 0), (3, 0))
    ]
    assert [row.place for row in found] == [desk.position(row) for row in found]  # type: ignore[attr-defined]


def test_the_backlog() -> None:
    assert desk.backlog() == Backlog(waiting=0, oldest=None, blocked=0)
    oldest = deferred("loans/5", ago=90, status="replaying")
    deferred("loans/6", ago=60)
    for _ in range(2):
        deferred("loans/7", ago=3600, status="rejected")
    deferred("loans/7", ago=3600, status="rejected", tenant="another")  # another order
    deferred("loans/8", status="unknown", released_at=clock.now())
    deferred(status="unknown")
    deferred(ago=7200, status="delivered")
    deferred("loans/9", ago=7200, namespace="another")
    assert desk.backlog() == Backlog(waiting=2, oldest=oldest.created_at, blocked=2)


# -- what is kept ------------------------------------------------------------------------------------------------------

MONTH = 31 * 24 * 3600


def test_what_has_ended_goes_and_what_holds_up_an_order_stays(settings: Any) -> None:
    gone = [
        deferred("loans/5", status="delivered", ago=MONTH),
        deferred("loans/5", status="cancelled", ago=MONTH),
        deferred("loans/5", status="expired", ago=MONTH),
        deferred("loans/6", status="rejected", ago=MONTH, released_at=clock.now()),
    ]
    stay = [
        deferred(status="unknown", ago=MONTH),  # until somebody has looked
        deferred("loans/5", ago=MONTH),
        deferred("loans/5", status="rejected", ago=MONTH),
        deferred("loans/7", status="unknown", ago=MONTH),
        deferred(status="delivered", ago=MONTH - 2 * 24 * 3600),
        deferred(status="delivered", ago=MONTH, namespace="another"),
    ]
    attempted(gone[0], "delivered")
    assert desk.purge(clock.now()) == len(gone)
    assert set(DeferredRequest.objects.values_list("pk", flat=True)) == {row.pk for row in stay}


def test_so_long_as_the_setting_says(settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "DEFERRED_DAYS": 3}
    deferred(status="delivered", ago=4 * 24 * 3600), deferred(status="delivered", ago=2 * 24 * 3600)
    assert (desk.purge(clock.now()), desk.purge(clock.now(), days=1)) == (1, 1)


def test_many_go_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_PURGED_AT_ONCE", 2)
    for _ in range(5):
        deferred(status="delivered", ago=MONTH)
    assert desk.purge(clock.now()) == 5


def test_one_that_is_queued_again_meanwhile_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    row = deferred(status="rejected", ago=MONTH)
    begin, retries = transaction.atomic, [row.pk]

    def overtaken(*args: Any, **more: Any) -> Any:
        if retries:
            desk.retry(retries.pop())
        return begin(*args, **more)

    monkeypatch.setattr(desk.transaction, "atomic", overtaken)
    assert desk.purge(clock.now()) == 0
    assert DeferredRequest.objects.get().status == "queued"


def test_keys_of_another_gateway_stay() -> None:
    for namespace in ("another", deferred().namespace):
        old = clock.now() - timedelta(days=90)
        UsedKey.objects.create(namespace=namespace, identity="x", body_digest="y", created_at=old)
    desk.purge(clock.now())
    assert UsedKey.objects.get().namespace == "another"


def test_what_nobody_is_left_to_recover_ends_as_unknown_with_its_time() -> None:
    """Its sender was killed, and then the gateway pointed elsewhere."""
    now = clock.now()
    left = [
        deferred(order, status="replaying", ago=7200, namespace="another", lease=uuid.uuid4(), lease_until=until)
        for order, until in (("loans/1", now - timedelta(seconds=1)), ("loans/2", now + timedelta(seconds=9)))
    ]
    early = deferred("loans/3", status="replaying", namespace="another", lease=uuid.uuid4(), lease_until=now)
    left.append(early)  # its time has not come
    assert delivery.expire(now + timedelta(seconds=1)) == 0
    assert delivery.expire(now + timedelta(seconds=1), everywhere=True) == 1
    for row in left:
        row.refresh_from_db()
    assert [(row.status, row.perhaps_sent, row.lease is None) for row in left] == [
        ("unknown", True, True),
        ("replaying", False, False),
        ("replaying", False, False),
    ]
    assert [row.attempts.values_list("outcome", flat=True).first() for row in left] == ["abandoned", None, None]
