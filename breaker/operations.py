"""What an operator can do, once, behind button, endpoint and command alike; each act leaves a row."""

from __future__ import annotations

import difflib
import logging
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from breaker import conf, queries
from breaker.engine import desk, machine
from breaker.engine.machine import Act, Action, Snapshot
from breaker.engine.policy import Policy
from breaker.engine.stores.base import StoreError
from breaker.models import OperatorAct
from breaker.registry import registry

log = logging.getLogger("breaker")

ACTIONS = tuple(action.value for action in Action)
LONGEST_SECONDS = 366 * 24 * 3600


class UnknownBreaker(LookupError):
    """A name that no breaker bears; the message says which there are, and which is closest."""


class ActRefused(ValueError):
    """An act that lacks something or cannot be; the message names the field, the value and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One act on one breaker."""

    breaker: str
    row: OperatorAct
    error: str = ""


def act(
    names: Sequence[str],
    action: str,
    *,
    actor: str,
    source: str,
    reason: str,
    for_seconds: float | None = None,
) -> list[Done]:
    """Do `action` (reset, open, close, release, enable or disable) to each of `names`, in every worker.

    `for_seconds`: how long a force, a disable or an enable lasts; None: until it is released.
    Raises ActRefused and UnknownBreaker before anything is done. A breaker whose act failed is told in its Done.
    """
    wanted = _check(action, reason, for_seconds)
    check_names(names)
    return [_act_on(name, wanted, actor, source, reason, for_seconds) for name in dict.fromkeys(names)]


def _check(action: str, reason: str, for_seconds: float | None) -> Action:
    if action not in ACTIONS:
        raise ActRefused(f"action={action!r}: one of {', '.join(ACTIONS)} is needed")
    if not reason.strip():
        raise ActRefused("reason: say why, for those who read it later")
    if for_seconds is not None:
        if Action(action) in (Action.RESET, Action.RELEASE):
            raise ActRefused(f"for_seconds={for_seconds!r}: {action} has no duration; leave it out")
        if not math.isfinite(for_seconds) or not 0 < for_seconds <= LONGEST_SECONDS:
            raise ActRefused(f"for_seconds={for_seconds!r}: above 0 and at most {LONGEST_SECONDS} is needed")
    return Action(action)


def check_names(names: Sequence[str]) -> None:
    """Raises UnknownBreaker for the first name that no breaker bears."""
    status = queries.status()
    known = [entry.name for entry in status.entries]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            closest = f"; the closest is {close[0]}" if close else ""
            away = registry.sync.shared is not None and not status.shared
            unseen = " here; the shared store is away, so other processes' are not seen" if away else ""
            raise UnknownBreaker(f"no breaker {name!r}{closest}; there are {', '.join(known) or 'none'}{unseen}")


def _act_on(name: str, action: Action, actor: str, source: str, reason: str, for_seconds: float | None) -> Done:
    row = _record(
        act_id=secrets.token_hex(16),
        namespace=conf.namespace(),
        breaker=name,
        action=action.value,
        actor=actor[:200],
        source=source,
        reason=reason,
        for_seconds=for_seconds,
    )
    wanted = Act(
        id=row.act_id,
        action=action,
        for_ms=None if for_seconds is None else math.ceil(for_seconds * 1000),
        actor=actor,
        source=source,
        reason=reason,
    )
    try:
        if registry.sync.shared is None:
            raise StoreError("no shared store is configured (REDIS_URL): an act would reach this process alone")
        before, after = desk.act(registry.sync, name, wanted, _event(wanted))
    except StoreError as error:
        row.status, row.error = OperatorAct.Status.FAILED, str(error)
        row.save(update_fields=["status", "error"])
        return Done(breaker=name, row=row, error=str(error))
    problem = _mark_applied(row, before, after, for_seconds)
    log.warning(
        "Circuit breaker %s: %s by %s (%s): %s",
        name,
        action.value,
        actor,
        source,
        reason,
        extra={"breaker": name, "operation": action.value, "actor": actor, "source": source, "reason": reason},
    )
    return Done(breaker=name, row=row, error=problem)


def _record(**fields: Any) -> OperatorAct:
    """The row, committed: an act must not outlive a rollback of it."""
    with transaction.atomic(durable=True):
        return OperatorAct.objects.create(**fields)


def _mark_applied(row: OperatorAct, before: Snapshot, after: Snapshot, for_seconds: float | None) -> str:
    """Say in the row that the act holds; what went wrong with that, else nothing."""
    row.status = OperatorAct.Status.APPLIED
    row.applied_at = _moment(after.act_at)
    row.until = row.applied_at + timedelta(seconds=for_seconds) if for_seconds is not None else None
    row.state_before, row.state_after = _shown(row.breaker, before), _shown(row.breaker, after)
    try:
        row.save(update_fields=["status", "applied_at", "until", "state_before", "state_after"])
    except DatabaseError as error:
        log.exception("the act %s on %s holds, but its row could not be updated", row.action, row.breaker)
        return f"the act holds, but its row still says pending: {error}"
    return ""


def _shown(name: str, snapshot: Snapshot) -> str:
    circuit = registry.circuits.get(name)
    policy = circuit.policy if circuit else Policy()
    return machine.standing(policy, snapshot, snapshot.act_at).state.value


def _event(wanted: Act) -> dict[str, str | None]:
    return {
        "kind": "operation",
        "operation": wanted.action.value,
        "actor": wanted.actor,
        "source": wanted.source,
        "reason": wanted.reason,
    }


_FORCES = (Action.OPEN.value, Action.CLOSE.value, Action.RELEASE.value, Action.RESET.value)
_SWITCHES = (Action.DISABLE.value, Action.ENABLE.value, Action.RESET.value)


def apply_again(names: Sequence[str]) -> None:
    """Bring back what operators said of circuits that the shared store has lost.

    The engine calls it in a thread of its own, and again after a while when it raises.
    """
    try:
        for row in _latest_acts(names):
            _apply_again(row)
    finally:
        connection.close()


def _latest_acts(names: Sequence[str]) -> list[OperatorAct]:
    """The acts that would still hold: the latest on the force and the latest on the switch of each breaker."""
    now = timezone.now()
    latest: dict[tuple[str, bool], OperatorAct] = {}
    applied = OperatorAct.objects.filter(
        status=OperatorAct.Status.APPLIED, namespace=conf.namespace(), breaker__in=names
    )
    for row in applied.order_by("applied_at"):
        if row.action in _FORCES:
            latest[row.breaker, True] = row
        if row.action in _SWITCHES:
            latest[row.breaker, False] = row
    holding = [row for row in latest.values() if row.until is None or row.until > now]
    unique = {row.pk: row for row in holding}
    return sorted(unique.values(), key=lambda row: row.applied_at or row.created_at)


def _apply_again(row: OperatorAct) -> None:
    if row.applied_at is None:
        return
    wanted = Act(
        id=row.act_id,
        action=Action(row.action),
        until=_milliseconds(row.until) if row.until else None,
        act_at=_milliseconds(row.applied_at),
        actor=row.actor,
        source=row.source,
        reason=row.reason,
    )
    desk.act(registry.sync, row.breaker, wanted, {**_event(wanted), "again": "yes"})


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
