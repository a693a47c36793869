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

from django.db import IntegrityError, connection, transaction
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

_KEPT_HEADERS = ("content-type", "accept", "if-match")
Status = DeferredRequest.Status


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
    if write.key and not write.is_given:
        headers = {**headers, "Idempotency-Key": write.identity}
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
    if write.order and keeps_order():
        try:
            with turnstile:
                first = desk.ahead(breaker_conf.namespace(), write.order).first()
        except DATABASE_AWAY:
            raise OutboxUnavailable from None
        if first is not None:
            if write.deferred is None:
                raise DeferredAhead(write.order_key, location(first.uid))
            return _accept_now(call)
    if write.deferred is not None and write.preference.at_once:
        return _accept_now(call)
    return None


def keeps_order() -> bool:
    return rules.any_named() and not conf.gateway().deferred_let_direct_pass


def accept(call: Call, *, perhaps_sent: bool = False) -> requests.Response:
    """202, once the request is in the database; or of the one that was accepted with this key before.

    Raises IdempotencyKeyReused, AcceptanceUnknown, and the database's errors when it was not accepted.
    """
    write = call.write
    assert write is not None
    assert write.deferred is not None
    with turnstile:
        row = _row(call, write, write.deferred, perhaps_sent=perhaps_sent)
        try:
            with transaction.atomic():
                row.save(force_insert=True)
                if not write.is_given:
                    _remember(write, call.body)
                place = desk.position(row)
        except IntegrityError:
            return _answer(_same(row, call), write)
        except DATABASE_AWAY:
            if connection.in_atomic_block:  # the caller's own transaction, which is lost as a whole
                raise
            return _answer(_found_again(row), write)
    return _answered(desk.entry(row, attempts=(), place=place), row, write)


def _same(row: DeferredRequest, call: Call) -> DeferredRequest:
    """The one that was accepted under this key a moment ago, or long ago. Raises IdempotencyKeyReused."""
    found = DeferredRequest.objects.get(namespace=row.namespace, identity=row.identity)
    try:
        is_same = unsealed(found.payload)[1] == call.body
    except vault.Unreadable:
        is_same = True  # the key that is known stands for the body: `_known` has compared them
    if not is_same:
        raise IdempotencyKeyReused
    return found


def _found_again(row: DeferredRequest) -> DeferredRequest:
    """Whether it was accepted, after the connection broke off: perhaps as it was told so."""
    try:
        connection.close()
        found = DeferredRequest.objects.filter(namespace=row.namespace, identity=row.identity).first()
    except DATABASE_AWAY:
        raise AcceptanceUnknown(row.idempotency_key) from None
    if found is None:
        raise OutboxUnavailable
    return found


def location(uid: uuid.UUID) -> str:
    return f"{get_script_prefix()}api/v1/deferred-requests/{uid}"


def _accept_now(call: Call) -> requests.Response:
    try:
        return accept(call)
    except DATABASE_AWAY as error:
        raise OutboxUnavailable from error


def _row(call: Call, write: Write, deferred: Deferred, *, perhaps_sent: bool) -> DeferredRequest:
    now = clock.now()
    return DeferredRequest(
        namespace=breaker_conf.namespace(),
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
        perhaps_sent=perhaps_sent,
        failures=int(perhaps_sent),
        created_at=now,
        expires_at=now + timedelta(seconds=deferred.seconds),
        due_at=now + timedelta(seconds=back_off(1) if perhaps_sent else 0),
    )


def sealed(headers: Mapping[str, str], body: bytes | None) -> bytes:
    kept = {name: value for name, value in headers.items() if name.lower() in _KEPT_HEADERS}
    packed = None if body is None else base64.b64encode(body).decode()
    return vault.seal(json.dumps({"headers": kept, "body": packed}).encode())


def unsealed(payload: bytes | memoryview) -> tuple[dict[str, str], bytes | None]:
    """Raises vault.Unreadable."""
    found = json.loads(vault.unseal(bytes(payload)))
    return found["headers"], None if found["body"] is None else base64.b64decode(found["body"])


def _known(call: Call, write: Write) -> requests.Response | None:
    """Of the deferred request of this key, if there is one. Raises IdempotencyKeyReused."""
    namespace = breaker_conf.namespace()
    try:
        with turnstile:
            used = UsedKey.objects.filter(namespace=namespace, identity=write.identity).first()
            if used is None:
                try:
                    with transaction.atomic():
                        _remember(write, call.body)
                except IntegrityError:
                    used = UsedKey.objects.get(namespace=namespace, identity=write.identity)
            if used is None:
                return None
            if used.body_digest not in vault.digests(call.body or b""):
                raise IdempotencyKeyReused
            found = DeferredRequest.objects.filter(namespace=namespace, identity=write.identity).first()
            return None if found is None else _answer(found, write)
    except DATABASE_AWAY as error:
        # MIFOS knows the key all the same, and does nothing twice; only another body is not found out.
        log.warning("Keys that were used cannot be looked up (%s)", type(error).__name__)
        return None


def _remember(write: Write, body: bytes | None) -> None:
    UsedKey.objects.create(
        namespace=breaker_conf.namespace(),
        identity=write.identity,
        body_digest=vault.digests(body or b"")[0],
        created_at=clock.now(),
    )


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
