"""What callers and operators do with deferred requests, and how they are told of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, Count, Exists, IntegerField, Min, OuterRef, Q, QuerySet, Subquery, When
from django.db.models.functions import Coalesce

from breaker import conf as breaker_conf
from mifos_gateway import conf, vault
from mifos_gateway.models import UNFINISHED, DeferredAttempt, DeferredRequest, UsedKey
from mifos_gateway.outbox import clock

Status = DeferredRequest.Status
WAITING = (Status.QUEUED, Status.REPLAYING)
STUCK = (Status.REJECTED, Status.UNKNOWN)
RETRIED = (*STUCK, Status.EXPIRED)
CANCELLED = (Status.QUEUED, *STUCK)
"""What may be: such as is not being sent, and has not ended well or by time."""
WAITING_ONES = Q(status__in=WAITING)
BLOCKING = Q(status__in=STUCK, released_at=None) & ~Q(order="")
"""What holds up its order until somebody decides."""
UNSEEN = Q(status=Status.UNKNOWN, released_at=None)
_PURGED_AT_ONCE = 500
ITS_ORDER = (OuterRef("namespace"), OuterRef("tenant"), OuterRef("order"))
"""Of the row of the query around."""


class NotPossible(Exception):
    """A request is not in a state for that; the message says in which it is, and what helps."""

    def __init__(self, message: str, *, code: str = "DEFERRED_STATE") -> None:
        super().__init__(message)
        self.code = code


def of_namespace() -> QuerySet[DeferredRequest]:
    """Those for the MIFOS of this gateway."""
    return DeferredRequest.objects.filter(namespace=breaker_conf.namespace())


def ahead(namespace: Any, tenant: Any, order: Any, *, before: Any = None) -> QuerySet[DeferredRequest]:
    """The unfinished ones of a tenant's order, first ones first; of those before one, by its primary key.

    Values, or expressions of a query around this one.
    """
    found = DeferredRequest.objects.filter(namespace=namespace, tenant=tenant, line=order).order_by("pk")
    return found if before is None else found.filter(pk__lt=before)


def position(row: DeferredRequest) -> int | None:
    """1 when it is the next of its order; None once it is done with."""
    if row.status not in (*WAITING, *STUCK) or row.released_at is not None:
        return None
    return 1 + (ahead(row.namespace, row.tenant, row.order, before=row.pk).count() if row.order else 0)


def with_numbers(rows: QuerySet[DeferredRequest]) -> QuerySet[Any]:
    """The same, each with its `place`, which is its position, and the count of its attempts, `tries`."""
    before = ahead(*ITS_ORDER, before=OuterRef("pk")).order_by()
    is_waiting = UNFINISHED & ~Q(order="")
    return rows.annotate(
        place=Case(
            When(is_waiting, then=1 + Coalesce(_counted(before.values("order")), 0)),
            When(UNFINISHED, then=1),
            output_field=IntegerField(),
        ),
        tries=Coalesce(
            _counted(DeferredAttempt.objects.filter(request=OuterRef("pk")).order_by().values("request")), 0
        ),
    )


def with_behind(rows: QuerySet[DeferredRequest]) -> QuerySet[Any]:
    """The same, each with how many unfinished ones wait `behind` it in its order."""
    behind = ahead(*ITS_ORDER).filter(pk__gt=OuterRef("pk")).order_by()
    has_none = When(order="", then=0)
    return rows.annotate(behind=Case(has_none, default=Coalesce(_counted(behind.values("order")), 0)))


def _counted(grouped: Any) -> Subquery:
    return Subquery(grouped.annotate(count=Count("pk")).values("count"))


def entry(
    row: DeferredRequest,
    *,
    attempts: Iterable[DeferredAttempt] | None = None,
    place: int | None = None,
    with_body: bool = True,
) -> dict[str, Any]:
    """One deferred request, as the API gives it to its consumer. What is given is not asked for."""
    return {
        "id": str(row.uid),
        "status": row.status,
        "client": row.client,
        "method": row.method,
        "path": row.target,
        "idempotencyKey": row.idempotency_key,
        "orderKey": row.order_key or None,
        "position": position(row) if attempts is None else place,
        "createdAt": at(row.created_at),
        "expiresAt": at(row.expires_at),
        "perhapsSent": row.perhaps_sent,
        "attempts": [attempt_entry(one) for one in (row.attempts.all() if attempts is None else attempts)],
        "response": response(row, with_body=with_body),
    }


def attempt_entry(one: DeferredAttempt) -> dict[str, Any]:
    return {"at": at(one.at), "outcome": one.outcome, "status": one.status, "error": one.error or None}


def response(row: DeferredRequest, *, with_body: bool = True) -> dict[str, Any] | None:
    """What MIFOS said last, where it ended the request: its body as JSON, or as text where it is none."""
    if row.response_status is None:
        return None
    if not with_body:
        return {"status": row.response_status}
    try:
        content = vault.unseal(bytes(row.response)) if row.response else b""
    except vault.Unreadable:
        return {"status": row.response_status, "body": None}
    try:
        body = json.loads(content) if content else None
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()  # as it goes out
    except (ValueError, RecursionError):
        body = content.decode(errors="replace")
    return {"status": row.response_status, "body": body}


def at(moment: datetime) -> str:
    """As the API writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


# -- acts --------------------------------------------------------------------------------------------------------------


def cancel(pk: int) -> DeferredRequest:
    """It is not sent (again). Raises NotPossible while it is being sent, and once it has ended well or by time."""
    with transaction.atomic():
        row = _locked(pk)
        if row.status == Status.CANCELLED:
            return row
        if row.status == Status.REPLAYING:
            raise NotPossible("It is being sent at this moment; look again in some seconds.")
        if row.status not in CANCELLED:
            raise NotPossible(f"It is {row.status}, and can no longer be cancelled.")
        _end(row, Status.CANCELLED)
    return row


def retry(pk: int, *, new_key: bool | None = None) -> DeferredRequest:
    """It is sent again, as soon as its order lets it, for a new time to live.

    `new_key`: MIFOS gets another key. So it must where the old one is burnt: MIFOS would repeat its recorded answer.
    Of a rejected one nothing was done, so that it gets one unless told otherwise; of an unknown one perhaps, so that
    whoever asks for a new key has made sure that nothing was. Raises NotPossible.
    """
    with transaction.atomic():
        row = _locked(pk)
        if (row.namespace, row.tenant) != (breaker_conf.namespace(), conf.tenant()):
            raise NotPossible(
                f"It is for another MIFOS or tenant than this gateway's ({row.namespace}, tenant {row.tenant})."
            )
        if row.status == Status.QUEUED:
            if new_key:
                raise NotPossible("It is still queued, with a key that is good; a new one could do it twice.")
            row.due_at = min(row.due_at, clock.now())
            row.save(update_fields=("due_at",))
            return row
        if row.status not in RETRIED:
            raise NotPossible(f"It is {row.status}; only what is rejected, unknown or expired is sent again.")
        renews = row.status == Status.REJECTED if new_key is None else new_key
        if row.key_burnt and not renews:
            raise NotPossible(
                "MIFOS has recorded an error under its key and would repeat it. Make sure in MIFOS that nothing was "
                "done, and retry with a new key (newKey).",
                code="KEY_BURNT",
            )
        if renews:
            row.key_serial, row.key_burnt, row.perhaps_sent, row.key_since = row.key_serial + 1, False, False, None
        now = clock.now()
        row.status, row.due_at, row.expires_at, row.failures = Status.QUEUED, now, _expiry(row, now), 0
        row.ended_at = row.released_at = row.response_status = row.response = None
        row.save()
    return row


def _expiry(row: DeferredRequest, now: datetime) -> datetime:
    """After a new time to live, but before MIFOS may forget the key. Raises NotPossible when it may have."""
    expires_at = now + row.time_to_live
    if row.key_since is None:
        return expires_at
    last = forgets_at(row.key_since)
    if last <= now:
        raise NotPossible(
            "MIFOS may have forgotten its key, and would do it again. Make sure in MIFOS that nothing was done, and "
            "retry with a new key (newKey).",
            code="KEY_FORGOTTEN",
        )
    return min(expires_at, last)


def forgets_at(key_since: datetime) -> datetime:
    """When MIFOS may forget a key at the earliest."""
    return key_since + timedelta(days=conf.gateway().mifos_purge_days)


def release(pk: int) -> DeferredRequest:
    """Those behind a rejected or unknown one go on without it. Raises NotPossible."""
    with transaction.atomic():
        row = _locked(pk)
        if row.status not in STUCK:
            raise NotPossible(f"It is {row.status}; only a rejected or unknown one holds up its order.")
        if row.released_at is None:
            row.released_at = clock.now()
            row.save(update_fields=("released_at",))
    return row


def _locked(pk: int) -> DeferredRequest:
    return DeferredRequest.objects.select_for_update(of=("self",)).get(pk=pk)


def _end(row: DeferredRequest, status: str) -> None:
    row.status, row.ended_at = status, clock.now()
    row.save(update_fields=("status", "ended_at"))


# -- in all ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backlog:
    """`oldest`: when the oldest that still waits was accepted. `blocked`: orders that a bad end holds up."""

    waiting: int
    oldest: datetime | None
    blocked: int


def backlog() -> Backlog:
    """Of all tenants that share the namespace, by what waits and what is stuck alone, however many have ended."""
    rows = of_namespace()
    waiting = rows.filter(WAITING_ONES).aggregate(count=Count("pk"), oldest=Min("created_at"))
    blocked = rows.filter(BLOCKING).order_by().values("tenant", "order").distinct().count()
    return Backlog(waiting["count"], waiting["oldest"], blocked)


def purge(now: datetime, *, days: int | None = None) -> int:
    """Delete what ended so long ago, in small steps; how many. What holds up an order stays, and what is unknown until
    somebody has looked: it is released, cancelled or sent again.

    Only this namespace's: others that share the database may keep theirs for longer.
    """
    kept = conf.gateway()
    since = now - timedelta(days=days if days is not None else kept.deferred_days)
    gone = _deleted(of_namespace().filter(ended_at__lt=since).exclude(BLOCKING).exclude(UNSEEN))
    still_there = of_namespace().filter(identity=OuterRef("identity"))
    keys = UsedKey.objects.filter(namespace=breaker_conf.namespace())
    _deleted(keys.filter(~Exists(still_there), created_at__lt=now - timedelta(days=kept.idempotency_days)))
    return gone


def _deleted(chosen: QuerySet[Any]) -> int:
    """What is chosen is locked until it is gone: one that is queued again meanwhile must not go with the others."""
    gone, model = 0, chosen.model
    skip = connection.features.has_select_for_update_skip_locked
    while True:
        with transaction.atomic():
            locked = chosen.order_by("pk").select_for_update(skip_locked=skip, of=("self",))
            pks = list(locked.values_list("pk", flat=True)[:_PURGED_AT_ONCE])
            if not pks:
                return gone
            gone += model.objects.filter(pk__in=pks).delete()[1][model._meta.label]
