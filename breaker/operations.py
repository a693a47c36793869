"""What an operator can do, once, behind button, endpoint and command alike; each act leaves a row."""

from __future__ import annotations

import difflib
import logging
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breaker import conf, django_log, listeners, queries
from breaker.engine import desk, events, machine
from breaker.engine.events import Labels
from breaker.engine.machine import Act, Action, Snapshot, Standing
from breaker.engine.policy import NAME_PATTERN, Policy
from breaker.engine.stores.base import StoreError
from breaker.models import Breaker, OperatorAct
from breaker.registry import registry

log = logging.getLogger("breaker")

ACTIONS = tuple(action.value for action in Action)
LONGEST_SECONDS = 366 * 24 * 3600
LONGEST_REASON = 2000
LONGEST_ACTOR = 200
NAMED = 5
"""Breakers that are named, the nearest, to who asks for one that is not there."""
_UNKEEPABLE = re.compile("[\0\ud800-\udfff]")
"""No database holds half a character, nor PostgreSQL NUL. A command's line that is no UTF-8 brings the former."""

TITLES = {
    "reset": _("Reset"),
    "open": _("Force open"),
    "close": _("Force closed"),
    "release": _("Release"),
    "disable": _("Disable"),
    "enable": _("Enable"),
}


class UnknownBreaker(LookupError):
    """A name that no breaker bears; the message says which is closest, and which others are near."""


class ActRefused(ValueError):
    """An act that lacks something or cannot be; the message names the field, the value and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One act on one breaker."""

    breaker: str
    row: OperatorAct
    error: str = ""
    """Why it was not done; or, where the row says that it was, what could not be written about it."""
    overtaken: bool = False
    """Not done, because the breaker was no longer what the operator saw."""
    went: str = ""
    """What was shown before and after: CLOSED → OPEN, forced open."""

    def but(self, problem: str) -> Done:
        return replace(self, error="; ".join(filter(None, [self.error, problem])))


def act(
    names: Sequence[str],
    action: str,
    *,
    actor: str,
    source: str,
    reason: str,
    for_seconds: float | None = None,
    over: Mapping[str, str] | None = None,
    user: Any = None,
) -> list[Done]:
    """Do `action` (reset, open, close, release, enable or disable) to each of `names`, in every worker.

    `for_seconds`: how long a force, a disable or an enable lasts; None: until it is released.
    `over`: breaker to what was `desk.seen` of it; one that has changed since is left as it is.
    `user`: the actor's account, for Django's log.
    Raises ActRefused and UnknownBreaker before anything is done, and the database's error where it is away before the
    first act. A breaker whose act failed is told in its Done.
    """
    said: dict[str, Any] = {
        "action": action,
        "actor": actor[:LONGEST_ACTOR],
        "source": source,
        "reason": reason,
        "for_seconds": for_seconds,
    }
    _check(action, said["actor"], reason, for_seconds)
    labels = check_names(names)
    done: list[Done] = []
    for name in dict.fromkeys(names):
        seen = over.get(name, "") if over is not None else None
        try:
            one = _act_on(name, labels[name], said, seen)
        except DatabaseFailure as error:
            if not done:
                raise
            row = OperatorAct(breaker=name, **said, status=OperatorAct.Status.FAILED)
            one = Done(breaker=name, row=row, error=f"the database, which keeps who did it, is away ({error})")
        done.append(one.but(_log_entry(one, user)))
    return done


def _check(action: str, actor: str, reason: str, for_seconds: float | None) -> None:
    if action not in ACTIONS:
        raise ActRefused(f"action={action!r}: one of {', '.join(ACTIONS)} is needed")
    check_words(actor, reason)
    if for_seconds is not None:
        if action not in _LASTING:
            raise ActRefused(f"for_seconds={for_seconds!r}: {action} has no duration; leave it out")
        if isinstance(for_seconds, bool) or not 0 < for_seconds <= LONGEST_SECONDS:
            raise ActRefused(f"for_seconds={for_seconds!r}: above 0 and at most {LONGEST_SECONDS} is needed")


def check_words(actor: str, reason: str) -> None:
    """Who acts and why, of any act. Raises ActRefused."""
    if not reason.strip():
        raise ActRefused("reason: say why, for those who read it later")
    if len(reason) > LONGEST_REASON:
        raise ActRefused(f"reason: {len(reason)} characters; say it in {LONGEST_REASON}")
    for field, text in (("actor", actor), ("reason", reason)):
        if found := _UNKEEPABLE.search(text):
            raise ActRefused(f"{field}: holds {found[0]!r}, which databases cannot keep; leave it out")


def check_names(names: Sequence[str]) -> dict[str, Labels]:
    """Raises UnknownBreaker for the first name that no breaker bears; only then are all breakers read. The labels."""
    possible = [name for name in names if NAME_PATTERN.fullmatch(name)]
    known = {entry.name: entry.labels for entry in queries.status(possible).entries}
    for name in names:
        if name not in known:
            raise UnknownBreaker(_unknown(name))
    return known


def _unknown(name: str) -> str:
    status = queries.status()
    known = [entry.name for entry in status.entries]
    nearest = difflib.get_close_matches(name, known, n=NAMED, cutoff=0.0)
    closest = f"; the closest is {nearest[0]}" if nearest else ""
    few = known if len(known) <= NAMED else [*nearest, f"{len(known) - NAMED} more"]
    away = registry.sync.shared is not None and not status.shared
    unseen = " here; the shared store is away, so other processes' are not seen" if away else ""
    return f"no breaker {name!r}{closest}; there are {', '.join(few) or 'none'}{unseen}"


def _act_on(name: str, labels: Labels, said: Mapping[str, Any], over: str | None) -> Done:
    row = _record(act_id=secrets.token_hex(16), namespace=conf.namespace(), breaker=name, **said)
    wanted = Act(
        id=row.act_id,
        action=Action(row.action),
        for_ms=None if row.for_seconds is None else math.ceil(row.for_seconds * 1000),
        actor=row.actor,
        source=row.source,
        reason=row.reason,
    )
    try:
        if registry.sync.shared is None:
            raise StoreError(f"{conf.no_store()}: an act would reach this process alone")
        before, after = desk.act(registry.sync, name, wanted, _event(wanted), over=over)
    except (StoreError, desk.Overtaken) as error:
        row.status, row.error = OperatorAct.Status.FAILED, str(error)
        failed = Done(breaker=name, row=row, error=str(error), overtaken=isinstance(error, desk.Overtaken))
        return failed.but(_save(row))
    row.status = OperatorAct.Status.APPLIED
    row.applied_at = _moment(after.act_at)
    row.until = row.applied_at + timedelta(seconds=row.for_seconds) if row.for_seconds is not None else None
    stood, stands = _standing(name, before, after.act_at), _standing(name, after, after.act_at)
    row.state_before, row.state_after = stood.state.value, stands.state.value
    done = Done(breaker=name, row=row, went=f"{_shown(stood)} → {_shown(stands)}").but(_save(row))
    listeners.tell(
        events.Acted(
            breaker=name,
            labels=labels,
            operation=row.action,
            before=stood.state,
            after=stands.state,
            actor=row.actor,
            source=row.source,
            reason=row.reason,
            at=after.act_at,
            until=_milliseconds(row.until) if row.until else None,
        )
    )
    return done


def _record(**fields: Any) -> OperatorAct:
    """The row, committed: an act must not outlive a rollback of it."""
    with transaction.atomic(durable=True):
        return OperatorAct.objects.create(**fields)


def _save(row: OperatorAct) -> str:
    """Say in the row how it went; what went wrong with that, else nothing."""
    try:
        row.save()
    except DatabaseFailure as error:
        log.exception("the act %s on %s is %s, but its row could not be updated", row.action, row.breaker, row.status)
        return f"its row still says pending: {error}"
    return ""


def _standing(name: str, snapshot: Snapshot, at: int) -> Standing:
    circuit = registry.circuits.get(name)
    return machine.standing(circuit.policy if circuit else Policy(), snapshot, at)


def _shown(standing: Standing) -> str:
    """CLOSED, disabled: the state with what an operator has said over it."""
    marks = [f"forced {standing.forced.value}"] if standing.forced else []
    return ", ".join([standing.state.value, *([] if standing.enabled else ["disabled"]), *marks])


def _log_entry(done: Done, user: Any) -> str:
    """What Django's history shows of an act, whoever did it; what went wrong with that, else nothing."""
    row = done.row
    went = done.went or f"not done: {done.error}"
    message = f"{TITLES[row.action]}{_how_long(row)}: {row.reason} ({went}); by {row.actor}, {row.get_source_display()}"
    name = done.breaker
    return django_log.note(message, user=user, source=row.source, about=Breaker, object_id=name, object_repr=name)


def _how_long(row: OperatorAct) -> str:
    if row.action not in _LASTING:
        return ""
    if row.for_seconds is None:
        return ", until released"
    return f", until {row.until:%Y-%m-%d %H:%M:%S} UTC" if row.until else f", for {row.for_seconds:g} s"


def _event(wanted: Act) -> dict[str, str | None]:
    return {
        "kind": "operation",
        "operation": wanted.action.value,
        "actor": wanted.actor,
        "source": wanted.source,
        "reason": wanted.reason,
    }


_LASTING = (Action.OPEN.value, Action.CLOSE.value, Action.DISABLE.value, Action.ENABLE.value)
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
