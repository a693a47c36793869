"""From the table to MIFOS: a lease on a request, one attempt, and what becomes of it.

A request is sent at least once and with one key, hence has its effect once as long as MIFOS honours the key. Before it
is sent its row says `replaying`, with a lease; who dies meanwhile leaves it to others once the lease has run out, as
one that MIFOS perhaps has. What ends an attempt is written only by who still holds the lease.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Case, Q, QuerySet, Subquery, When

from breaker import conf as breaker_conf
from breaker.fallbacks import FailFast
from breaker.registry import registry
from mifos_gateway import conf, database, guard, idempotency, vault
from mifos_gateway.errors import GatewayError
from mifos_gateway.models import DeferredAttempt, DeferredRequest
from mifos_gateway.outbox import clock, intake
from mifos_gateway.outbox.desk import ITS_ORDER, WAITING_ONES, ahead, of_namespace
from mifos_gateway.outbox.outcomes import Verdict, of_answer, of_error, reason

log = logging.getLogger("gateway")

Status = DeferredRequest.Status
FRONT = 200
"""So many are looked at before it is asked for the heads of all lines."""
UNREADABLE_PAUSE = 60.0
"""Seconds until a payload is looked at again whose key is not among the settings': they may be mended."""
_FAIL_FAST = FailFast()

# From one name to the next by the index, however many rows have it. PostgreSQL and SQLite both stop at the limit.
_NAMES = """
WITH RECURSIVE names (name) AS (
    SELECT min({column}) FROM {table} WHERE {rows} AND {column} > %(after)s
    UNION ALL
    SELECT (SELECT min({column}) FROM {table} WHERE {rows} AND {column} > name) FROM names WHERE name IS NOT NULL
)
SELECT name, {of_each} FROM names WHERE name IS NOT NULL LIMIT %(most)s
"""
_TABLE = DeferredRequest._meta.db_table
_HEAD = f"(SELECT min(id) FROM {_TABLE} WHERE namespace = %(namespace)s AND tenant = %(tenant)s AND line = name)"  # noqa: S608 - our own table


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, as it is to be recorded; `answer`: MIFOS's, if there was one."""

    verdict: Verdict
    at: datetime
    answer: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Leased:
    """A request that is ours to send until `until`, by this process's monotonic clock."""

    row: DeferredRequest
    token: uuid.UUID
    until: float
    at: datetime
    """When it was leased, by the database's clock, and `moment` by this process's."""
    moment: float

    @property
    def now(self) -> datetime:
        """By the database's clock, without asking it."""
        return self.at + timedelta(seconds=time.monotonic() - self.moment)


def lease(now: datetime, *, limit: int, breakers: Collection[str]) -> list[Leased]:
    """Up to so many that are due, of these breakers; each the first of its order, and of no order two."""
    if limit < 1 or not breakers:
        return []
    moment = time.monotonic()  # before the database is waited for: we must not believe in a lease for longer than it
    skip = connection.features.has_select_for_update_skip_locked
    found: list[Leased] = []
    with transaction.atomic():
        for rows in sendable(now, breakers):
            for row in rows.select_for_update(skip_locked=skip, of=("self",))[: limit - len(found)]:
                if one := _lease(row, now, moment):
                    found.append(one)
            if len(found) == limit:
                break
    return found


def sendable(now: datetime, breakers: Collection[str]) -> Iterator[QuerySet[DeferredRequest]]:
    """What is due, part by part: the first of each order, and of nobody who was revoked."""
    # Where the namespace is a name of one's own, the tenant may have changed since.
    is_due = Q(status=Status.QUEUED, due_at__lte=now, breaker__in=breakers, tenant=conf.tenant())
    is_due &= Q(consumer=None) | Q(consumer__revoked_at=None)
    is_first = Q(order="") | Q(pk=Subquery(ahead(*ITS_ORDER).values("pk")[:1]))
    for candidates in _candidates(of_namespace().filter(is_due), breakers):
        rows = DeferredRequest.objects.filter(is_first, pk__in=candidates).order_by("due_at", "pk")
        yield _checked(rows, is_due & Q(expires_at__gt=now))


def _candidates(due: QuerySet[DeferredRequest], breakers: Collection[str]) -> Iterator[list[int]]:
    """Primary keys: of what has been due for longest; where that is many, of what may be due behind them too.

    For they may all stand in line behind one that is held up, and to ask that of each of many takes long.
    """
    keys = due.order_by("due_at", "pk").values_list("pk", flat=True)
    longest: list[int] = []
    is_all = True
    for breaker, _ in _names("breaker", status=Status.QUEUED):
        if breaker in breakers:
            found = keys.filter(breaker=breaker)[:FRONT]
            longest += found
            is_all = is_all and len(found) < FRONT
    if longest:
        yield longest
    if not is_all:
        yield list(due.filter(line="").order_by("due_at").values_list("pk", flat=True)[:FRONT])
        line: str | None = ""
        while line is not None:
            heads = _names("line", of_each=_HEAD, after=line)
            yield [pk for _, pk in heads if pk is not None]  # none: all in line are of another tenant
            line = heads[-1][0] if len(heads) == FRONT else None


def _names(column: str, *, of_each: str = "NULL", after: str = "", **rows: str) -> list[tuple[str, Any]]:
    """The values of a column that come after this one, at most so many, and something `of_each`; by an index."""
    rows["namespace"] = breaker_conf.namespace()
    where = " AND ".join(f"{name} = %({name})s" for name in rows)
    sql = _NAMES.format(table=_TABLE, column=column, rows=where, of_each=of_each)
    with connection.cursor() as cursor:
        cursor.execute(sql, {**rows, "tenant": conf.tenant(), "after": after, "most": FRONT})
        found: list[tuple[str, Any]] = cursor.fetchall()
        return found


def _checked(rows: QuerySet[DeferredRequest], condition: Q) -> QuerySet[DeferredRequest]:
    """Those of few rows for which it holds. As a CASE: a database without figures would take an index for it."""
    return rows.alias(holds=Case(When(condition, then=True), default=False)).filter(holds=True)


def _lease(row: DeferredRequest, now: datetime, moment: float) -> Leased | None:
    seconds = timeout_of(row.breaker) + conf.gateway().deferred_grace
    row.status, row.lease, row.lease_until = Status.REPLAYING, uuid.uuid4(), now + timedelta(seconds=seconds)
    row.key_since = row.key_since or now
    try:
        with transaction.atomic():
            row.save(update_fields=("status", "lease", "lease_until", "key_since"))
    except IntegrityError:
        return None  # an earlier one of its order, accepted at the same time, is being sent
    return Leased(row, row.lease, moment + seconds, now, moment)


def warn_of_strangers() -> None:
    """Tell of those that wait for a MIFOS or tenant that is not this gateway's, and that nobody here will send."""
    waiting = DeferredRequest.objects.filter(WAITING_ONES)
    if count := waiting.exclude(namespace=breaker_conf.namespace(), tenant=conf.tenant()).count():
        log.warning(
            "%d deferred requests wait for another MIFOS or tenant than this gateway's (%s, tenant %s): it does not "
            "send them, and they end with their time to live",
            count,
            breaker_conf.namespace(),
            conf.tenant(),
        )


def timeout_of(breaker: str) -> float:
    return float(registry.circuits[breaker].policy.timeout)


def recover(now: datetime) -> int:
    """Back to the queue with those whose lease has run out: whoever held it is gone, and MIFOS perhaps has them."""
    count = _abandon(of_namespace(), now, status=Status.QUEUED, due_at=now)
    if count:
        log.warning("%d deferred requests were left by who sent them, and are queued again", count)
    return count


def _abandon(rows: QuerySet[DeferredRequest], now: datetime, **becomes: Any) -> int:
    """Those of them whose lease has run out become this, 500 at a time; how many. MIFOS perhaps has them."""
    changed = {**becomes, "perhaps_sent": True, "lease": None, "lease_until": None}
    skip = connection.features.has_select_for_update_skip_locked
    with transaction.atomic():
        lost = rows.filter(status=Status.REPLAYING, lease_until__lt=now)
        found = list(lost.select_for_update(skip_locked=skip, of=("self",))[:500])
        for row in found:
            for name, value in changed.items():
                setattr(row, name, value)
            row.save(update_fields=changed)
            _note(row, now, "abandoned", error="whoever sent it ended meanwhile")
    return len(found)


def expire(now: datetime, *, everywhere: bool = False) -> int:
    """End those whose time to live has passed: expired, or unknown where MIFOS perhaps has them.

    `everywhere`: of other namespaces too, which nobody may be left to look after; such as were being sent as well.
    """
    of_late = (DeferredRequest.objects.all() if everywhere else of_namespace()).filter(expires_at__lte=now)
    late = of_late.filter(status=Status.QUEUED)
    unknown = late.filter(perhaps_sent=True).update(status=Status.UNKNOWN, ended_at=now)
    expired = late.filter(perhaps_sent=False).update(status=Status.EXPIRED, ended_at=now)
    if everywhere:
        unknown += _abandon(of_late, now, status=Status.UNKNOWN, ended_at=now)
    if unknown or expired:
        log.warning("Deferred requests whose time to live has passed: %d expired, %d unknown", expired, unknown)
    return unknown + expired


def attempt(leased: Leased) -> Attempt:
    """Send it, once. Asks no database: one that is away must not make it look sent."""
    row, at = leased.row, leased.now
    database.release()
    if time.monotonic() > leased.until - timeout_of(row.breaker):
        return Attempt(Verdict(Status.QUEUED, "late", was_sent=False), at, error="the lease had all but run out")
    try:
        call = call_of(row)
    except vault.Unreadable as unreadable:
        verdict = Verdict(Status.QUEUED, "unreadable", UNREADABLE_PAUSE, was_sent=False)
        return Attempt(verdict, at, error=f"payload: {unreadable}")
    try:
        answer = guard.current().call(call, fallback=_FAIL_FAST)
    except GatewayError as failed:
        return Attempt(of_error(failed, failures=row.failures), at, error=failed.for_consumers)
    verdict = of_answer(answer, failures=row.failures, perhaps_sent=row.perhaps_sent, asked=row.asked)
    return Attempt(verdict, at, answer, error=reason(answer))


def call_of(row: DeferredRequest) -> guard.Call:
    """The call as it was accepted, with its key. Raises vault.Unreadable."""
    headers, body = intake.unsealed(row.payload)
    if row.key_serial:
        headers["Idempotency-Key"] = idempotency.renewed(row.identity, row.key_serial)
    headers.setdefault("Idempotency-Key", row.identity)  # never without one
    if row.request_id:
        headers["X-Request-ID"] = headers["X-Correlation-ID"] = row.request_id
    user: Any = row.client
    return guard.Call(user, row.method, row.target, headers, body)


def settle(leased: Leased, made: Attempt) -> bool:
    """Record an attempt, and what it makes of the request; False: the lease had run out, and others have it.

    Raises the database's errors; it may be tried again.
    """
    row, verdict, answer, now = leased.row, made.verdict, made.answer, clock.now()
    asked = row.asked + 1 if verdict.outcome == "processing" else 0
    changed: dict[str, Any] = {"status": verdict.status, "lease": None, "lease_until": None, "asked": asked}
    if verdict.status == Status.QUEUED:
        changed |= {"due_at": now + timedelta(seconds=verdict.pause), "failures": row.failures + int(verdict.was_sent)}
    else:
        changed |= {"ended_at": now}
    if verdict.may_have_arrived:
        changed |= {"perhaps_sent": True}
    elif verdict.was_sent:
        changed |= {"perhaps_sent": False}
    if verdict.burnt:
        changed |= {"key_burnt": True}
    if verdict.new_key:
        changed |= {"key_serial": row.key_serial + 1, "key_since": None}
    if answer is not None and verdict.status != Status.QUEUED:
        changed |= {"response_status": answer.status_code, "response": vault.seal(answer.content)}
    with transaction.atomic():
        mine = DeferredRequest.objects.filter(pk=row.pk, lease=leased.token, status=Status.REPLAYING)
        is_ours = bool(mine.update(**changed))
        if not is_ours and row.attempts.filter(at=made.at, outcome=verdict.outcome).exists():
            return False  # recorded already: the answer to that was lost
        status = None if answer is None else answer.status_code
        _note(row, made.at, verdict.outcome, status=status, error=made.error)
    _tell(row, verdict, answer)
    return is_ours


def _note(row: DeferredRequest, at: datetime, outcome: str, *, status: int | None = None, error: str = "") -> None:
    DeferredAttempt.objects.create(
        request=row, at=at, outcome=outcome, status=status, error=error[:255], key_serial=row.key_serial
    )


def _tell(row: DeferredRequest, verdict: Verdict, answer: Any) -> None:
    bad = verdict.status in (Status.REJECTED, Status.UNKNOWN)
    log.log(
        logging.WARNING if bad else logging.INFO,
        "Deferred request %s: %s (%s)",
        row.uid,
        verdict.outcome,
        f"MIFOS: {answer.status_code}" if answer is not None else "no answer",
        extra={"deferred": str(row.uid), "outcome": verdict.outcome, "client": row.client},
    )
