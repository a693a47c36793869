"""Those who meet in the outbox's tables, over the database of DATABASE_URL: a program, for each is a process.

python -m tests.mifos_gateway.outbox.racer ROLE [ARGUMENTS]; each role's function says what it does and prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import django
from django.db import close_old_connections, connections

BREAKERS = ["MIFOS-Maker-post"]


def accept(count: str, orders: str, first: str = "0") -> None:
    """So many writes over so many orders (0: without one), whose notes tell them apart: the ids of their requests."""
    ids = [accepted(f"k{number}", number, int(orders)) for number in range(int(first), int(first) + int(count))]
    print(json.dumps(ids))


def accepted(key: str | None, number: int, orders: int, *, at_once: bool = True, body: str = "") -> str:
    """The id of a new client's request, 422 of a body that is not the key's, or "sent" where it is to go to MIFOS."""
    from mifos_gateway import guard, idempotency, targets
    from mifos_gateway.outbox import intake
    from mifos_gateway.outbox.preferences import Preference
    from mifos_gateway.refusals import IdempotencyKeyReused

    order = f"o{number % orders}" if orders else None
    client = {"officeId": 1, "legalFormId": 1, "firstname": "A", "lastname": "B", "externalId": f"{number}{body}"}
    target, headers = targets.parse("clients"), {"Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = idempotency.identity(
            key, consumer="", client="maker", method="POST", target=target
        )
    call = guard.Call("maker", "POST", "clients", headers, json.dumps(client).encode())
    write = intake.write_of(
        "POST",
        target,
        client="maker",
        consumer=None,
        key=key,
        order_key=order,
        preference=Preference(at_once, at_once),
    )
    try:
        answer = intake.admit(intake.with_write(call, write))
    except IdempotencyKeyReused:
        return "422"
    return str(answer.json()["id"]) if answer is not None else "sent"


def lease_all(seconds: str) -> None:
    """Leases and settles what there is, by four threads: (order, row, from, until) of each, while it was ours."""
    from mifos_gateway.outbox import clock, delivery
    from mifos_gateway.outbox.delivery import Attempt
    from mifos_gateway.outbox.outcomes import Verdict

    held: list[tuple[str, int, int, int]] = []
    ends_at = time.monotonic() + float(seconds)

    def run() -> None:
        idle = 0
        while time.monotonic() < ends_at and idle < 20:
            leased = delivery.lease(clock.now(), limit=3, breakers=BREAKERS)
            idle = 0 if leased else idle + 1
            since = time.monotonic_ns()
            time.sleep(0.002 if leased else 0.02)
            for one in leased:
                held.append((one.row.order, one.row.pk, since, time.monotonic_ns()))
                delivery.settle(one, Attempt(Verdict("delivered", "delivered"), clock.now()))
        connections.close_all()

    at_once(*[run] * 4)
    print(json.dumps(held))


def same_keys(rounds: str) -> None:
    """Four callers with one key at once, two of each body: what each got, round by round; deferred and directly."""
    found = []
    for number in range(int(rounds)):
        for deferred in (True, False):
            got: dict[str, list[str]] = {"a": [], "b": []}

            def call(body: str, got: Any = got, number: int = number, deferred: bool = deferred) -> None:
                got[body].append(accepted(f"{number}-{deferred}", number, 0, at_once=deferred, body=body))
                connections.close_all()

            at_once(*(lambda body=body: call(body) for body in "abab"))
            found.append((deferred, got))
    print(json.dumps(found))


def cancel_or_lease(rounds: str) -> None:
    """A caller cancels what a runner leases at that moment: how often each was first, and what the row then says."""
    from mifos_gateway.models import DeferredRequest
    from mifos_gateway.outbox import clock, delivery, desk
    from mifos_gateway.outbox.desk import NotPossible

    found = []
    for number in range(int(rounds)):
        uid = accepted(None, number, 0)
        row, got = DeferredRequest.objects.get(uid=uid), {"cancelled": False, "leased": False}

        def cancel(pk: int = row.pk, got: dict[str, bool] = got) -> None:
            try:
                desk.cancel(pk)
                got["cancelled"] = True
            except NotPossible:
                pass
            connections.close_all()

        def lease(got: dict[str, bool] = got) -> None:
            got["leased"] = bool(delivery.lease(clock.now(), limit=1, breakers=BREAKERS))
            connections.close_all()

        at_once(cancel, lease)
        row.refresh_from_db()
        found.append((got["cancelled"], got["leased"], row.status))
        DeferredRequest.objects.filter(pk=row.pk).update(status="cancelled")
    print(json.dumps(found))


def purge_or_retry(rounds: str) -> None:
    """What is old enough to be deleted is sent again at that moment: whether it was, and what the row then says."""
    from mifos_gateway.models import DeferredRequest
    from mifos_gateway.outbox import clock, desk

    found = []
    for number in range(int(rounds)):
        uid = accepted(None, number, 0)
        old = clock.now() - timedelta(days=31)
        DeferredRequest.objects.filter(uid=uid).update(status="expired", ended_at=old)
        row, got = DeferredRequest.objects.get(uid=uid), {"retried": False}

        def retry(pk: int = row.pk, got: dict[str, bool] = got) -> None:
            try:
                desk.retry(pk)
                got["retried"] = True
            except DeferredRequest.DoesNotExist:
                pass
            connections.close_all()

        def purge() -> None:
            desk.purge(clock.now())
            connections.close_all()

        at_once(retry, purge)
        found.append((got["retried"], [*DeferredRequest.objects.values_list("status", flat=True)]))
        DeferredRequest.objects.all().delete()
    print(json.dumps(found))


def stalls(where: str) -> None:
    """A runner that gets to `send` or `settle` with its first request, says so, and stays there."""
    from mifos_gateway.outbox import delivery, runner

    def stay(*_: Any) -> NoReturn:
        print("here", flush=True)
        time.sleep(3600)
        raise AssertionError

    if where == "send":
        delivery.attempt = stay
    else:
        delivery.settle = stay
    runner.Runner(threads=1).run(seconds=60)


def deliver() -> None:
    """All that is due, by a runner, after every lease has run out."""
    from mifos_gateway.models import DeferredRequest
    from mifos_gateway.outbox import clock
    from mifos_gateway.outbox.runner import Runner

    DeferredRequest.objects.filter(status="replaying").update(lease_until=clock.now() - timedelta(seconds=1))
    Runner(rate=1000).run(once=True, seconds=60)
    print(json.dumps(told()))


def tell() -> None:
    print(json.dumps(told()))


def told() -> list[Any]:
    """(status, perhaps sent, outcomes) of all, in their order."""
    from mifos_gateway.models import DeferredRequest

    rows = DeferredRequest.objects.order_by("pk").prefetch_related("attempts")
    return [(row.status, row.perhaps_sent, [one.outcome for one in row.attempts.all()]) for row in rows]


def at_once(*calls: Callable[[], None]) -> None:
    close_old_connections()
    barrier, failed = threading.Barrier(len(calls)), []

    def run(call: Callable[[], None]) -> None:
        barrier.wait()
        try:
            call()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


_ALL = (accept, lease_all, same_keys, cancel_or_lease, purge_or_retry, stalls, deliver, tell)
ROLES = {role.__name__: role for role in _ALL}

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    ROLES[sys.argv[1]](*sys.argv[2:])
