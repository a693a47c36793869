"""A table of deferred requests, to be filled, looked at and counted: in a process that has Django's settings."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Min

from breaker import conf
from mifos_gateway import guard
from mifos_gateway.models import Consumer, DeferredRequest
from mifos_gateway.outbox import clock, delivery, intake

ORDERS = 50
AT_ONCE = 8
"""Leases of one look: as many as a runner has threads."""
BATCH = 5_000
CONTENT = {"Content-Type": "application/json"}, b'{"transactionAmount": 100, "locale": "en"}'


def fill(count: int) -> None:
    """So many more, due in the order in which they come, over the orders in turn."""
    guard.current()  # the breakers, by which a lease knows how long to last
    consumer, _ = Consumer.objects.get_or_create(name="bench")
    payload, now = intake.sealed(*CONTENT), clock.now()

    def row(number: int) -> DeferredRequest:
        loan = number % ORDERS
        given: dict[str, Any] = {
            "namespace": conf.namespace(),
            "consumer": consumer,
            "client": "maker",
            "breaker": "MIFOS-Maker-post",
            "method": "POST",
            "target": f"loans/{loan}/transactions?command=repayment",
            "order_key": f"loans/{loan}",
            "order": f"maker loans/{loan}",
            "idempotency_key": uuid.uuid4().hex,
            "identity": uuid.uuid4().hex,
            "payload": payload,
            "created_at": now,
            "time_to_live": timedelta(hours=1),
            "expires_at": now + timedelta(hours=1),
            "due_at": now - timedelta(seconds=1) + timedelta(microseconds=number),
        }
        return DeferredRequest(**given)

    DeferredRequest.objects.bulk_create((row(number) for number in range(count)), batch_size=500)


def put_behind_one() -> None:
    """All in one order, whose first one MIFOS has rejected."""
    DeferredRequest.objects.update(order="maker loans/1")
    first = DeferredRequest.objects.aggregate(first=Min("pk"))["first"]
    DeferredRequest.objects.filter(pk=first).update(status="rejected", ended_at=F("created_at"))


def tidy() -> None:
    """What autovacuum does within a minute."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


def look(seconds: float) -> list[float]:
    """What each of the looks takes that a runner has time for; what they have leased is given back."""
    guard.current()
    names, taken, ends_at = [*guard.NAMES.values()], [], time.perf_counter() + seconds
    while not taken or time.perf_counter() < ends_at:
        with transaction.atomic():
            began = time.perf_counter()
            delivery.lease(clock.now(), limit=AT_ONCE, breakers=names)
            taken.append(time.perf_counter() - began)
            transaction.set_rollback(True)
    return taken


def ended() -> int:
    return DeferredRequest.objects.filter(status="delivered").count()


def clear() -> None:
    DeferredRequest.objects.all().delete()
