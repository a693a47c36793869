"""A write at the door: whether its key has come before, whether its order is free, and its acceptance for later."""

from __future__ import annotations

import base64
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models import F
from django.urls import get_script_prefix

from breaker import conf as breaker_conf
from mifos_gateway import conf, fallbacks, idempotency, vault
from mifos_gateway.client import answer_of
from mifos_gateway.deferred import Deferred
from mifos_gateway.errors import AcceptanceUnknown
from mifos_gateway.models import DeferredRequest, UsedKey
from mifos_gateway.outbox import clock, desk, orders, rules
from mifos_gateway.outbox.outcomes import back_off
from mifos_gateway.outbox.preferences import NONE, Preference
from mifos_gateway.outbox.turnstile import DATABASE_AWAY, turnstile
from mifos_gateway.refusals import DeferredAhead, IdempotencyKeyReused, OutboxUnavailable
from mifos_gateway.targets import Target

if TYPE_CHECKING:
    import requests

    from mifos_gateway.guard import Call

log = logging.getLogger("gateway")

LOCK_SECONDS = 2
_KEPT_HEADERS = ("content-type", "accept", "if-match", "idempotency-key")
"""The key as well, as MIFOS gets it: what it perhaps has must not come again with another."""


@dataclass(frozen=True, slots=True)
class Write:
    """What is known of a call that writes, besides what goes on the wire."""

    consumer: str | None  # None: the code of this very project
    key: str  # the caller's, or one of ours; "" without
    is_given: bool  # the caller's
    identity: str
    order_key: str
    order: str
    preference: Preference
    deferred: Deferred | None  # who takes it for later
    request_id: str


def write_of(
    method: str,
    target: Target,
    *,
    client: str,
    consumer: str | None,
    key: str | None,
    order_key: str | None,
    preference: Preference = NONE,
    strategy: Deferred | None = None,
    content_type: str = "",
    request_id: str = "",
) -> Write | None:
    """None of a call that only reads. `strategy`: which the caller's code, or the breaker, has for it.

    Raises InvalidIdempotencyKey and InvalidOrderKey.
    """
    if not rules.is_write(method, target):
        return None
    if key is not None:
        idempotency.check(key, raw=conf.gateway().raw_idempotency_keys)
    deferred = rules.deferred_of(method, target, content_type=content_type)
    if deferred is not None and not (preference.asked or deferred.automatic):
        deferred = None
    if strategy is not None and (
        deferred is not None or rules.allows(strategy, method, target, content_type=content_type)
    ):
        deferred = deferred or strategy
    is_own = order_key is not None
    shown = orders.checked(order_key) if order_key is not None else orders.default_key(target)
    chosen = key or (uuid.uuid4().hex if deferred else "")
    identity = idempotency.identity(chosen, consumer=consumer or "", client=client, method=method, target=target)
    return Write(
        consumer=consumer,
        key=chosen,
        is_given=key is not None,
        identity=identity if chosen else "",
        order_key=shown,
        order=orders.of(shown, client=client, consumer=consumer or "", is_own=is_own),
        preference=preference,
        deferred=deferred,
        request_id=request_id,
    )


def with_write(call: Call, write: Write | None) -> Call:
    """The call with what is known of it; and with a key of ours if it has none and may be sent again later."""
    if write is None:
        return call
    headers = call.headers
    if write.key and not write.is_given:  # as it goes when the caller repeats it with the key that was shown
        sent = write.key if conf.gateway().raw_idempotency_keys else write.identity
        headers = {**headers, "Idempotency-Key": sent}
    return replace(call, headers=headers, write=write)


def admit(call: Call) -> requests.Response | None:
    """The answer to a write that is not to go to MIFOS now; None: it is.

    Raises IdempotencyKeyReused, DeferredAhead, OutboxUnavailable and AcceptanceUnknown. May open a database connection.
    """
    write = call.write
    if write is None:
        return None
    if write.is_given and (known := _known(call, write)) is not None:
        return known
    if write.order and (write.deferred is not None or keeps_order()):
        try:
            with turnstile:
                first = desk.ahead(breaker_conf.namespace(), conf.tenant(), write.order).first()
        except DATABASE_AWAY:
            raise OutboxUnavailable from None
        if first is not None:
            if write.deferred is None:
                is_own = first.consumer_id == write.consumer
                raise DeferredAhead(write.order_key, location(first.uid) if is_own else None)
            return _accept_now(call)
    if write.deferred is not None and write.preference.at_once:
        return _accept_now(call)
    if write.is_given and (known := _known(call, write, is_sent=True)) is not None:
        return known
    return None


def keeps_order() -> bool:
    """Whether what is not to be deferred waits as well."""
    return (rules.any_named() or fallbacks.defers()) and not conf.gateway().deferred_let_direct_pass


def accept(call: Call, *, perhaps_sent: bool = False, admitted: bool = False) -> requests.Response:
    """202, once the request is in the database; or of the one that was accepted with this key before.

    `admitted`: it was to go to MIFOS. Another call with its key may have gone there before it or beside it.
    Raises IdempotencyKeyReused, AcceptanceUnknown, and the database's errors when it was not accepted.
    """
    write = call.write
    assert write is not None
    assert write.deferred is not None
    with turnstile:
        return _accept(call, write, write.deferred, perhaps_sent=perhaps_sent, admitted=admitted)


def _accept(
    call: Call, write: Write, deferred: Deferred, *, perhaps_sent: bool, admitted: bool, again: bool = False
) -> requests.Response:
    """`again`: a commit broke off. The key's lock waits for it where it is still under way, and then there is a row, or
    none."""
    is_written = False
    try:
        with transaction.atomic():
            if again and connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            used = _claimed(call, write)
            row = _of_key(write)
            if row is None:
                others = used.calls - int(admitted and write.is_given)
                row = _row(call, write, deferred, failed=perhaps_sent)
                if perhaps_sent or others > 0:
                    row.perhaps_sent, row.key_since = True, used.created_at
                    row.expires_at = min(row.expires_at, desk.forgets_at(used.created_at))
                row.save(force_insert=True)
            entry = desk.entry(row)
            is_written = True  # and then the commit
    except DATABASE_AWAY:
        if connection.in_atomic_block or not (is_written or again):  # the caller's own transaction, or nothing was done
            raise
        if again:
            raise AcceptanceUnknown(write.key) from None
        try:
            connection.close()
        except DATABASE_AWAY:
            raise AcceptanceUnknown(write.key) from None
        return _accept(call, write, deferred, perhaps_sent=perhaps_sent, admitted=admitted, again=True)
    return _answered(entry, row, write)


def location(uid: uuid.UUID) -> str:
    return f"{get_script_prefix()}api/v1/deferred-requests/{uid}"


def _accept_now(call: Call) -> requests.Response:
    try:
        return accept(call)
    except DATABASE_AWAY as error:
        raise OutboxUnavailable from error


def _row(call: Call, write: Write, deferred: Deferred, *, failed: bool) -> DeferredRequest:
    now, lives = clock.now(), timedelta(seconds=deferred.seconds)
    return DeferredRequest(
        namespace=breaker_conf.namespace(),
        tenant=conf.tenant(),
        consumer_id=write.consumer,
        client=call.user,
        breaker=call.breaker,
        method=call.method,
        target=call.target,
        order_key=write.order_key,
        order=write.order,
        idempotency_key=write.key,
        identity=write.identity,
        request_id=write.request_id,
        payload=sealed(call.headers, call.body),
        failures=int(failed),
        created_at=now,
        time_to_live=lives,
        expires_at=now + lives,
        due_at=now + timedelta(seconds=back_off(1) if failed else 0),
    )


def sealed(headers: Mapping[str, str], body: bytes | None) -> bytes:
    kept = {name: value for name, value in headers.items() if name.lower() in _KEPT_HEADERS}
    packed = None if body is None else base64.b64encode(body).decode()
    return vault.seal(json.dumps({"headers": kept, "body": packed}).encode())


def unsealed(payload: bytes | memoryview) -> tuple[dict[str, str], bytes | None]:
    """Raises vault.Unreadable."""
    found = json.loads(vault.unseal(bytes(payload)))
    return found["headers"], None if found["body"] is None else base64.b64decode(found["body"])


def _known(call: Call, write: Write, *, is_sent: bool = False) -> requests.Response | None:
    """Of the deferred request of this key, if there is one. Raises IdempotencyKeyReused.

    `is_sent`: the call is about to go to MIFOS, unless there is one. That is noted before it goes, for who sends it may
    die; and under the key's lock, so that a request that is accepted meanwhile knows of it.
    """
    try:
        with turnstile:
            row = _noted(call, write) if is_sent else _looked_up(call, write)
            return None if row is None else _answer(row, write)
    except DATABASE_AWAY as error:
        # MIFOS knows the key all the same, and does nothing twice; only another body is not found out.
        log.warning("Keys that were used cannot be looked up (%s)", type(error).__name__)
        return None


def _looked_up(call: Call, write: Write) -> DeferredRequest | None:
    used = UsedKey.objects.filter(namespace=breaker_conf.namespace(), identity=write.identity).first()
    if used is None:
        return None  # nor a request; one that is there a moment later may be of another body
    _refuse_other_body(used, call)
    return _of_key(write)


def _noted(call: Call, write: Write) -> DeferredRequest | None:
    with transaction.atomic():
        used = _claimed(call, write)
        if (row := _of_key(write)) is None:
            UsedKey.objects.filter(pk=used.pk).update(calls=F("calls") + 1)
        return row


def _claimed(call: Call, write: Write) -> UsedKey:
    """The key, ours until the transaction ends. Raises IdempotencyKeyReused."""
    used, is_new = UsedKey.objects.select_for_update().get_or_create(
        namespace=breaker_conf.namespace(),
        identity=write.identity,
        defaults={"body_digest": vault.digests(call.body or b"")[0], "created_at": clock.now()},
    )
    if not is_new:
        _refuse_other_body(used, call)
    return used


def _refuse_other_body(used: UsedKey, call: Call) -> None:
    if used.body_digest not in vault.digests(call.body or b""):
        raise IdempotencyKeyReused


def _of_key(write: Write) -> DeferredRequest | None:
    """Raises IdempotencyKeyReused: where tenants share a namespace, what one is sent was not accepted for the other."""
    row = DeferredRequest.objects.filter(namespace=breaker_conf.namespace(), identity=write.identity).first()
    if row is not None and row.tenant != conf.tenant():
        raise IdempotencyKeyReused("for another tenant")
    return row


def _answer(row: DeferredRequest, write: Write) -> requests.Response:
    return _answered(desk.entry(row), row, write)


def _answered(entry: dict[str, Any], row: DeferredRequest, write: Write) -> requests.Response:
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Location": location(row.uid),
        "Idempotency-Key": row.idempotency_key,
        fallbacks.HEADER: Deferred.provenance,
    }
    if write.preference.asked:
        headers["Preference-Applied"] = str(write.preference)
    made: Any = answer_of(202, json.dumps(entry).encode(), headers)
    made.provenance = Deferred.provenance
    return made  # type: ignore[no-any-return]
