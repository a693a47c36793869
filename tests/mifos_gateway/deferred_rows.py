"""Deferred requests in the table as they may stand there, without the calls that brought them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from breaker import conf
from mifos_gateway import vault
from mifos_gateway.models import Consumer, DeferredAttempt, DeferredRequest
from mifos_gateway.outbox import clock, intake

BODY = b'{"firstname": "Asha", "accountNo": "4711"}'


def deferred(order: str = "", *, status: str = "queued", ago: float = 0, body: bytes | None = BODY, **more: Any) -> Any:
    """A row; `ago`: seconds since it was accepted."""
    accepted = clock.now() - timedelta(seconds=ago)
    answer = more.pop("response", None)
    given: dict[str, Any] = {
        "namespace": conf.namespace(),
        "consumer": Consumer.objects.get_or_create(name=more.pop("consumer", "shop"))[0],
        "client": "maker",
        "breaker": "MIFOS-Maker-post",
        "method": "POST",
        "target": f"{order}/transactions" if order else "clients",
        "order_key": order,
        "order": order and f"maker {order}",
        "idempotency_key": uuid.uuid4().hex,
        "identity": uuid.uuid4().hex,
        "payload": intake.sealed({"Content-Type": "application/json"}, body),
        "status": status,
        "created_at": accepted,
        "time_to_live": timedelta(hours=1),
        "expires_at": accepted + timedelta(hours=1),
        "due_at": accepted,
        "ended_at": None if status in ("queued", "replaying") else accepted,
    }
    if answer is not None:
        given |= {"response_status": answer[0], "response": vault.seal(answer[1])}
    return DeferredRequest.objects.create(**given | more)


def attempted(row: DeferredRequest, *outcomes: str, **more: Any) -> None:
    for outcome in outcomes:
        DeferredAttempt.objects.create(request=row, at=clock.now(), outcome=outcome, **{"status": 409, **more})
